"""The master that a sentinel names, and the one that it names when that is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import StoreServers
from tests.storage.contract import LEECHER, SEEDER, STARTED, announce, ask, scrape
from tests.support.sentinel import Watched, info
from tests.support.stores import SHORT, make_redis_store, redis_store
from tests.support.waiting import PATIENCE, eventually
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
        with watched.master.client() as client:
            assert client.wait(1, 5000) == 1, "the replica is behind"
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
        with watched.sentinel.client() as client:
            client.execute_command("SENTINEL", "FAILOVER", "main")
        eventually(lambda: info(watched.replica, "replication")["role"] == "master", "the failover")
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
