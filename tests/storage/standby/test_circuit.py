"""A store that outlives its store: real servers are killed, emptied, paused and filled to the brim."""

from __future__ import annotations

import asyncio
import signal
from typing import cast

import pytest
import redis

from tests.conftest import StoreServers
from tests.storage.contract import (
    COMPLETED,
    LEECHER,
    NONE,
    SECOND,
    SEEDER,
    STARTED,
    STOPPED,
    announce,
    ask,
    ask_all,
    endpoint_of,
    endpoints,
    hash_of,
    peer_of,
    scrape,
)
from tests.support.nodes import Node, left_by, node_on, until, until_answer
from tests.support.servers import StoreServer
from tests.support.stores import counters_of, make_redis_store, recount
from tests.support.waiting import PATIENCE
from udptracker.core.swarm import IPV4, IPV6, StoreUnavailable
from udptracker.core.wire import SwarmStats
from udptracker.redis.link import Timeouts
from udptracker.storage.base import PeerStore


def _peers(client: redis.Redis, letter: str, info_hash: int = 1) -> set[bytes]:
    return set(cast(list[bytes], client.hkeys(f"IPv4_{letter}_{hash_of(info_hash).hex()}")))


async def _restart_empty(server: StoreServer) -> None:
    await asyncio.to_thread(server.restart)


class TestAway:
    async def test_peers_still_find_each_other(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with node_on(server.url) as node:
            await ask_all(node.store, [announce(n, SEEDER, STARTED) for n in (1, 2)])
            server.kill()
            await ask(node.store, announce(3, LEECHER, STARTED))

            async def finds_all() -> bool:
                found = endpoints(await ask(node.store, announce(4, LEECHER, STARTED)))
                return set(found) == {endpoint_of(n) for n in (1, 2, 3)}

            await until_answer(finds_all)
            assert await scrape(node.store, 1) == [SwarmStats(2, 0, 2)]
            assert (await node.store.totals())[IPV4] == (1, 2, 2)

    async def test_from_the_first_answer_on(self, store_servers: StoreServers) -> None:
        """Whoever is told of nobody asks again in half an hour."""
        server = store_servers()
        async with node_on(server.url) as node:
            for info_hash in range(1, 40):
                await ask_all(node.store, [announce(n, SEEDER, STARTED, info_hash=info_hash) for n in range(1, 31)])
            server.kill()
            answers = await ask_all(
                node.store, [announce(99, LEECHER, STARTED, info_hash=info_hash) for info_hash in range(1, 40)]
            )
            assert [(answer.seeders, len(endpoints(answer))) for answer in answers] == [(30, 30)] * 39

    async def test_it_says_so(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with node_on(server.url) as node:
            await ask(node.store, announce(1, SEEDER, STARTED))
            await node.store.ping()
            assert (node.counters.store_up, node.counters.standby_answers) == (1, 0)
            server.kill()
            await ask_all(node.store, [announce(2, SEEDER, STARTED), announce(3, SEEDER, STARTED)])
            assert (node.counters.store_up, node.counters.standby_answers, node.counters.buffered) == (0, 2, 2)
            with pytest.raises(StoreUnavailable, match="stand-in"):
                await node.store.ping()
            await _restart_empty(server)
            await node.is_back()
            await node.store.ping()
            assert (node.counters.buffered, node.counters.replayed, node.counters.replay_dropped) == (0, 3, 0)

    async def test_nobody_waits_twice(self, store_servers: StoreServers) -> None:
        """The first announce of a paused server waits for the timeout, and opens the circuit for all others."""
        server = store_servers()
        async with node_on(server.url, timeout=0.3) as node:
            await ask(node.store, announce(1, SEEDER, STARTED))
            server.pause()
            loop = asyncio.get_running_loop()
            started = loop.time()
            await ask(node.store, announce(2, LEECHER, STARTED))
            assert 0.25 < loop.time() - started < 2.0
            started = loop.time()
            for number in range(100):
                await ask(node.store, announce(number, LEECHER, STARTED))
            assert loop.time() - started < 0.25

    async def test_it_is_bounded(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with node_on(server.url, max_peers=5) as node:
            server.kill()
            await ask_all(node.store, [announce(n, SEEDER, STARTED) for n in range(5)])
            refused, known = await node.store.execute([announce(5, SEEDER, STARTED), announce(3, LEECHER, NONE)])
            assert isinstance(refused, StoreUnavailable)
            assert not isinstance(known, Exception)
            assert (node.counters.buffered, node.counters.replay_dropped) == (5, 1)
            assert node.counters.standby_answers == 6, "a refusal is no answer of the stand-in"
            assert await scrape(node.store, 1) == [SwarmStats(4, 0, 1)]
            await _restart_empty(server)
            await node.is_back()
            with server.client() as client:
                assert _peers(client, "S") == {peer_of(n) for n in (0, 1, 2, 4)}
                assert _peers(client, "L") == {peer_of(3)}

    async def test_the_stand_in_is_reaped(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with node_on(server.url) as node:
            server.kill()
            await ask(node.store, announce(1, SEEDER, STARTED))
            assert (await node.store.reap(node.store.now() - 3_600_000_000_000)).peers == 0
            assert (await node.store.reap(node.store.now() + 10_000_000_000)).peers == 1
            assert await scrape(node.store, 1) == [SwarmStats(0, 0, 0)]

    async def test_to_begin_with(self, store_servers: StoreServers) -> None:
        server = store_servers()
        server.kill()
        async with node_on(server.url) as node:
            assert node.counters.store_up == 0
            await ask(node.store, announce(1, SEEDER, STARTED))
            await asyncio.to_thread(server.start)
            await node.is_back()
            assert await scrape(node.store, 1) == [SwarmStats(1, 0, 0)]
            with server.client() as client:
                assert _peers(client, "S") == {peer_of(1)}

    @pytest.mark.parametrize("word", ["OOM", "NOREPLICAS"])
    async def test_a_server_that_refuses_writes_is_away(self, store_servers: StoreServers, word: str) -> None:
        server = store_servers()
        option, refusing, normal = {"OOM": ("maxmemory", 1, 0), "NOREPLICAS": ("min-replicas-to-write", 1, 0)}[word]
        async with node_on(server.url) as node:
            with server.client() as client:
                client.config_set(option, refusing)
                await ask(node.store, announce(1, SEEDER, STARTED))
                assert node.counters.store_up == 0
                client.config_set(option, normal)
                await node.is_back()
                assert _peers(client, "S") == {peer_of(1)}


async def _is_seen(node: Node, info_hash: int) -> bool:
    return await scrape(node.store, info_hash) == [SwarmStats(10, 0, 0)]


class TestBack:
    async def test_from_an_empty_restart_nothing_is_lost(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with node_on(server.url) as node:
            await ask_all(node.store, [announce(n, SEEDER, STARTED) for n in range(10)])
            await ask_all(node.store, [announce(n, LEECHER, STARTED, info_hash=2) for n in range(10)])
            await ask(node.store, announce(0, SEEDER, STOPPED))
            server.kill()
            await ask_all(node.store, [announce(n, LEECHER, STARTED) for n in range(20, 30)])
            await ask(node.store, announce(1, SEEDER, STOPPED))
            await ask(node.store, announce(20, LEECHER, STOPPED))
            await asyncio.to_thread(server.start)
            await node.is_back()
            await node.store.totals()
            with server.client() as client:
                assert _peers(client, "S") == {peer_of(n) for n in range(2, 10)}
                assert _peers(client, "L") == {peer_of(n) for n in range(21, 30)}
                assert _peers(client, "L", 2) == {peer_of(n) for n in range(10)}
                assert counters_of(client) == recount(client)

    async def test_what_is_shunned_is_neither_given_out_nor_written_again(self, store_servers: StoreServers) -> None:
        """What was remembered of it before, and what was heard of it while the store was away."""
        server = store_servers()
        async with node_on(server.url) as node:
            shunned: set[bytes] = set()
            node.store.shun(lambda info_hash: info_hash in shunned)
            for info_hash in (1, 2, 3):
                await ask_all(node.store, [announce(n, SEEDER, STARTED, info_hash=info_hash) for n in range(10)])
            shunned.add(hash_of(1))
            server.kill()
            await ask_all(node.store, [announce(n, LEECHER, STARTED, info_hash=2) for n in range(20, 30)])
            await until_answer(lambda: _is_seen(node, 3))
            assert await scrape(node.store, 1, 3) == [SwarmStats(0, 0, 0), SwarmStats(10, 0, 0)]
            shunned.add(hash_of(2))
            await asyncio.to_thread(server.start)
            await node.is_back()
            with server.client() as client:
                assert [len(_peers(client, "S", info_hash)) for info_hash in (1, 2, 3)] == [0, 0, 10]
                assert _peers(client, "L", 2) == set()

    async def test_from_a_pause_only_the_window_is_replayed(self, store_servers: StoreServers) -> None:
        """The same server process: what it acknowledged before the window is in it."""
        server = store_servers()
        async with node_on(server.url, replay_window=0.0, timeout=0.3) as node:
            await ask_all(node.store, [announce(n, SEEDER, STARTED) for n in range(50)])
            server.pause()
            await ask(node.store, announce(77, LEECHER, STARTED))
            await ask(node.store, announce(1, SEEDER, STOPPED))
            server.resume()
            await node.is_back()
            assert node.counters.replayed == 2
            assert await scrape(node.store, 1) == [SwarmStats(49, 0, 1)]

    async def test_what_was_replayed_survives_the_next_loss(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with node_on(server.url) as node:
            await ask(node.store, announce(1, SEEDER, STARTED))
            server.kill()
            for number in (2, 3, 4):
                await ask(node.store, announce(number, SEEDER, STARTED))
            await asyncio.to_thread(server.start)
            await node.is_back()
            await _restart_empty(server)
            await ask(node.store, announce(5, SEEDER, STARTED))
            await node.is_back()
            with server.client() as client:
                assert _peers(client, "S") == {peer_of(n) for n in range(1, 6)}

    async def test_a_restart_that_nobody_saw_is_noticed(self, store_servers: StoreServers) -> None:
        """No announce was on its way when the server came back empty."""
        server = store_servers()
        async with node_on(server.url) as node:
            await ask(node.store, announce(1, SEEDER, STARTED))
            connections = node.primary.connections
            await _restart_empty(server)
            await until(lambda: node.primary.connections > connections)
            await ask(node.store, announce(2, SEEDER, STARTED))
            await node.is_back()
            with server.client() as client:
                assert _peers(client, "S") == {peer_of(1), peer_of(2)}

    async def test_a_graduation_meanwhile_counts(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with node_on(server.url) as node:
            server.kill()
            await ask(node.store, announce(1, LEECHER, STARTED))
            await ask(node.store, announce(1, SEEDER, COMPLETED))
            assert await scrape(node.store, 1) == [SwarmStats(1, 1, 0)]
            await asyncio.to_thread(server.start)
            await node.is_back()
            assert await scrape(node.store, 1) == [SwarmStats(1, 1, 0)]

    async def test_of_two_nodes_the_newest_news_hold(self, store_servers: StoreServers) -> None:
        """Each peer changes nodes while the store is away; whoever replays first, its last announce stands."""
        server = store_servers()
        async with node_on(server.url) as first, node_on(server.url) as second:
            server.kill()
            numbers = range(60)
            nodes = (first, second)
            for number in numbers:
                await ask(nodes[number % 2].store, announce(number, LEECHER, STARTED))
            # The nodes' clocks agree to the time that a look at the server's takes.
            later = max(node.store.now() for node in nodes) + 50_000_000
            await until(lambda: min(node.store.now() for node in nodes) > later)
            for number in numbers:
                last = STOPPED if number % 3 == 0 else NONE
                await ask(nodes[(number + 1) % 2].store, announce(number, SEEDER, last))
            await asyncio.to_thread(server.start)
            await asyncio.gather(first.is_back(), second.is_back())
            for node in (first, second):
                await node.store.totals()
            with server.client() as client:
                assert _peers(client, "S") == {peer_of(n) for n in numbers if n % 3}
                assert _peers(client, "L") == set()
                assert counters_of(client)[IPV4][1:] == recount(client)[IPV4][1:]

    async def test_what_another_node_wrote_since_stands(self, store_servers: StoreServers) -> None:
        """A node that was cut off from the store alone comes back with news that have grown old."""
        server = store_servers()
        async with node_on(server.url) as cut_off:
            server.signal(signal.SIGSTOP)
            await ask_all(cut_off.store, [announce(n, LEECHER, STARTED) for n in (1, 2, 3)])
            server.signal(signal.SIGCONT)
            with server.client() as client:
                late = str(cut_off.store.now() + 60_000_000_000)
                client.hset(f"IPv4_S_{hash_of(1).hex()}", peer_of(1), late)
                client.hset("IPv4", f"IPv4_S_{hash_of(1).hex()}", late)
                await cut_off.is_back()
                assert _peers(client, "S") == {peer_of(1)}
                assert {peer_of(2), peer_of(3)} <= _peers(client, "L")

    async def test_under_load_every_acknowledged_peer_is_there(self, store_servers: StoreServers) -> None:
        """Announces go on all the time while the server is restarted empty, twice."""
        server = store_servers()
        async with node_on(server.url, max_peers=100_000) as node:
            acknowledged: set[int] = set()
            going_on = True

            async def announce_all_the_time() -> None:
                number = 0
                while going_on:
                    batch = [announce(number + n, SEEDER, STARTED, 5, info_hash=n % 7) for n in range(10)]
                    for at, result in enumerate(await node.store.execute(batch)):
                        if not isinstance(result, Exception):
                            acknowledged.add(number + at)
                    number += 10
                    await asyncio.sleep(0.005)

            async def restart() -> None:
                seen = len(acknowledged)
                await until(lambda: len(acknowledged) > seen + 100)
                answers = node.counters.standby_answers
                await _restart_empty(server)
                await until(lambda: node.counters.standby_answers > answers)
                await node.is_back()

            announcing = asyncio.create_task(announce_all_the_time())
            await restart()
            await restart()
            going_on = False
            await announcing
            await node.is_back()
            assert not node.counters.replay_dropped
            await node.store.totals()
            # A batch that was cut off half way may have written peers that nobody counted: the reaper puts that right.
            report = await node.store.reap(node.store.now() - 60 * SECOND)
            assert (report.ran, report.peers) == (True, 0)
            with server.client() as client:
                found = {peer for swarm in range(7) for peer in _peers(client, "S", swarm)}
                assert found == {peer_of(number) for number in acknowledged}
                assert counters_of(client) == recount(client)


async def test_closing_while_away_is_quick(store_servers: StoreServers) -> None:
    server = store_servers()
    node = Node(server.url)
    await node.store.open()
    server.kill()
    store: PeerStore = node.store
    await ask(store, announce(1, SEEDER, STARTED, family=IPV6))
    await asyncio.wait_for(store.close(), 2.0)


async def test_closing_while_the_store_stands_still_is_quick(store_servers: StoreServers) -> None:
    """Whatever the timeouts of its connection are."""
    server = store_servers()
    minutes = Timeouts(connect=600.0, read=600.0, write=600.0)
    node = Node(server.url, lambda url, **options: make_redis_store(url, timeouts=minutes, **options))
    await node.store.open()
    await ask(node.store, announce(1, SEEDER, STARTED))
    server.pause()
    await ask(node.store, announce(2, SEEDER, STARTED))
    await asyncio.wait_for(node.store.close(), PATIENCE)
    server.resume()


async def test_an_opening_that_is_given_up_leaves_nothing(store_servers: StoreServers) -> None:
    """What it would have met, such as a server that is too old, is nobody's news any more."""
    server = store_servers()
    server.pause()
    node = Node(server.url)
    assert await left_by(node.store.open(), node.store.close) == set()
    server.resume()
