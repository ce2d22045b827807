"""What servers permit: the user of docs/redis.md may do everything; what others may not do is said, or done without."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Daemons, StoreServers
from tests.redis.servers import listening
from tests.storage.contract import SEEDER, STARTED, Clock, StoreContract, announce, ask, hash_of, peer_of
from tests.support import servers
from tests.support.cluster import StoreCluster
from tests.support.servers import StoreServer
from tests.support.stores import ClockedRedisStore, redis_store, topology_of, until_connected
from tests.support.waiting import PATIENCE, eventually
from udptracker.core.swarm import IPV4, Role, StoreError, StoreUnavailable
from udptracker.storage.base import PeerStore
from udptracker.storage.redis.needs import acl_rules
from udptracker.storage.redis.store import RedisStore
from udptracker.storage.replayable import Entry, Pool

_PAGE = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
(_LINE,) = re.findall(r"^ACL SETUSER udptracker .*", _PAGE, re.MULTILINE)


def _let_in(server: StoreServer, line: str) -> str:
    """Make the user of an ACL line, and return where it finds the server."""
    with server.client() as client:
        client.execute_command(*line.split())
        client.execute_command("ACL", "LOG", "RESET")
    return f"redis://udptracker:password@127.0.0.1:{server.port}/0"


def _denials(server: StoreServer) -> list[str]:
    """What the server refused."""
    with server.client() as client:
        return [f"{entry['reason']} {entry['object']}" for entry in client.acl_log()]


@pytest.fixture(scope="module", params=[servers.valkey, servers.redis6], ids=["valkey", "redis6"])
def guarded(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    """A server that lets in the user of docs/redis.md."""
    with StoreServer(request.param()) as server:
        server.start()
        yield server


def test_the_documented_user_may_do_what_is_needed_and_no_more() -> None:
    assert f"ACL SETUSER udptracker reset on >password {acl_rules()}" == _LINE


class TestTheDocumentedUser(StoreContract):
    """The contract, and all that is done besides, without one refusal."""

    @pytest.fixture
    async def store(self, clock: Clock, guarded: StoreServer) -> AsyncIterator[PeerStore]:
        guarded.flush()
        async with redis_store(_let_in(guarded, _LINE), clock, remember_stops=60.0) as store:
            yield store
        assert _denials(guarded) == []

    async def test_may_do_what_a_store_does_that_was_away(self, store: ClockedRedisStore, clock: Clock) -> None:
        await _be_away_and_return(store, clock)

    async def test_may_connect_anew(self, store: ClockedRedisStore) -> None:
        connections = store.connections
        store._topology.drop_links("cut by the test")
        await until_connected(store._topology, connections + 1)
        await ask(store, announce(1, SEEDER, STARTED))


async def test_the_documented_user_may_do_everything_on_a_cluster(clock: Clock) -> None:
    with ExitStack() as stack:

        def start(arguments: tuple[str, ...]) -> StoreServer:
            server = stack.enter_context(StoreServer(servers.valkey(), arguments))
            server.start()
            return server

        cluster = await asyncio.to_thread(StoreCluster, start)
        for server in cluster.masters:
            _let_in(server, _LINE)
        url = cluster.url.replace("redis+cluster://", "redis+cluster://udptracker:password@")
        async with redis_store(url, clock, remember_stops=60.0) as store:
            assert isinstance(store, ClockedRedisStore)
            await _be_away_and_return(store, clock)
        assert [_denials(server) for server in cluster.masters] == [[], [], []]


async def _be_away_and_return(store: ClockedRedisStore, clock: Clock) -> None:
    await store.execute([announce(n, SEEDER, STARTED, info_hash=n) for n in range(20)])
    await store.check()
    await store.look()
    await store.raise_doubt(clock())
    await store.missing({Pool(IPV4, hash_of(99), Role.SEEDER): ()})
    entries = [
        Entry(IPV4, hash_of(n), peer_of(n + 50), Role(n % 2), n % 3 == 0, clock() + n, n % 2 == 0, n % 5 == 0)
        for n in range(30)
    ]
    assert (await store.replay(entries)).broken == []
    clock.advance(1000.0)
    await store.reap(clock() - 1)
    await store.totals()
    await store.ping()


class TestWithout:
    """Commands that a server refuses to a user with all others."""

    @pytest.mark.parametrize(
        ("rule", "says"),
        [
            ("+@all -@dangerous", "used without INFO"),
            ("+@all -info", "used without INFO"),
            ("+@all -time", "goes by its own clock"),
            ("+@all -client", "refuses to end it"),
        ],
    )
    async def test_what_is_not_needed_all_goes_on(
        self, store_server: StoreServer, rule: str, says: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = _let_in(store_server, f"ACL SETUSER udptracker reset on >password ~* {rule}")
        with caplog.at_level(logging.WARNING):
            async with redis_store(url) as store:
                for _ in range(3):
                    await ask(store, announce(1, SEEDER, STARTED))
                    await store.check()
                    await store.look()
        assert len([record for record in caplog.records if says in record.message]) == 1

    async def test_info_each_connection_is_one_to_a_new_server(self, valkey: StoreServer) -> None:
        url = _let_in(valkey, "ACL SETUSER udptracker reset on >password ~* +@all -info")
        async with redis_store(url) as store:
            first = await store.check()
            assert await store.check() == first
            connections = store.connections
            store._topology.drop_links("cut by the test")
            await until_connected(store._topology, connections + 1)
            assert await store.check() != first

    @pytest.mark.parametrize(
        ("rule", "says"),
        [
            ("~* +@all -hrandfield", "hrandfield"),
            ("~* +@all -hset", "hset"),
            ("~* +@all -eval", "eval"),
            ("~* +@all -exists", "exists"),
            ("~* +@all -hscan", "hscan"),
            ("~* +@all -zadd", "zadd"),
            ("~IPv4* ~udptracker_* +@all", "key"),
            ("~IPv4* ~IPv6* +@all", "key"),
        ],
    )
    async def test_what_is_needed_it_is_away_with_the_servers_words(
        self, store_server: StoreServer, rule: str, says: str
    ) -> None:
        url = _let_in(store_server, f"ACL SETUSER udptracker reset on >password {rule}")
        topology = topology_of(url)
        store = RedisStore(topology, random.random)
        topology.start()
        await until_connected(topology, 1)
        with pytest.raises(StoreUnavailable, match=f"NOPERM.*{says}"):
            await store.check()
        await store.close()


async def test_an_info_that_says_nothing_is_done_without() -> None:
    """As of a proxy, or a service that leaves it empty."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for command in data.split(b"*")[1:]:
                name = command.split(b"\r\n")[2]
                answer = {b"INFO": b"$-1\r\n", b"HGETALL": b"*0\r\n", b"TIME": b"+now\r\n"}
                writer.write(answer.get(name, b":1\r\n" if name != b"GET" else b"$1\r\nx\r\n"))
        writer.close()

    async with listening(serve) as port:
        topology = topology_of(f"redis://127.0.0.1:{port}")
        store = RedisStore(topology, random.random)
        await asyncio.wait_for(store.open(), PATIENCE)
        assert (await store.check()).servers == {"connection 1"}
        await store.close()


def test_an_operator_is_told_and_the_log_is_not_flooded(store_servers: StoreServers, daemons: Daemons) -> None:
    """One refused command: a line for it, `/readyz` and the metrics have it; and when it is permitted, all is well."""
    server = store_servers()
    url = _let_in(server, "ACL SETUSER udptracker reset on >password ~* +@all")
    daemon = daemons(url, arguments=("--workers", "1"))
    assert daemon.announce(b"a" * 20, 1000).seeders == 0
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "udptracker", "-hrandfield")
        eventually(lambda: daemon.announce(b"a" * 20, 1001) and daemon.get("/readyz")[0] == 503, "the refusal")
        for port in range(100):
            daemon.announce(b"a" * 20, 2000 + port)
        eventually(lambda: "hrandfield" in daemon.get("/readyz")[1].lower(), "the server's words")
        found = re.search(r'store_errors_total\{kind="StoreUnavailable"\} (\d+)', daemon.get("/metrics")[1])
        assert found is not None
        assert int(found[1]) > 0
        told = [line for line in daemon.log.splitlines() if "hrandfield" in line.lower()]
        assert 1 <= len(told) <= 3, daemon.log
        client.execute_command("ACL", "SETUSER", "udptracker", "+hrandfield")
        eventually(lambda: daemon.get("/readyz")[0] == 200, "the store to be back")
        assert len(client.hkeys(f"IPv4_L_{(b'a' * 20).hex()}")) == 102


async def test_words_about_one_swarm_are_said_once(valkey: StoreServer, caplog: pytest.LogCaptureFixture) -> None:
    with valkey.client() as client:
        client.set(f"IPv4_S_{hash_of(1).hex()}", "broken")
    with caplog.at_level(logging.WARNING):
        async with redis_store(valkey.url) as store:
            for _ in range(3):
                results = await store.execute([announce(1, SEEDER, STARTED), announce(1, SEEDER, STARTED, info_hash=2)])
                assert [isinstance(result, StoreError) for result in results] == [True, False]
    assert len([record for record in caplog.records if "WRONGTYPE" in record.message]) == 1
