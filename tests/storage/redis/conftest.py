"""Our store and a client of redis-py on one server, where a test file does not choose others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from tests.storage.contract import Clock
from tests.support.servers import StoreServer
from tests.support.stores import redis_store
from udptracker.storage.base import PeerStore


@pytest.fixture
def client(store_server: StoreServer) -> Iterator[redis.Redis]:
    with store_server.client() as client:
        yield client


@pytest.fixture
async def store(store_server: StoreServer, clock: Clock) -> AsyncIterator[PeerStore]:
    async with redis_store(store_server.url, clock, remember_stops=600.0) as store:
        yield store
