"""Downloads of swarms that have lost their peers, on the clock of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from tests.storage.contract import COMPLETED, LEECHER, SEEDER, STARTED, STOPPED, Clock, announce, ask, hash_of, scrape
from tests.support.servers import StoreServer
from tests.support.stores import redis_store
from udptracker.core.wire import SwarmStats
from udptracker.storage.redis import downloads
from udptracker.storage.redis.downloads import DOWNLOADS_KEPT_SECONDS
from udptracker.storage.redis.store import RedisStore

LEFT = "udptracker_left_IPv4"


@pytest.fixture
async def store(store_server: StoreServer, clock: Clock) -> AsyncIterator[RedisStore]:
    async with redis_store(store_server.url, clock, remember_stops=600.0) as store:
        yield store


async def complete(store: RedisStore, info_hash: int) -> None:
    """A peer comes, completes a download, and goes."""
    await ask(store, announce(1, LEECHER, STARTED, info_hash=info_hash))
    await ask(store, announce(1, SEEDER, COMPLETED, info_hash=info_hash))
    await ask(store, announce(1, SEEDER, STOPPED, info_hash=info_hash))


async def downloads_of(store: RedisStore, *info_hashes: int) -> list[int]:
    return [row.downloads for row in await scrape(store, *info_hashes)]


async def test_are_kept_for_a_time_and_then_forgotten(store: RedisStore, clock: Clock, client: redis.Redis) -> None:
    await complete(store, 1)
    await store.reap(0)
    clock.advance(DOWNLOADS_KEPT_SECONDS - 10)
    await store.reap(0)
    assert await downloads_of(store, 1) == [1]
    clock.advance(20)
    await store.reap(0)
    assert await downloads_of(store, 1) == [0]
    assert not client.exists(LEFT, "udptracker_downloads_IPv4_0000")


async def test_of_a_swarm_that_lives_again_are_kept(store: RedisStore, clock: Clock) -> None:
    await complete(store, 1)
    await store.reap(0)
    clock.advance(DOWNLOADS_KEPT_SECONDS - 10)
    await ask(store, announce(2, SEEDER, STARTED))
    clock.advance(20)
    await store.reap(0)
    assert await scrape(store, 1) == [SwarmStats(1, 1, 0)]
    await ask(store, announce(2, SEEDER, STOPPED))
    await store.reap(0)
    clock.advance(DOWNLOADS_KEPT_SECONDS - 10)
    await store.reap(0)
    assert await downloads_of(store, 1) == [1]


async def test_of_a_swarm_with_peers_of_one_role_are_kept(store: RedisStore, clock: Clock) -> None:
    await ask(store, announce(1, LEECHER, STARTED))
    await ask(store, announce(1, SEEDER, COMPLETED))
    await store.reap(0)
    clock.advance(DOWNLOADS_KEPT_SECONDS + 10)
    await store.reap(0)
    assert await downloads_of(store, 1) == [1]


async def test_are_kept_of_so_many(
    store: RedisStore, clock: Clock, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MOST_DOWNLOADS_KEPT", 3)
    for info_hash in range(1, 6):
        await complete(store, info_hash)
        await store.reap(0)
        clock.advance(1)
    assert await downloads_of(store, *range(1, 6)) == [0, 0, 1, 1, 1]
    assert client.zcard(LEFT) == 3


async def test_that_were_left_unseen_are_found(
    store: RedisStore, clock: Clock, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a chihaya node, which takes the names of emptied swarms out by itself."""
    await complete(store, 1)
    client.delete("IPv4")
    monkeypatch.setattr(downloads, "_SHARDS_A_WALK", 32_768)
    for _ in range(2):
        await store.reap(0)
    assert client.zrange(LEFT, 0, -1) == [hash_of(1)]
    first = client.zscore(LEFT, hash_of(1))
    clock.advance(60)
    for _ in range(2):
        await store.reap(0)
    assert client.zscore(LEFT, hash_of(1)) == first


async def test_broken_values_stop_nothing(store: RedisStore, client: redis.Redis) -> None:
    await complete(store, 1)
    client.set("udptracker_left_IPv4", "x")
    client.set("udptracker_sweep_IPv4", "x")
    client.set("udptracker_downloads_IPv4_0001", "x")
    assert (await store.reap(0)).ran
    assert (await store.reap(0)).ran
