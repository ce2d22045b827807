"""Stores of this process on real servers, and what a test asks of the servers behind their back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import redis

from tests.support.waiting import PATIENCE
from udptracker.core.swarm import FAMILIES, Role, Totals
from udptracker.redis.link import Replies, Timeouts
from udptracker.redis.segment import Segment
from udptracker.redis.server import Server
from udptracker.redis.topologies import make_topology
from udptracker.redis.topology import Topology
from udptracker.redis.url import parse_broker
from udptracker.storage.redis.layout import group, info_hash_counter, parse_swarm_key, peers_counter
from udptracker.storage.redis.store import RedisStore

SHORT: Final = Timeouts(connect=2.0, read=2.0, write=2.0)
"""Long enough for a busy machine, short enough for a test that waits for them."""


class ClockedRedisStore(RedisStore):
    """A Redis store with a clock that a test moves."""

    def __init__(self, topology: Topology, clock: Callable[[], int], **options: Any) -> None:
        super().__init__(topology, random.Random(1).random, **options)
        self._clock = clock

    def now(self) -> int:
        return self._clock()


class Interposed(Topology):
    """A topology that lets a test act right before a write that holds some bytes, once."""

    one_server = True

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._marker = b""
        self._act: Callable[[], Awaitable[object]] | None = None

    def before(self, marker: bytes, act: Callable[[], Awaitable[object]]) -> None:
        """Await `act` before the next write that holds `marker`."""
        self._marker, self._act = marker, act

    def start(self) -> None:
        self._topology.start()

    async def close(self) -> None:
        await self._topology.close()

    async def send(self, segments: Sequence[Segment]) -> Replies:
        if self._act is not None and any(self._marker in segment.payload for segment in segments):
            act, self._act = self._act, None
            await act()
        return await self._topology.send(segments)

    async def call_each(self, *command: Any) -> list[Any]:
        return await self._topology.call_each(*command)

    def anchors(self, name: bytes) -> list[bytes]:
        return self._topology.anchors(name)

    def servers(self) -> list[Server]:
        return self._topology.servers()

    def drop_links(self, reason: str) -> None:
        self._topology.drop_links(reason)


def topology_of(url: str, timeouts: Timeouts = SHORT) -> Topology:
    """The topology of a `redis_broker` URL, not yet started."""
    return make_topology(parse_broker(url), timeouts)


async def until_connected(topology: Topology, times: int) -> None:
    """Return when it has connected so many times."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if topology.connections >= times:
                return
            await asyncio.sleep(0.01)


def make_redis_store(
    url: str, clock: Callable[[], int] | None = None, *, timeouts: Timeouts = SHORT, **options: Any
) -> RedisStore:
    """A store on a `redis_broker` URL, not yet open, on the server's clock unless one is given."""
    topology = topology_of(url, timeouts)
    if clock is not None:
        return ClockedRedisStore(topology, clock, **options)
    return RedisStore(topology, random.Random(1).random, **options)


@asynccontextmanager
async def redis_store(url: str, clock: Callable[[], int] | None = None, **options: Any) -> AsyncIterator[RedisStore]:
    """The same, open, and closed at the end."""
    store = make_redis_store(url, clock, **options)
    try:
        async with asyncio.timeout(PATIENCE):
            await store.open()
        yield store
    finally:
        await store.close()


def counters_of(client: redis.Redis) -> dict[int, Totals]:
    """The shared counters as they are in Redis, by family."""
    return {
        family: Totals(
            _integer(client, info_hash_counter(family)),
            _integer(client, peers_counter(family, Role.SEEDER)),
            _integer(client, peers_counter(family, Role.LEECHER)),
        )
        for family in FAMILIES
    }


def recount(client: redis.Redis) -> dict[int, Totals]:
    """What the counters should be: everything in the swarm hashes that a family's hash names, counted one by one."""
    totals = {}
    for family in FAMILIES:
        sizes = {Role.SEEDER: [0], Role.LEECHER: [0]}
        for name in _hash(client, group(family)):
            parsed = parse_swarm_key(name)
            assert parsed is not None, name
            sizes[parsed[1]].append(len(_hash(client, name)))
        swarms = sum(size > 0 for size in sizes[Role.SEEDER])
        totals[family] = Totals(swarms, sum(sizes[Role.SEEDER]), sum(sizes[Role.LEECHER]))
    return totals


def shared_contents(client: redis.Redis) -> dict[bytes, Any]:
    """Everything in the database but our own `udptracker_` keys: hashes as dictionaries, counters as bytes."""
    names = sorted(key for key in client.scan_iter(count=1000) if not key.startswith(b"udptracker_"))
    return {name: _hash(client, name) if client.type(name) == b"hash" else client.get(name) for name in names}


def _hash(client: redis.Redis, key: bytes) -> dict[bytes, bytes]:
    return cast(dict[bytes, bytes], client.hgetall(key))


def _integer(client: redis.Redis, key: bytes) -> int:
    value = client.get(key)
    assert value is None or isinstance(value, bytes)
    return int(value or 0)
