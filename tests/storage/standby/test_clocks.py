"""Stores with other clocks, and peers that have grown old by the time a store is back."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from tests.conftest import StoreServers
from tests.storage.contract import (
    LEECHER,
    NONE,
    SECOND,
    SEEDER,
    STARTED,
    announce,
    ask,
    ask_all,
    endpoint_of,
    endpoints,
    peer_of,
    scrape,
)
from tests.storage.standby.support import (
    HOUR,
    Steady,
    client_has,
    peers,
    swarm,
    through,
)
from tests.support.nodes import node_on, until, until_answer
from tests.support.proxy import OtherTime, Proxy
from tests.support.servers import StoreServer
from tests.support.stores import redis_store
from udptracker.core.wire import SwarmStats


class TestClocks:
    @pytest.mark.parametrize("behind", [3 * HOUR, -3 * HOUR])
    async def test_a_node_started_while_the_store_is_away_dates_right(
        self, store_servers: StoreServers, monkeypatch: pytest.MonkeyPatch, behind: int
    ) -> None:
        server = store_servers()
        server.kill()
        wall = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: wall() - behind * SECOND)
        async with node_on(server.url) as node:
            monkeypatch.undo()
            assert abs(node.store.now() - time.time_ns()) > HOUR * SECOND
            heard = time.time_ns()
            await ask(node.store, announce(1, SEEDER, STARTED))
            await asyncio.to_thread(server.start)
            await node.is_back()
            with server.client() as client:
                (stamp,) = cast(list[bytes], client.hvals(swarm("S")))
            assert abs(int(stamp) - heard) < 5 * SECOND
            assert (await node.store.reap(node.store.now() - 60 * SECOND)).peers == 0
            assert await scrape(node.store, 1) == [SwarmStats(1, 0, 0)]

    async def test_a_clock_that_jumped_ahead_expires_nobody(
        self, valkey: StoreServer, proxy: Proxy, other_time: OtherTime, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither by the node that saw it, nor by one that was started afterwards; the stale go when they are."""
        async with node_on(through(proxy)) as node:
            await ask_all(node.store, [announce(number, SEEDER, STARTED) for number in range(20)])
            with valkey.client() as client:
                stale = node.store.now() - 120 * SECOND
                client.hset(swarm("S"), mapping={peer_of(number): stale for number in (100, 101)})
            other_time.seconds = HOUR
            await until(lambda: node.store.now() > time.time_ns() + HOUR // 2 * SECOND)
            assert "jumped by +3600" in caplog.text
            await until(lambda: client_has(valkey, "udptracker_clock_jump"))
            async with redis_store(through(proxy), remember_stops=60.0) as other:
                for store in (node.store, other):
                    report = await store.reap(store.now() - 60 * SECOND)
                    assert report.ran
                    assert report.peers == (2 if store is node.store else 0)
            with valkey.client() as client:
                assert peers(client, "S") == {peer_of(number) for number in range(20)}

    async def test_a_clock_that_jumped_back_expires_nobody(self, proxy: Proxy, other_time: OtherTime) -> None:
        async with node_on(through(proxy)) as node:
            await ask_all(node.store, [announce(number, SEEDER, STARTED) for number in range(20)])
            other_time.seconds = -HOUR
            await until(lambda: node.store.now() < time.time_ns() - HOUR // 2 * SECOND)
            assert (await node.store.reap(node.store.now() - 60 * SECOND)).peers == 0


class TestAge:
    """What is older than `peer_lifetime`, here 60 s, is neither given out nor kept nor replayed."""

    async def test_of_what_was_remembered(self, store_servers: StoreServers) -> None:
        server, steady = store_servers(), Steady()
        async with node_on(server.url, steady=steady) as node:
            await ask(node.store, announce(1, SEEDER, STARTED))
            steady.ahead = 40.0
            await ask(node.store, announce(2, SEEDER, STARTED))
            steady.ahead = 80.0
            server.kill()
            await ask(node.store, announce(3, LEECHER, STARTED))

            async def finds() -> bool:
                return endpoints(await ask(node.store, announce(3, LEECHER, NONE))) != []

            await until_answer(finds)
            assert endpoints(await ask(node.store, announce(3, LEECHER, NONE))) == [endpoint_of(2)]
            steady.ahead = 101.0
            await node.store.reap(node.store.now() - 60 * SECOND)
            assert endpoints(await ask(node.store, announce(3, LEECHER, NONE))) == []
            await asyncio.to_thread(server.start)
            await node.is_back()
            with server.client() as client:
                assert (peers(client, "S"), peers(client, "L")) == (set(), {peer_of(3)})

    async def test_of_the_journal(self, store_servers: StoreServers) -> None:
        server, steady = store_servers(), Steady()
        async with node_on(server.url, steady=steady) as node:
            server.kill()
            await ask(node.store, announce(1, SEEDER, STARTED))
            steady.ahead = 40.0
            await ask(node.store, announce(2, SEEDER, STARTED))
            steady.ahead = 80.0
            await asyncio.to_thread(server.start)
            await node.is_back()
            with server.client() as client:
                assert peers(client, "S") == {peer_of(2)}

    async def test_without_anybody_to_reap_it(self, store_servers: StoreServers) -> None:
        """Only one worker of a node reaps; the others' stand-ins grow old, too."""
        server, steady = store_servers(), Steady()
        async with node_on(server.url, steady=steady, gc_interval=0.5) as node:
            server.kill()
            await ask_all(node.store, [announce(number, SEEDER, STARTED) for number in range(20)])
            steady.ahead = 80.0
            await until(lambda: not node.counters.buffered)
            assert await scrape(node.store, 1) == [SwarmStats(0, 0, 0)]

    async def test_it_is_kept_no_longer(self, valkey: StoreServer) -> None:
        steady = Steady()
        async with node_on(valkey.url, steady=steady) as node:
            await ask_all(node.store, [announce(number, SEEDER, STARTED) for number in range(20)])
            steady.ahead = 80.0
            await until(lambda: len(node.store._recent) == 0)
