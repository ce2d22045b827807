"""The connection: replies in order, errors in their place, and what becomes of those who wait when it ends."""

from __future__ import annotations

import asyncio

import pytest
import redis
from hiredis import ReplyError

from tests.conftest import StoreServers
from tests.redis.servers import linked, listening
from tests.storage.contract import SEEDER, STARTED, announce, ask
from tests.support.servers import StoreServer
from tests.support.stores import SHORT, make_redis_store, redis_store
from tests.support.waiting import PATIENCE
from udptracker.core.swarm import StoreError, StoreUnavailable
from udptracker.redis.greeting import connect
from udptracker.redis.link import Timeouts
from udptracker.redis.url import parse_broker
from udptracker.storage.redis.layout import command
from udptracker.storage.redis.store import RedisStore


async def until_served(store: RedisStore) -> None:
    """Return when an announce is answered."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await ask(store, announce(1, SEEDER, STARTED))
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


class TestReplies:
    async def test_come_to_their_own_write_in_order(self, valkey: StoreServer) -> None:
        async with linked(valkey.port) as link:
            futures = [
                link.send(b"".join(command(b"ECHO", b"%d-%d" % (at, n)) for n in range(at)), at) for at in range(50)
            ]
            for at, replies in enumerate(await asyncio.gather(*futures)):
                assert replies == [b"%d-%d" % (at, n) for n in range(at)]
                assert not replies.failed

    async def test_that_are_large_arrive_whole(self, valkey: StoreServer) -> None:
        async with linked(valkey.port) as link:
            text = bytes(range(256)) * 20_000
            assert await link.call("ECHO", text) == text

    async def test_that_are_errors_stand_in_their_place(self, valkey: StoreServer) -> None:
        async with linked(valkey.port) as link:
            commands = command(b"SET", b"a", b"x") + command(b"INCR", b"a") + command(b"GET", b"a")
            failing = link.send(commands, 3)
            fine = link.send(command(b"PING"), 1)
            first, error, last = replies = await failing
            assert (first, last, replies.failed) == (b"OK", b"x", True)
            assert isinstance(error, ReplyError)
            assert not (await fine).failed
            with pytest.raises(ReplyError, match="not an integer"):
                await link.call("INCR", "a")

    async def test_nobody_waits_for_do_no_harm(self, valkey: StoreServer) -> None:
        async with linked(valkey.port) as link:
            link.send(command(b"ECHO", b"abandoned"), 1).cancel()
            assert await link.call("ECHO", "wanted") == b"wanted"


class TestEnds:
    async def test_a_killed_server_fails_all_that_wait(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with linked(server.port) as link:
            server.pause()
            waiting = [link.send(command(b"PING"), 1) for _ in range(3)]
            server.kill()
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, StoreUnavailable)
            with pytest.raises(StoreUnavailable):
                await link.call("PING")

    async def test_a_silent_server_counts_as_dead_after_the_read_timeout(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with linked(server.port, Timeouts(2.0, 0.3, 2.0)) as link:
            server.pause()
            with pytest.raises(StoreUnavailable, match=r"no reply for 0\.3 s"):
                await link.call("PING")

    async def test_a_server_that_does_not_read_counts_as_dead_after_the_write_timeout(
        self, store_servers: StoreServers
    ) -> None:
        server = store_servers()
        async with linked(server.port, Timeouts(2.0, 20.0, 0.3)) as link:
            server.pause()
            with pytest.raises(StoreUnavailable, match=r"writing for 0\.3 s"):
                await link.call("ECHO", bytes(64 << 20))

    async def test_a_reply_cut_in_the_middle_fails_its_write(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(b"+PONG\r\n")
            await reader.read(1024)
            writer.write(b"+whole\r\n$10\r\nhal")
            writer.close()

        async with listening(serve) as port, linked(port) as link:
            with pytest.raises(StoreUnavailable):
                await link.send(command(b"PING") * 2, 2)

    async def test_what_is_not_redis_is_refused(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with listening(serve) as port:
            with pytest.raises(StoreUnavailable, match="protocol"):
                await connect(parse_broker("redis://x"), "127.0.0.1", port, SHORT)

    async def test_a_server_that_never_answers_is_given_up_after_the_connect_timeout(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with listening(serve) as port:
            with pytest.raises(StoreUnavailable, match=r"within 0\.2 s"):
                await connect(parse_broker("redis://x"), "127.0.0.1", port, Timeouts(0.2, 20.0, 20.0))


class TestStore:
    async def test_waits_for_a_server_that_is_not_there_yet(self, store_servers: StoreServers) -> None:
        server = store_servers()
        server.kill()
        store = make_redis_store(server.url)
        opening = asyncio.create_task(store.open())
        done, _ = await asyncio.wait({opening}, timeout=0.3)
        assert not done
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(opening, PATIENCE)
        await ask(store, announce(1, SEEDER, STARTED))
        await store.close()

    async def test_serves_again_after_a_restart(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with redis_store(server.url) as store:
            await ask(store, announce(1, SEEDER, STARTED))
            await asyncio.to_thread(server.restart)
            await until_served(store)

    async def test_serves_again_after_a_pause(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with redis_store(server.url, timeouts=Timeouts(0.5, 0.3, 0.3)) as store:
            server.pause()
            with pytest.raises(StoreUnavailable):
                await ask(store, announce(1, SEEDER, STARTED))
            server.resume()
            await until_served(store)

    async def test_refuses_a_server_that_is_too_old(self) -> None:
        answers = {b"INFO": b"$27\r\nredis_version:6.0.16\r\nx:y\r\n\r\n", b"PING": b"+PONG\r\n"}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1024):
                for name in (word for word in data.split(b"\r\n") if word in (*answers, b"TIME")):
                    writer.write(answers.get(name, b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n"))
            writer.close()

        async with listening(serve) as port:
            store = make_redis_store(f"redis://127.0.0.1:{port}")
            with pytest.raises(StoreError, match=r"6\.0\.16.*6\.2.*HRANDFIELD") as refusal:
                await asyncio.wait_for(store.open(), PATIENCE)
            assert not isinstance(refusal.value, StoreUnavailable)
            await store.close()


async def test_a_server_that_does_not_know_auth_repeats_no_password(store_servers: StoreServers) -> None:
    server = store_servers(config='rename-command AUTH ""\n')
    with server.client() as client, pytest.raises(redis.ResponseError, match="hunter2"):
        client.execute_command("AUTH", "hunter2")
    with pytest.raises(StoreUnavailable, match="refuses us: ERR unknown command") as refusal:
        await connect(parse_broker(f"redis://hunter2@127.0.0.1:{server.port}"), "127.0.0.1", server.port, SHORT)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
