"""The Redis store: the contract on both servers, and on a server that is reached through a stand-in."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from tests.storage.contract import Clock, StoreContract
from tests.support.servers import StoreServer
from tests.support.stores import make_redis_store, redis_store
from udptracker.core.counters import Counters
from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore
from udptracker.storage.standby.circuit import StandbyStore


class TestRedisStore(StoreContract):
    """The contract on Valkey 8 and on Redis 6.2."""

    @pytest.fixture
    async def store(self, clock: Clock, store_server: StoreServer) -> AsyncIterator[PeerStore]:
        async with redis_store(store_server.url, clock, remember_stops=60.0) as store:
            yield store


class TestRedisStoreWithoutSamples(StoreContract):
    """The contract where every read goes to the server."""

    @pytest.fixture
    async def store(self, clock: Clock, valkey: StoreServer) -> AsyncIterator[PeerStore]:
        async with redis_store(valkey.url, clock, sample_ttl=0.0, remember_stops=60.0) as store:
            yield store


class TestStandbyStore(StoreContract):
    """The contract through a standby store whose primary answers."""

    @pytest.fixture
    async def store(self, clock: Clock, valkey: StoreServer) -> AsyncIterator[PeerStore]:
        store = StandbyStore(
            make_redis_store(valkey.url, clock, remember_stops=60.0),
            lambda clock: MemoryStore(random.Random(1).random, clock),
            Counters(),
            timeout=10.0,
            max_peers=10_000,
            replay_window=10.0,
            peer_lifetime=60.0,
            gc_interval=600.0,
        )
        await store.open()
        yield store
        await store.close()
