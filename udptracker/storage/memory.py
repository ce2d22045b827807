"""The store of one process: no dependency, nothing to install, gone when the process is.

Each swarm keeps the peers of a role in a list that is always in random order: a newcomer is appended and swapped
to a uniformly random place, a leaver's place is taken by the last. A random choice is then a slice from a random
offset, whatever the size of the swarm. The place of a peer is found by a look through the list while that is short,
as most are, and by a dictionary once it is long.

A peer is its endpoint here: a client that restarts with a new peer id replaces itself, and an answer cannot hold an
endpoint twice. Ages are kept as 32-bit seconds since the store was made.

Swarms are spread over 256 dictionaries by the first byte of the info hash: none grows so large that its resizing
or the copy of its keys for the reaper would be felt.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from typing import Final

from udptracker.core.swarm import (
    FAMILIES,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    Role,
    Totals,
    compact_endpoint,
)
from udptracker.core.wire import COMPACT_BYTES, Event, SwarmStats
from udptracker.storage.base import ImmediateStore, ReapReport

_REAP_SLICE: Final = 2_000
"""Peers looked at between two pauses: about 1 ms, and the bound on what a request waits for the reaper."""
_SHORT: Final = 16
_LONG: Final = 32
"""Peers down to which a list loses its dictionary, and beyond which it gets one: 300 bytes and three cache misses."""
_SECOND: Final = 1_000_000_000
_SEEDER, _STOPPED, _COMPLETED = Role.SEEDER, Event.STOPPED, Event.COMPLETED

_new_tuple = tuple.__new__


class _Peers:
    """The peers of one role in one swarm, in random order, with the second each was last heard of.

    `order` holds the compact endpoints, `width` bytes each, one after the other: a slice of it is an answer, and
    lies in a few cache lines however large the swarm is. `places` is None while `order` is short.
    """

    __slots__ = ("heard", "order", "places", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.order = bytearray()
        self.heard = array("I")
        self.places: dict[bytes, int] | None = None

    def find(self, endpoint: bytes) -> int:
        """The place of a peer, -1 if it is not there."""
        if self.places is not None:
            return self.places.get(endpoint, -1)
        order, width = self.order, self.width
        at = order.find(endpoint)
        while at % width and at > 0:  # the same bytes across two others
            at = order.find(endpoint, at + 1)
        return at // width

    def add(self, endpoint: bytes, second: int, draw: Callable[[], float]) -> int:
        """A newcomer, at a uniformly random place, which is returned."""
        order, heard, places = self.order, self.heard, self.places
        last = len(heard)
        at = int(draw() * (last + 1))
        if at == last:
            order += endpoint
            heard.append(second)
        else:
            begin = at * self.width
            moved = bytes(order[begin : begin + self.width])
            order += moved
            heard.append(heard[at])
            order[begin : begin + self.width] = endpoint
            heard[at] = second
            if places is not None:
                places[moved] = last
        if places is not None:
            places[endpoint] = at
        elif last >= _LONG:
            width = self.width
            self.places = {bytes(order[nth * width : (nth + 1) * width]): nth for nth in range(last + 1)}
        return at

    def remove(self, at: int) -> None:
        """The peer at a place; the last one takes it."""
        order, width, places = self.order, self.width, self.places
        last = bytes(order[-width:])
        second = self.heard.pop()
        begin = at * width
        if places is not None:
            del places[bytes(order[begin : begin + width])]
        if at < len(self.heard):
            order[begin : begin + width] = last
            self.heard[at] = second
            if places is not None:
                places[last] = at
        del order[-width:]
        if places is not None and len(self.heard) <= _SHORT:
            self.places = None

    def remove_stale(self, start: int, stop: int, second: int) -> int:
        """Remove those of the places from `start` to `stop` that were last heard of at `second` or before."""
        heard = self.heard
        if min(heard[start:stop], default=second + 1) > second:
            return 0
        removed = 0
        for at in range(min(stop, len(heard)) - 1, start - 1, -1):
            if heard[at] <= second:
                self.remove(at)
                removed += 1
        return removed

    def discard(self, endpoint: bytes) -> bool:
        """Remove a peer; whether it was there."""
        at = self.find(endpoint)
        if at < 0:
            return False
        self.remove(at)
        return True

    def sample(self, count: int, draw: Callable[[], float]) -> bytearray:
        """`count` peers, or all there are: the slice from a random place on, around the end."""
        size = len(self.heard)
        if count >= size:
            return self.order
        start = int(draw() * size)
        return self._slice(start, start + count, size, size)

    def sample_without(self, skip: int, count: int, draw: Callable[[], float]) -> bytearray:
        """`count` peers but the one at place `skip`, or all others: a slice of the list with that one cut out of it."""
        others = len(self.heard) - 1
        if count >= others:
            return self._cut(0, others, skip)
        start = int(draw() * others)
        return self._slice(start, start + count, others, skip)

    def _slice(self, start: int, stop: int, size: int, skip: int) -> bytearray:
        if stop > size:
            return self._cut(start, size, skip) + self._cut(0, stop - size, skip)
        return self._cut(start, stop, skip)

    def _cut(self, start: int, stop: int, skip: int) -> bytearray:
        order, width = self.order, self.width
        if stop <= skip:
            return order[start * width : stop * width]
        if start >= skip:
            return order[(start + 1) * width : (stop + 1) * width]
        return order[start * width : skip * width] + order[(skip + 1) * width : (stop + 1) * width]


class _Swarm:
    """One info hash in one family. A role without peers is None: most swarms have but one, and it costs 250 bytes."""

    __slots__ = ("leechers", "seeders")

    def __init__(self) -> None:
        self.seeders: _Peers | None = None
        self.leechers: _Peers | None = None


class MemoryStore(ImmediateStore):
    """The `PeerStore` on memory.

    Args:
        draw: a source of uniform numbers in [0, 1).
        clock: nanoseconds that never go back.
    """

    def __init__(self, draw: Callable[[], float], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._draw = draw
        self._clock = clock
        self._epoch = clock() - _SECOND
        self._shards: dict[int, tuple[dict[bytes, _Swarm], ...]] = {
            family: tuple({} for _ in range(256)) for family in FAMILIES
        }
        self._downloads: dict[int, dict[bytes, int]] = {family: {} for family in FAMILIES}
        self._seeders = dict.fromkeys(FAMILIES, 0)
        self._leechers = dict.fromkeys(FAMILIES, 0)

    def now(self) -> int:
        return self._clock()

    async def close(self) -> None:
        """Let go of the peers in slices: to free a million at once would be felt."""
        for shards in self._shards.values():
            for shard in shards:
                shard.clear()
                await asyncio.sleep(0)

    def apply(self, operation: Operation) -> Result:
        if isinstance(operation, AnnounceOperation):
            return self._announce(operation)
        family, info_hashes = operation
        return [self._stats(family, info_hash) for info_hash in info_hashes]

    async def totals(self) -> dict[int, Totals]:
        return {
            family: Totals(sum(map(len, shards)), self._seeders[family], self._leechers[family])
            for family, shards in self._shards.items()
        }

    async def reap(self, cutoff: int) -> ReapReport:
        """See `PeerStore`. A stale peer that a newcomer moves behind the walk is left to the next run."""
        started = time.monotonic()
        second = (cutoff - self._epoch) // _SECOND
        removed = swarms = looked = 0
        for family, shards in self._shards.items():
            for shard in shards:
                for info_hash in list(shard):
                    swarm = shard.get(info_hash)
                    if swarm is None:
                        continue
                    for role, peers in ((Role.SEEDER, swarm.seeders), (Role.LEECHER, swarm.leechers)):
                        if peers is None:
                            continue
                        stop = len(peers.heard)
                        while stop > 0:
                            start = max(stop - _REAP_SLICE, 0)
                            gone = peers.remove_stale(start, stop, second)
                            self._count(family, role, -gone)
                            removed += gone
                            looked += stop - start + 1
                            if looked >= _REAP_SLICE:
                                looked = 0
                                await asyncio.sleep(0)
                            stop = min(start, len(peers.heard))
                    swarms += self._forget_if_empty(shard, info_hash, swarm)
        return ReapReport(True, removed, 0, swarms, time.monotonic() - started)

    def _announce(self, operation: AnnounceOperation) -> AnnounceResult:
        family, info_hash, peer, role, event, num_want = operation
        endpoint = compact_endpoint(peer)
        shard = self._shards[family][info_hash[0]]
        swarm = shard.get(info_hash)
        if event is _STOPPED:
            return self._stop(shard, swarm, family, info_hash, endpoint)
        if swarm is None:
            swarm = shard[info_hash] = _Swarm()
        seeding = role is _SEEDER
        seeders, leechers = swarm.seeders, swarm.leechers
        mine, others = (seeders, leechers) if seeding else (leechers, seeders)
        second = (self._clock() - self._epoch) // _SECOND
        if mine is not None:
            at = mine.find(endpoint)
        else:
            mine, at = _Peers(COMPACT_BYTES[family]), -1
            if seeding:
                swarm.seeders = seeders = mine
            else:
                swarm.leechers = leechers = mine
        if at >= 0:
            mine.heard[at] = second
        else:
            at = mine.add(endpoint, second, self._draw)
            self._count(family, role, 1)
            if others is not None and others.discard(endpoint):
                self._count(family, Role.LEECHER if seeding else Role.SEEDER, -1)
                if seeding and event is _COMPLETED:
                    downloads = self._downloads[family]
                    downloads[info_hash] = downloads.get(info_hash, 0) + 1
        chosen: bytes | bytearray = b""
        if seeding:
            if leechers is not None and num_want:
                chosen = leechers.sample(num_want, self._draw)
        elif num_want:
            if seeders is not None:
                chosen = seeders.sample(num_want, self._draw)
            room = num_want - len(chosen) // mine.width
            if room > 0:
                chosen = chosen + mine.sample_without(at, room, self._draw)
        return _new_tuple(
            AnnounceResult,
            (
                0 if seeders is None else len(seeders.heard),
                0 if leechers is None else len(leechers.heard),
                bytes(chosen),
            ),
        )

    def _stop(
        self, shard: dict[bytes, _Swarm], swarm: _Swarm | None, family: int, info_hash: bytes, endpoint: bytes
    ) -> AnnounceResult:
        if swarm is None:
            return AnnounceResult(0, 0, b"")
        for role, peers in ((Role.SEEDER, swarm.seeders), (Role.LEECHER, swarm.leechers)):
            if peers is not None and peers.discard(endpoint):
                self._count(family, role, -1)
        self._forget_if_empty(shard, info_hash, swarm)
        return AnnounceResult(*_sizes(swarm), b"")

    def _stats(self, family: int, info_hash: bytes) -> SwarmStats:
        swarm = self._shards[family][info_hash[0]].get(info_hash)
        seeders, leechers = (0, 0) if swarm is None else _sizes(swarm)
        downloads = self._downloads[family].get(info_hash, 0)
        return _new_tuple(SwarmStats, (seeders, downloads, leechers))

    def _count(self, family: int, role: Role, change: int) -> None:
        totals = self._seeders if role is _SEEDER else self._leechers
        totals[family] += change

    def _forget_if_empty(self, shard: dict[bytes, _Swarm], info_hash: bytes, swarm: _Swarm) -> bool:
        """Drop a role without peers, and the swarm without roles; whether the swarm is gone."""
        if swarm.seeders is not None and not swarm.seeders.heard:
            swarm.seeders = None
        if swarm.leechers is not None and not swarm.leechers.heard:
            swarm.leechers = None
        if swarm.seeders is None and swarm.leechers is None and shard.get(info_hash) is swarm:
            del shard[info_hash]
            return True
        return False


def _sizes(swarm: _Swarm) -> tuple[int, int]:
    """(seeders, leechers)."""
    return (
        0 if swarm.seeders is None else len(swarm.seeders.heard),
        0 if swarm.leechers is None else len(swarm.leechers.heard),
    )
