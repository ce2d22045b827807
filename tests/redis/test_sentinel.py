"""The master that a sentinel names, and the one that it names when that is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conftest import StoreServers
from tests.redis.servers import listening
from tests.storage.contract import LEECHER, SEEDER, STARTED, announce, ask, scrape
from tests.support.sentinel import Watched, info
from tests.support.servers import wait_until_replicated
from tests.support.stores import SHORT, make_redis_store, redis_store
from tests.support.tls import Authority, tls_proxy
from tests.support.waiting import PATIENCE
from udptracker.core.swarm import StoreUnavailable
from udptracker.core.wire import SwarmStats
from udptracker.redis.sentinel import master_of
from udptracker.redis.url import parse_broker
from udptracker.storage.base import PeerStore


async def until_served(store: PeerStore) -> None:
    """Return when an announce is answered."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await ask(store, announce(2, LEECHER, STARTED))
            except StoreUnavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_the_store_follows_a_failover(store_servers: StoreServers) -> None:
    watched = await asyncio.to_thread(Watched, store_servers)
    async with redis_store(watched.url) as store:
        await ask(store, announce(1, SEEDER, STARTED))
        identity = await store.check()
        await asyncio.to_thread(wait_until_replicated, watched.master, watched.replica)
        watched.master.kill()
        await until_served(store)
        assert await scrape(store, 1) == [SwarmStats(1, 0, 1)]
        assert await store.check() != identity
        assert info(watched.replica, "replication")["role"] == "master"


async def test_a_master_that_became_a_replica_is_left(store_servers: StoreServers) -> None:
    """A failover on command kills nobody: the old master lives on and refuses writes."""
    watched = await asyncio.to_thread(Watched, store_servers)
    async with redis_store(watched.url) as store:
        await ask(store, announce(1, SEEDER, STARTED))
        await asyncio.to_thread(wait_until_replicated, watched.master, watched.replica)
        await asyncio.to_thread(watched.fail_over)
        with watched.master.client() as client:
            client.replicaof("127.0.0.1", watched.replica.port)  # as the sentinel does, in its time
        await until_served(store)
        with watched.replica.client() as client:
            assert client.hlen("IPv4") == 2


async def test_an_unknown_master_and_silent_sentinels_are_named(store_servers: StoreServers) -> None:
    master = store_servers()
    sentinel = store_servers(("--sentinel",), config=f"sentinel monitor main 127.0.0.1 {master.port} 1\n")
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/other"
    for each, says in ((url, "'other'"), ("redis+sentinel://127.0.0.1:1/main", "'main'")):
        with pytest.raises(StoreUnavailable, match=says):
            await master_of(parse_broker(each), SHORT)()
    store = make_redis_store(url)
    opening = asyncio.create_task(store.open())
    done, _ = await asyncio.wait({opening}, timeout=0.3)
    assert not done, "it waits for the master to be known"
    opening.cancel()
    await store.close()


async def test_sentinels_are_asked_over_tls_where_the_url_says_so(store_servers: StoreServers, tmp_path: Path) -> None:
    watched = await asyncio.to_thread(Watched, store_servers)
    authority = Authority(tmp_path / "authority")
    query = f"sentinel_password=watch&ssl_ca_certs={authority.path}"
    async with tls_proxy(watched.sentinel.port, authority.issue("server")) as port:
        broker = parse_broker(f"rediss+sentinel://s3cret@127.0.0.1:{port}/main/0?{query}")
        assert await master_of(broker, SHORT)() == ("127.0.0.1", watched.master.port)


async def test_no_password_goes_to_a_sentinel_without_tls(tmp_path: Path) -> None:
    said = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.set_result(await reader.read(4096))
        writer.close()

    authority = Authority(tmp_path / "authority")
    async with listening(serve) as port:
        query = f"sentinel_password=watch&ssl_ca_certs={authority.path}"
        with pytest.raises(StoreUnavailable):
            await master_of(parse_broker(f"rediss+sentinel://s3cret@127.0.0.1:{port}/main/0?{query}"), SHORT)()
    assert said.result().startswith(b"\x16\x03"), "a TLS handshake"
    assert b"watch" not in said.result()


@pytest.mark.parametrize("stale_first", [True, False])
async def test_the_sentinel_that_knows_the_latest_failover_is_believed(
    store_servers: StoreServers, stale_first: bool
) -> None:
    """One that was cut off names the former master for as long as it is."""
    watched = await asyncio.to_thread(Watched, store_servers)
    former = watched.master.port
    await asyncio.to_thread(watched.fail_over)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {b"AUTH": b"+OK\r\n", b"PING": b"+PONG\r\n"}
        state = b"*6\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$5\r\n%d\r\n$12\r\nconfig-epoch\r\n$1\r\n0\r\n"
        while data := await reader.read(1024):
            writer.write(answers.get(data.split(b"\r\n")[2], state % former))
        writer.close()

    async with listening(serve) as stale:
        ports = (stale, watched.sentinel.port) if stale_first else (watched.sentinel.port, stale)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        locate = master_of(parse_broker(f"redis+sentinel://{hosts}/main?sentinel_password=watch"), SHORT)
        async with asyncio.timeout(PATIENCE):
            while True:
                if await locate() == ("127.0.0.1", watched.replica.port):
                    break
                await asyncio.sleep(0.05)
        assert [await locate() for _ in range(5)] == [("127.0.0.1", watched.replica.port)] * 5


async def test_a_sentinel_that_tells_the_address_alone_is_enough(store_servers: StoreServers) -> None:
    watched = await asyncio.to_thread(Watched, store_servers)
    with watched.sentinel.client() as client:
        client.execute_command("ACL SETUSER meek on >pw -@all +ping +sentinel|get-master-addr-by-name")
    url = f"redis+sentinel://127.0.0.1:{watched.sentinel.port}/main?sentinel_username=meek&sentinel_password=pw"
    assert await master_of(parse_broker(url), SHORT)() == ("127.0.0.1", watched.master.port)


@pytest.mark.parametrize("reply", [b"$-1\r\n", b":1\r\n", b"*2\r\n$2\r\nip\r\n$1\r\nx\r\n", b"*1\r\n:1\r\n"])
async def test_what_is_no_sentinel_is_refused(reply: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(b"+PONG\r\n" if b"PING" in data else reply)
        writer.close()

    async with listening(serve) as port:
        with pytest.raises(StoreUnavailable, match=f"{port} answers what is no master"):
            await master_of(parse_broker(f"redis+sentinel://127.0.0.1:{port}/main"), SHORT)()
