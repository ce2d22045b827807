"""The Redis store on a real cluster: the contract, where keys are, slots that move, a node that is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from typing import cast

import pytest

from tests.conftest import StoreServers
from tests.storage.contract import (
    COMPLETED,
    LEECHER,
    NONE,
    SEEDER,
    STARTED,
    Clock,
    StoreContract,
    announce,
    ask,
    ask_all,
    hash_of,
    peer_of,
    scrape,
)
from tests.support import servers
from tests.support.cluster import StoreCluster
from tests.support.servers import StoreServer, wait_until_replicated
from tests.support.stores import make_redis_store, redis_store
from tests.support.waiting import PATIENCE
from udptracker.core.counters import Counters
from udptracker.core.swarm import IPV4, IPV6, AnnounceResult, StoreError, StoreUnavailable
from udptracker.core.wire import SwarmStats
from udptracker.redis.cluster import Cluster
from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore
from udptracker.storage.redis.layout import group, swarm_key
from udptracker.storage.standby.circuit import StandbyStore


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[StoreCluster]:
    """Three masters for all tests of this module that leave it whole."""
    with ExitStack() as stack:

        def start(arguments: tuple[str, ...]) -> StoreServer:
            server = stack.enter_context(StoreServer(servers.valkey(), arguments))
            server.start()
            return server

        yield StoreCluster(start)


@pytest.fixture
def cluster(running_cluster: StoreCluster) -> StoreCluster:
    running_cluster.flush()
    return running_cluster


class TestRedisStoreOnACluster(StoreContract):
    """The contract on three masters."""

    @pytest.fixture
    async def store(self, clock: Clock, cluster: StoreCluster) -> AsyncIterator[PeerStore]:
        async with redis_store(cluster.url, clock, remember_stops=60.0) as store:
            yield store


async def test_every_master_holds_its_share(cluster: StoreCluster, clock: Clock) -> None:
    async with redis_store(cluster.url, clock) as store:
        await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n) for n in range(300)])
    shares = [{key for key in keys if key.startswith(b"IPv4_S_0")} for keys in cluster.key_sets()]
    assert [key for keys in shares for key in keys if len(key) != 47] == []
    assert sum(map(len, shares)) == 300
    assert min(map(len, shares)) > 50


async def test_a_lost_registry_is_built_anew_from_all_masters(cluster: StoreCluster, clock: Clock) -> None:
    async with redis_store(cluster.url, clock, remember_stops=60.0) as store:
        await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n) for n in range(60)])
        await store.reap(0)
        owner = cluster.owner(group(IPV4))
        with owner.client() as client:
            client.delete(group(IPV4))
            clock.advance(60)
            assert (await store.reap(clock())).peers == 60
            assert not client.exists(group(IPV4))
        assert await store.totals() == {IPV4: (0, 0, 0), IPV6: (0, 0, 0)}


async def test_a_registration_that_fails_is_no_success(cluster: StoreCluster, clock: Clock) -> None:
    """The swarms are on all masters, their names on one."""
    async with redis_store(cluster.url, clock) as store:
        with cluster.owner(group(IPV4)).client() as client:
            client.set(group(IPV4), "not a hash")
            results = await store.execute([announce(n, SEEDER, STARTED, info_hash=n) for n in range(10)])
            assert all(isinstance(result, StoreError) for result in results)
            client.delete(group(IPV4))
            await ask(store, announce(99, LEECHER, NONE))
            assert client.hlen(group(IPV4)) == 11


async def test_one_node_of_the_url_is_enough(cluster: StoreCluster, clock: Clock) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.masters[1].port}"
    async with redis_store(url, clock) as store:
        results = await ask_all(store, [announce(1, SEEDER, STARTED, info_hash=n) for n in range(50)])
    assert results == [AnnounceResult(1, 0, b"")] * 50


async def test_a_slot_that_moves_is_followed(cluster: StoreCluster, clock: Clock) -> None:
    """ASK while it is between two nodes, MOVED once it has moved; no batch is lost, and no neighbour asked twice."""
    key = swarm_key(IPV4, SEEDER, hash_of(1))
    source = cluster.owner(key)
    target = next(server for server in cluster.masters if server is not source)
    async with redis_store(cluster.url, clock) as store:
        everything = [announce(n % 5, SEEDER, NONE, info_hash=n) for n in range(40)]
        await ask_all(store, everything)
        for move in (cluster.begin_move, cluster.finish_move):
            await asyncio.to_thread(move, key, target)
            await ask(store, announce(77, LEECHER, STARTED))
            counts = [(result.seeders, result.leechers) for result in await ask_all(store, everything)]
            assert counts == [(1, 1) if swarm == 1 else (1, 0) for swarm in range(40)]
            await ask(store, announce(77, SEEDER, COMPLETED))
            assert (await scrape(store, 1))[0][::2] == (2, 0)
            await ask(store, announce(77, LEECHER, NONE))
        totals = await store.totals()
        assert totals[IPV4] == (40, 40, 1)
    with target.client() as client:
        assert client.hkeys(key) == [peer_of(1)]


async def test_a_slot_that_moves_to_a_node_without_slots_is_followed(store_servers: StoreServers, clock: Clock) -> None:
    """It is connected to at the first word of it, kept while its slot moves, and never taken for another server."""
    cluster = await asyncio.to_thread(StoreCluster, store_servers, 2)
    target = await asyncio.to_thread(cluster.join)
    key = swarm_key(IPV4, SEEDER, hash_of(1))
    everything = [announce(n, SEEDER, NONE, info_hash=n) for n in range(10)]
    async with redis_store(cluster.url, clock) as store:
        await ask_all(store, everything)
        connections = store.connections
        await asyncio.to_thread(cluster.begin_move, key, target)
        until = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < until:  # several times as long as a map is kept that is stale
            assert await ask_all(store, everything) == [AnnounceResult(1, 0, b"")] * 10
            await asyncio.sleep(0.05)
        visitors = _visitors(target)
        await asyncio.to_thread(cluster.finish_move, key, target)
        for _ in range(10):
            assert await ask_all(store, everything) == [AnnounceResult(1, 0, b"")] * 10
            await asyncio.sleep(0.05)
        assert _visitors(target) == visitors != set()
        assert store.connections == connections


async def test_a_slot_that_moves_to_a_node_without_slots_opens_no_circuit(store_servers: StoreServers) -> None:
    """Neither while it moves nor once it has moved, when the new node has a generation of its own."""
    cluster = await asyncio.to_thread(StoreCluster, store_servers)
    target = await asyncio.to_thread(cluster.join)
    key = swarm_key(IPV4, SEEDER, hash_of(1))
    counters = Counters()
    store = StandbyStore(
        make_redis_store(cluster.url, remember_stops=60.0),
        lambda clock: MemoryStore(random.random, clock),
        counters,
        timeout=10.0,
        max_peers=1000,
        replay_window=10.0,
        peer_lifetime=600.0,
        gc_interval=600.0,
    )
    await store.open()
    for move in (None, cluster.begin_move, cluster.finish_move):
        if move is not None:
            await asyncio.to_thread(move, key, target)
        for _ in range(50):  # for longer than the store is looked at every once in a while
            await ask_all(store, [announce(n, SEEDER, NONE, info_hash=n) for n in range(10)])
            await asyncio.sleep(0.03)
    await store.close()
    assert counters.standby_answers == 0


@pytest.mark.parametrize("endpoint", ["unknown-endpoint", "hostname"])
async def test_answers_without_a_host_mean_the_one_that_was_asked(
    store_servers: StoreServers, clock: Clock, endpoint: str
) -> None:
    """A server that is not to tell its host says `MOVED 1234 :6381`; one that does not know its name, `?:6381`."""
    arguments = ("--cluster-preferred-endpoint-type", endpoint)
    cluster = await asyncio.to_thread(partial(StoreCluster, store_servers, arguments=arguments))
    key = swarm_key(IPV4, SEEDER, hash_of(1))
    source = cluster.owner(key)
    target = next(server for server in cluster.masters if server is not source)
    everything = [announce(n, SEEDER, NONE, info_hash=n) for n in range(40)]
    async with redis_store(f"redis+cluster://127.0.0.1:{cluster.masters[0].port}", clock) as store:
        assert await ask_all(store, everything) == [AnnounceResult(1, 0, b"")] * 40
        await asyncio.to_thread(cluster.begin_move, key, target)
        if endpoint == "unknown-endpoint":  # ASK ?:6381 leads nowhere: the map does not tell where a slot will be
            assert await ask_all(store, everything) == [AnnounceResult(1, 0, b"")] * 40
        await asyncio.to_thread(cluster.finish_move, key, target)
        assert await ask_all(store, everything) == [AnnounceResult(1, 0, b"")] * 40


async def test_a_lost_node_is_replaced_by_its_replica(store_servers: StoreServers, clock: Clock) -> None:
    cluster = await asyncio.to_thread(StoreCluster, store_servers, replicas=True)
    everything = [announce(n, SEEDER, NONE, info_hash=n) for n in range(60)]
    lost = cluster.masters[0]
    async with redis_store(cluster.url, clock) as store:
        before = await store.check()
        await ask_all(store, everything)
        await asyncio.to_thread(wait_until_replicated, lost, cluster.replicas[0])
        lost.kill()
        with pytest.raises(StoreUnavailable):
            await store.execute(everything)
        rows = await _until_answered(store, 60)
        assert rows == [SwarmStats(1, 0, 0)] * 60
        assert await ask_all(store, everything) == [AnnounceResult(1, 0, b"")] * 60
        assert await store.check() != before


def _visitors(server: StoreServer) -> set[str]:
    """Where each client of a server has come from, but for the one that asks."""
    with server.client() as client:
        clients = cast(list[dict[str, str]], client.client_list())
    return {each["addr"] for each in clients if not each["cmd"].startswith("client")}


async def test_a_map_that_cannot_be_read_is_tried_again(
    cluster: StoreCluster, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it was: a map that is never read again would be worse."""
    read_map, failures = Cluster._read_map, iter([ZeroDivisionError("a bug")])

    async def fails_once(topology: Cluster) -> bool:
        for failure in failures:
            raise failure
        return await read_map(topology)

    monkeypatch.setattr(Cluster, "_read_map", fails_once)
    async with redis_store(cluster.url, clock) as store:
        assert await ask(store, announce(1, SEEDER, STARTED)) == AnnounceResult(1, 0, b"")
    assert "ZeroDivisionError: a bug" in caplog.text


async def _until_answered(store: PeerStore, swarms: int) -> list[SwarmStats]:
    """The rows of a scrape once there is an answer."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await scrape(store, *range(swarms))
            except StoreUnavailable:
                await asyncio.sleep(0.02)
