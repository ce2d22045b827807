"""What a store that goes away and comes back may do to a node: broken values, lost data, late commands."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.conftest import StoreServers
from tests.storage.contract import (
    COMPLETED,
    LEECHER,
    NONE,
    SEEDER,
    STARTED,
    STOPPED,
    announce,
    ask,
    ask_all,
    hash_of,
    peer_of,
    scrape,
)
from tests.storage.standby.support import (
    peers,
    swarm,
    through,
)
from tests.support.cluster import StoreCluster
from tests.support.nodes import Node, node_on, until, until_answer
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer
from tests.support.stores import make_redis_store
from udptracker.core.swarm import IPV4, StoreUnavailable
from udptracker.core.wire import SwarmStats
from udptracker.storage.memory import MemoryStore
from udptracker.storage.redis.layout import downloads_key, stopped_key
from udptracker.storage.redis.store import RedisStore
from udptracker.storage.replayable import Identity


class TestBrokenValues:
    """Each costs the entries that need it; all others are replayed, and its name is said once."""

    @pytest.mark.parametrize(
        ("key", "poison", "seeders"),
        [
            (swarm("L"), lambda client, key: client.set(key, "x"), {2, 3}),
            (swarm("S"), lambda client, key: client.rpush(key, "x"), {2, 3}),
            ("IPv4", lambda client, key: client.set(key, "x"), {1, 2, 3}),
            (downloads_key(IPV4, hash_of(1)), lambda client, key: client.hset(key, hash_of(1), "many"), {1, 2, 3}),
            (downloads_key(IPV4, hash_of(1)), lambda client, key: client.hset(key, hash_of(1), 2**63 - 1), {1, 2, 3}),
            (downloads_key(IPV4, hash_of(1)), lambda client, key: client.set(key, "x"), {1, 2, 3}),
            (stopped_key(IPV4, hash_of(1), peer_of(1)), lambda client, key: client.rpush(key, "x"), {1, 2, 3}),
            ("IPv4_S_count", lambda client, key: client.rpush(key, "x"), {1, 2, 3}),
            ("udptracker_generation", lambda client, key: client.rpush(key, "x"), {1, 2, 3}),
            ("udptracker_doubts", lambda client, key: client.set(key, "x"), {1, 2, 3}),
            ("udptracker_clock_jump", lambda client, key: client.rpush(key, "x"), {1, 2, 3}),
            ("udptracker_ping", lambda client, key: client.rpush(key, "x"), {1, 2, 3}),
        ],
    )
    async def test_costs_no_others(
        self,
        valkey: StoreServer,
        proxy: Proxy,
        caplog: pytest.LogCaptureFixture,
        key: str | bytes,
        poison: Callable[[redis.Redis, str | bytes], Any],
        seeders: set[int],
    ) -> None:
        async with node_on(through(proxy)) as node:
            proxy.stall()
            for number in (1, 2, 3):
                await ask(node.store, announce(number, LEECHER, STARTED, info_hash=number))
                await ask(node.store, announce(number, SEEDER, COMPLETED, info_hash=number))
            with valkey.client() as client:
                client.delete(key)
                poison(client, key)
                proxy.flow()
                await node.is_back()
                found = {number for number in (1, 2, 3) if node.counters.store_up and self._seeds(client, number)}
            assert found == seeders
            text = key if isinstance(key, str) else key.decode("ascii", "backslashreplace")
            if not text.endswith(("count", "jump", "ping")):  # which are written without a look at them
                await until(lambda: text in caplog.text)
                assert len([record for record in caplog.records if text in record.getMessage()]) == 1
                assert node.counters.replay_broken or text.startswith("udptracker_")
            await node.store.totals()

    @staticmethod
    def _seeds(client: redis.Redis, number: int) -> bool:
        try:
            return peer_of(number) in peers(client, "S", number)
        except redis.ResponseError:
            return False


class TestRecovery:
    async def test_it_goes_on_whatever_it_meets_and_says_what(
        self, valkey: StoreServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        meets: list[Exception] = []

        class Odd(RedisStore):
            async def check(self) -> Identity:
                if meets:
                    raise meets.pop()
                return await super().check()

        def make(url: str, **options: Any) -> RedisStore:
            store = make_redis_store(url, **options)
            store.__class__ = Odd
            return store

        async with node_on(through(proxy), make) as node:
            proxy.stall()
            await ask(node.store, announce(1, SEEDER, STARTED))
            meets += [ValueError("INFO is Greek"), KeyError("version"), ValueError("INFO is Greek")]
            proxy.flow()
            await node.is_back()
            assert not meets
            with valkey.client() as client:
                assert peers(client, "S") == {peer_of(1)}
        assert "INFO is Greek" in caplog.text
        assert "version" in caplog.text

    async def test_a_server_that_is_too_old_for_a_moment(
        self, store_servers: StoreServers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """During an upgrade: not at the start, which it would refuse."""
        server = store_servers()
        async with node_on(server.url) as node:
            server.kill()
            await ask(node.store, announce(1, SEEDER, STARTED))
            monkeypatch.setattr("udptracker.storage.redis.servers._OLDEST", (99, 0))
            await asyncio.to_thread(server.start)
            await until(lambda: "99" in caplog.text or "is needed" in caplog.text)
            monkeypatch.undo()
            await node.is_back()
            with server.client() as client:
                assert peers(client, "S") == {peer_of(1)}

    async def test_what_is_refused_is_done_without(
        self, store_servers: StoreServers, caplog: pytest.LogCaptureFixture
    ) -> None:
        """INFO, TIME and CLIENT, by a common access list and beyond."""
        server = store_servers()
        with server.client() as client:
            client.execute_command(
                *("ACL", "SETUSER", "node", "on", ">secret", "~*", "&*"),
                *("+@all", "-@dangerous", "-info", "-time", "-client"),
            )
        async with node_on(f"redis://node:secret@127.0.0.1:{server.port}/0") as node:
            await ask(node.store, announce(1, SEEDER, STARTED))
            await node.store.ping()
            assert node.counters.store_up == 1
            server.restart()
            await ask(node.store, announce(2, SEEDER, STARTED))
            assert node.counters.store_up == 0
        assert "'info'" in caplog.text
        assert "'time'" in caplog.text


class TestLostData:
    async def test_flushall_is_noticed(self, valkey: StoreServer, caplog: pytest.LogCaptureFixture) -> None:
        async with node_on(valkey.url) as first, node_on(valkey.url) as second:
            for number in range(50):
                await ask(second.store if number % 2 else first.store, announce(number, SEEDER, STARTED))
            await ask(first.store, announce(0, SEEDER, STOPPED))
            with valkey.client() as client:
                client.flushall()
                await until(lambda: peers(client, "S") == {peer_of(number) for number in range(1, 50)})
            await asyncio.gather(first.is_back(), second.is_back())
            assert await scrape(first.store, 1) == [SwarmStats(49, 0, 0)]
        assert "it has been emptied" in caplog.text

    async def test_of_one_server_of_a_cluster(self, store_servers: StoreServers) -> None:
        cluster = await asyncio.to_thread(StoreCluster, store_servers)
        async with node_on(cluster.url) as node:
            for number in range(30):
                await ask(node.store, announce(number, SEEDER, STARTED, info_hash=number))
            await until_answer(lambda: _holds_all(node, 30))
            cluster.masters[1].flush()
            await until(lambda: node.counters.store_up == 0)
            await node.is_back()
            await until_answer(lambda: _holds_all(node, 30))

    @pytest.mark.parametrize("how", ["deleted", "renamed", "evicted from one role"])
    async def test_single_swarms_are_written_back(
        self, valkey: StoreServer, caplog: pytest.LogCaptureFixture, how: str
    ) -> None:
        async with node_on(valkey.url, gc_interval=1.0) as node:
            await ask_all(node.store, [announce(n, SEEDER, STARTED, info_hash=n % 3) for n in range(30)])
            await ask_all(node.store, [announce(n, LEECHER, STARTED, info_hash=n % 3) for n in range(30, 60)])
            await ask(node.store, announce(1, SEEDER, STOPPED))
            with valkey.client() as client:
                if how == "renamed":
                    client.rename(swarm("S"), "elsewhere")
                else:
                    client.delete(swarm("S"), *([swarm("L")] if how == "deleted" else []))
                await until(lambda: peers(client, "S") == {peer_of(n) for n in range(4, 30, 3)})
                await until(lambda: peers(client, "L") == {peer_of(n) for n in range(31, 60, 3)})
            assert node.counters.store_up == 1
            await until(lambda: "gone from the store" in caplog.text)

    async def test_a_swarm_to_which_peers_have_come_since_is_written_back(self, valkey: StoreServer) -> None:
        """To this node or to another, which may have noticed the loss first."""
        async with node_on(valkey.url, gc_interval=1.0) as first, node_on(valkey.url, gc_interval=1.0) as second:
            for number in range(20):
                await ask(second.store if number % 2 else first.store, announce(number, SEEDER, STARTED))
            await asyncio.sleep(1.5)  # a look, before which they were heard
            with valkey.client() as client:
                client.delete(swarm("S"))
                await ask(first.store, announce(0, SEEDER, NONE))
                await ask(second.store, announce(20, SEEDER, STARTED))
                await until(lambda: peers(client, "S") == {peer_of(number) for number in range(21)})

    async def test_peers_that_stopped_elsewhere_are_not_brought_back(self, valkey: StoreServer) -> None:
        async with node_on(valkey.url, gc_interval=1.0) as node, node_on(valkey.url) as other:
            await ask_all(node.store, [announce(number, SEEDER, STARTED) for number in range(5)])
            await asyncio.sleep(1.5)
            await ask_all(other.store, [announce(number, SEEDER, STOPPED) for number in range(5)])
            await ask(other.store, announce(5, SEEDER, STARTED))
            await until(lambda: node.counters.replayed >= 5)
            await asyncio.sleep(0.2)
            with valkey.client() as client:
                assert peers(client, "S") == {peer_of(5)}

    async def test_a_swarm_that_emptied_elsewhere_stays_empty(self, valkey: StoreServer) -> None:
        async with node_on(valkey.url, gc_interval=1.0) as node, node_on(valkey.url) as other:
            await ask(node.store, announce(1, SEEDER, STARTED))
            await ask(other.store, announce(1, SEEDER, STOPPED))
            await until(lambda: node.counters.replayed > 0)
            await asyncio.sleep(0.2)
            with valkey.client() as client:
                assert peers(client, "S") == set()


class TestAReplay:
    async def test_that_is_cut_off_leaves_room_for_newcomers(self, valkey: StoreServer, proxy: Proxy) -> None:
        """What had been remembered stays where it is; the journal holds what was heard while away, and says so."""
        most = 1_000
        async with node_on(through(proxy), max_peers=most, replay_window=600.0) as node:
            for number in range(0, most, 100):
                await ask_all(node.store, [announce(number + n, SEEDER, STARTED) for n in range(100)])
            replay, calls = node.primary.replay, 0

            async def cut_off(entries: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == 3:
                    raise StoreUnavailable("cut off")
                return await replay(entries)

            node.primary.replay = cut_off  # type: ignore[method-assign]  # at an exact moment, which no server has
            proxy.stall()
            await ask(node.store, announce(most, LEECHER, STARTED))
            proxy.flow()
            await until(lambda: calls >= 3)
            results = await node.store.execute([announce(most + 1 + n, LEECHER, STARTED) for n in range(100)])
            assert not [result for result in results if isinstance(result, Exception)]
            assert node.counters.replay_dropped == 0
            assert node.counters.buffered <= 101
            await node.is_back()
            with valkey.client() as client:
                assert peers(client, "L") == {peer_of(most + n) for n in range(101)}

    @pytest.mark.parametrize("last", [NONE, STOPPED])
    async def test_counts_the_download_of_one_that_went_on(self, valkey: StoreServer, proxy: Proxy, last: Any) -> None:
        async with node_on(through(proxy)) as node:
            await ask(node.store, announce(1, LEECHER, STARTED))
            proxy.stall()
            await ask(node.store, announce(2, LEECHER, STARTED))
            await ask(node.store, announce(1, SEEDER, COMPLETED))
            await ask(node.store, announce(1, SEEDER, last))
            proxy.flow()
            await node.is_back()
            assert await scrape(node.store, 1) == [SwarmStats(last is NONE, 1, 1)]


class TestLateCommands:
    """Node A is cut off; what it had sent is done when the network lets it through."""

    @pytest.mark.parametrize("last", [STARTED, STOPPED])
    async def test_do_not_undo_what_another_node_wrote(self, valkey: StoreServer, proxy: Proxy, last: Any) -> None:
        """Peers say one thing through A, which is on its way when A is cut off, and then the other through B."""
        first = STOPPED if last is STARTED else STARTED
        numbers = range(60)
        async with node_on(through(proxy)) as a, node_on(valkey.url) as b:
            await ask_all(b.store, [announce(number, SEEDER, STARTED) for number in numbers])
            proxy.stall()
            await ask_all(a.store, [announce(number, SEEDER, first) for number in numbers])
            assert a.counters.store_up == 0
            await asyncio.sleep(0.05)  # the nodes' clocks agree to less
            await ask_all(b.store, [announce(number, SEEDER, last) for number in numbers])
            proxy.flow()
            await a.is_back()
            expected = {peer_of(number) for number in numbers} if last is STARTED else set()
            with valkey.client() as client:
                await until(lambda: peers(client, "S") == expected)
                looked = b.counters.replayed
                await asyncio.sleep(1.5)  # a look and what it leads to
                assert peers(client, "S") == expected
                assert b.counters.replayed >= looked


async def test_the_loop_is_never_held_up(store_servers: StoreServers) -> None:
    """200,000 announces are remembered, collected, put into the stand-in and replayed.

    What one turn of the loop takes is measured in CPU time, so that it says nothing of who else is at work here. Ten
    milliseconds are the bound; on a machine that is too slow for that, what it takes itself for 4,000 announces.
    """
    yardstick = MemoryStore(random.random)
    begun = time.thread_time()
    for n in range(4_000):
        yardstick.apply(announce(n, SEEDER, STARTED, info_hash=n % 2_000))
    bound = max(0.010, time.thread_time() - begun)
    server = store_servers()
    async with node_on(server.url, max_peers=201_000, timeout=60.0, peer_lifetime=3600.0) as node:
        recent = node.store._recent
        for number in range(0, 200_000, 500):
            batch = [announce(n, SEEDER, STARTED, info_hash=n % 2_000) for n in range(number, number + 500)]
            recent.remember(batch, time.monotonic_ns())
        longest = 0.0

        async def spin() -> None:
            nonlocal longest
            before = time.thread_time()
            while True:
                await asyncio.sleep(0)
                now = time.thread_time()
                longest = max(longest, now - before)
                before = now

        await asyncio.to_thread(server.kill)
        await until(lambda: node.primary.connections)
        gc.disable()  # as a node has it
        spinning = asyncio.create_task(spin())
        await ask(node.store, announce(1, SEEDER, STARTED))
        await asyncio.to_thread(server.start)
        await until(lambda: node.counters.store_up and not node.counters.buffered, 300.0)
        spinning.cancel()
        gc.enable()
        assert node.counters.replayed >= 200_000
        assert longest < bound, (longest, bound)


async def _holds_all(node: Node, swarms: int) -> bool:
    """Whether each swarm has its seeder in the store."""
    node.counters.standby_answers = 0
    rows = await scrape(node.store, *range(swarms))
    return not node.counters.standby_answers and [row.seeders for row in rows] == [1] * swarms
