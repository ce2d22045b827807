"""The store of one process: no dependency, nothing to install, gone when the process is.

Each swarm keeps the peers of a role in a list that is always in random order: a newcomer is appended and swapped
to a uniformly random place, a leaver's place is taken by the last. A random choice is then a slice from a random
offset, whatever the size of the swarm. The place of a peer is found by a look through the list while that is short,
as most are, and by a dictionary once it is long.

A peer is its endpoint here: a client that restarts with a new peer id replaces itself, and an answer cannot hold an
endpoint twice. Ages are kept as 31-bit seconds since the store was made; the last bit of that word tells whether the
peer's download was counted, so that one that completes again and again counts once until it has stopped.

Swarms are spread over 256 dictionaries by the first byte of the info hash: none grows so large that its resizing
or the copy of its keys for the reaper would be felt. The downloads of a swarm that has lost its last peer are kept for
`DOWNLOADS_KEPT_SECONDS`, and of at most `MOST_DOWNLOADS_KEPT` such swarms a family, those that were left first going
first.

A store that holds as many peers, or swarms, as it may keeps no newcomer, and answers it all the same with what it has:
who was here before a flood stays, and who comes during one still finds the others. Places become free as peers stop or
expire. What a flood took is given back by the reaper, tables of dictionaries included, which Python leaves as large as
they ever were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections.abc import Callable
from typing import Final, final

from udptracker.core.counters import Counters
from udptracker.core.reasons import MOST_PEERS, MOST_SWARMS
from udptracker.core.swarm import (
    FAMILIES,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    Role,
    ScrapeResult,
    Totals,
    compact_endpoint,
)
from udptracker.core.wire import COMPACT_BYTES, Event
from udptracker.storage.base import ImmediateStore, ReapReport

log = logging.getLogger(__name__)

DOWNLOADS_KEPT_SECONDS: Final = 7 * 86_400
MOST_DOWNLOADS_KEPT: Final = 100_000

_REAP_SLICE: Final = 2_000
"""Peers looked at between two pauses: about 1 ms, and the bound on what a request waits for the reaper."""
_SHORT: Final = 16
_LONG: Final = 32
"""Peers down to which a list loses its dictionary, and beyond which it gets one: 300 bytes and three cache misses."""
_SHRUNK: Final = 4
_TABLE: Final = 10_000
"""A dictionary is made anew, so that its table fits it, once more than `_SHRUNK` times of what is left was removed from
it, and if no more than `_TABLE` is left, which takes about 2 ms."""
_FULL_SAID_SECONDS: Final = 600
_UNBOUNDED: Final = 1 << 60
_SECOND: Final = 1_000_000_000
_COUNTED: Final = 1


@final
class _Peers:
    """The peers of one role in one swarm, in random order, with the word each was last heard of by: twice the second,
    and `_COUNTED` if its download was counted.

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

    def add(self, endpoint: bytes, word: int, draw: Callable[[], float]) -> int:
        """A newcomer, at a uniformly random place, which is returned."""
        order, heard, places = self.order, self.heard, self.places
        last = len(heard)
        at = int(draw() * (last + 1))
        if at == last:
            order += endpoint
            heard.append(word)
        else:
            begin = at * self.width
            moved = bytes(order[begin : begin + self.width])
            order += moved
            heard.append(heard[at])
            order[begin : begin + self.width] = endpoint
            heard[at] = word
            if places is not None:
                places[moved] = last
        if places is not None:
            places[endpoint] = at
        elif last >= _LONG:
            self._keep_places()
        return at

    def remove(self, at: int) -> int:
        """The peer at a place, whose word is returned; the last one takes the place."""
        order, width, places = self.order, self.width, self.places
        last = bytes(order[-width:])
        removed = self.heard[at]
        word = self.heard.pop()
        begin = at * width
        if places is not None:
            del places[bytes(order[begin : begin + width])]
        if at < len(self.heard):
            order[begin : begin + width] = last
            self.heard[at] = word
            if places is not None:
                places[last] = at
        del order[-width:]
        if places is not None and len(self.heard) <= _SHORT:
            self.places = None
        return removed

    def remove_stale(self, start: int, stop: int, second: int) -> int:
        """Remove those of the places from `start` to `stop` that were last heard of at `second` or before."""
        heard, newest = self.heard, 2 * second + _COUNTED
        if min(heard[start:stop], default=newest + 1) > newest:
            return 0
        removed = 0
        for at in range(min(stop, len(heard)) - 1, start - 1, -1):
            if heard[at] <= newest:
                self.remove(at)
                removed += 1
        return removed

    def shrink(self, removed: int) -> None:
        """Let go of room that was needed for so many more."""
        left = len(self.heard)
        if self.places is not None and removed > _SHRUNK * left and left <= _TABLE:
            self._keep_places()

    def _keep_places(self) -> None:
        """Make the dictionary, all of it new: keys of before lie between those that are gone, and hold their memory."""
        order, width = self.order, self.width
        self.places = {bytes(order[nth * width : (nth + 1) * width]): nth for nth in range(len(self.heard))}

    def discard(self, endpoint: bytes) -> int:
        """Remove a peer; the word it was last heard of by, -1 if it is not there."""
        at = self.find(endpoint)
        return -1 if at < 0 else self.remove(at)

    def sample(self, count: int, draw: Callable[[], float]) -> bytes:
        """`count` peers, or all there are: the slice from a random place on, around the end."""
        size = len(self.heard)
        if count >= size:
            return bytes(self.order)
        start = int(draw() * size)
        return self._slice(start, start + count, size, size)

    def sample_without(self, skip: int, count: int, draw: Callable[[], float]) -> bytes:
        """`count` peers but the one at place `skip`, or all others: a slice of the list with that one cut out of it."""
        others = len(self.heard) - 1
        if count >= others:
            return self._cut(0, others, skip)
        start = int(draw() * others)
        return self._slice(start, start + count, others, skip)

    def _slice(self, start: int, stop: int, size: int, skip: int) -> bytes:
        if stop > size:
            return self._cut(start, size, skip) + self._cut(0, stop - size, skip)
        return self._cut(start, stop, skip)

    def _cut(self, start: int, stop: int, skip: int) -> bytes:
        order, width = self.order, self.width
        if stop <= skip:
            return bytes(order[start * width : stop * width])
        if start >= skip:
            return bytes(order[(start + 1) * width : (stop + 1) * width])
        return bytes(order[start * width : skip * width] + order[(skip + 1) * width : (stop + 1) * width])


@final
class _Swarm:
    """One info hash in one family. A role without peers is None: most swarms have but one, and it costs 250 bytes."""

    __slots__ = ("downloads", "leechers", "seeders")

    def __init__(self, downloads: int) -> None:
        self.seeders: _Peers | None = None
        self.leechers: _Peers | None = None
        self.downloads = downloads


@final
class _Family:
    """The swarms of one IP family, spread over `shards`, with the sums over all of them, and what is kept of those that
    have lost their peers: (downloads, the second it was left) by info hash."""

    __slots__ = ("kept", "leechers", "seeders", "shards", "swarms", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.shards: list[dict[bytes, _Swarm]] = [{} for _ in range(256)]
        self.kept: dict[bytes, tuple[int, int]] = {}
        self.swarms = 0
        self.seeders = 0
        self.leechers = 0

    def count(self, role: Role, change: int) -> None:
        """Add to the peers of a role."""
        if role is Role.SEEDER:
            self.seeders += change
        else:
            self.leechers += change

    def found(self, info_hash: bytes) -> _Swarm:
        """A new swarm, with the downloads that are known of it."""
        downloads, _ = self.kept.pop(info_hash, (0, 0)) if self.kept else (0, 0)
        swarm = _Swarm(downloads)
        self.shards[info_hash[0]][info_hash] = swarm
        self.swarms += 1
        return swarm

    def forget_if_empty(self, info_hash: bytes, swarm: _Swarm, second: int) -> bool:
        """Drop a role without peers, and the swarm without roles; whether the swarm is gone."""
        if swarm.seeders is not None and not swarm.seeders.heard:
            swarm.seeders = None
        if swarm.leechers is not None and not swarm.leechers.heard:
            swarm.leechers = None
        shard = self.shards[info_hash[0]]
        if swarm.seeders is not None or swarm.leechers is not None or shard.get(info_hash) is not swarm:
            return False
        del shard[info_hash]
        self.swarms -= 1
        if swarm.downloads:
            if len(self.kept) >= MOST_DOWNLOADS_KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[info_hash] = (swarm.downloads, second)
        return True

    def shrink(self, number: int, removed: int) -> None:
        """Let go of the room that a shard needed for so many swarms more."""
        shard = self.shards[number]
        if removed > _SHRUNK * len(shard) and len(shard) <= _TABLE:
            left = dict(shard)
            shard.clear()  # in place: a new one would be made among what is about to go, and hold its memory
            shard.update(left)

    def forget_kept(self, second: int) -> None:
        """Let go of the downloads of swarms that were left at `second` or before: those that come first."""
        while self.kept:
            info_hash = next(iter(self.kept))
            if self.kept[info_hash][1] > second:
                break
            del self.kept[info_hash]


@final
class MemoryStore(ImmediateStore):
    """The `PeerStore` on memory.

    Args:
        draw: a source of uniform numbers in [0, 1).
        clock: nanoseconds that never go back.
        counters: announces that were not kept are counted here, if anywhere.
        max_peers: of both families and roles together; 0 for no bound.
        max_swarms: of both families together; 0 for no bound.
    """

    def __init__(
        self,
        draw: Callable[[], float],
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        counters: Counters | None = None,
        max_peers: int = 0,
        max_swarms: int = 0,
    ) -> None:
        self._draw = draw
        self._clock = clock
        self._counters = counters
        self._epoch = clock() - _SECOND
        self._families: dict[int, _Family] = {family: _Family(COMPACT_BYTES[family]) for family in FAMILIES}
        self._second = 1
        self._full_said = -_FULL_SAID_SECONDS
        self.use(max_peers=max_peers, max_swarms=max_swarms)

    def use(self, *, max_peers: int, max_swarms: int) -> None:
        """Keep no more than this from now on. What is beyond a lower bound stays until it stops or expires."""
        self._max_peers = max_peers or _UNBOUNDED
        self._max_swarms = max_swarms or _UNBOUNDED

    def now(self) -> int:
        return self._clock()

    async def close(self) -> None:
        """Let go of the peers in slices: to free a million at once would be felt."""
        for family in self._families.values():
            for shard in family.shards:
                shard.clear()
                await asyncio.sleep(0)

    def begin(self) -> None:
        self._second = (self._clock() - self._epoch) // _SECOND

    def apply(self, operation: Operation) -> Result:
        if isinstance(operation, AnnounceOperation):
            return self._announce(operation)
        family = self._families[operation.family]
        shards = family.shards
        counts: list[int] = []
        for info_hash in operation.info_hashes:
            swarm = shards[info_hash[0]].get(info_hash)
            if swarm is None:
                downloads = family.kept[info_hash][0] if info_hash in family.kept else 0
                counts += (0, downloads, 0)
            else:
                seeders, leechers = swarm.seeders, swarm.leechers
                counts.append(0 if seeders is None else len(seeders.heard))
                counts.append(swarm.downloads)
                counts.append(0 if leechers is None else len(leechers.heard))
        return ScrapeResult(counts)

    async def totals(self) -> dict[int, Totals]:
        return {
            number: Totals(family.swarms, family.seeders, family.leechers) for number, family in self._families.items()
        }

    async def reap(self, cutoff: int) -> ReapReport:
        """See `PeerStore`. A stale peer that a newcomer moves behind the walk is left to the next run."""
        started = time.monotonic()
        second = (cutoff - self._epoch) // _SECOND
        self.begin()
        removed = swarms = looked = 0
        for family in self._families.values():
            family.forget_kept(self._second - DOWNLOADS_KEPT_SECONDS)
            for number, shard in enumerate(family.shards):
                before = swarms
                for info_hash in list(shard):
                    swarm = shard.get(info_hash)
                    if swarm is None:
                        continue
                    for role, peers in ((Role.SEEDER, swarm.seeders), (Role.LEECHER, swarm.leechers)):
                        if peers is None:
                            continue
                        stop, before_role = len(peers.heard), removed
                        while stop > 0:
                            start = max(stop - _REAP_SLICE, 0)
                            gone = peers.remove_stale(start, stop, second)
                            family.count(role, -gone)
                            removed += gone
                            looked += stop - start + 1
                            if looked >= _REAP_SLICE:
                                looked = 0
                                await asyncio.sleep(0)
                            stop = min(start, len(peers.heard))
                        peers.shrink(removed - before_role)
                    swarms += family.forget_if_empty(info_hash, swarm, self._second)
                family.shrink(number, swarms - before)
        return ReapReport(True, removed, 0, swarms, time.monotonic() - started)

    def _announce(self, operation: AnnounceOperation) -> AnnounceResult:
        family = self._families[operation.family]
        info_hash = operation.info_hash
        endpoint = compact_endpoint(operation.peer)
        swarm = family.shards[info_hash[0]].get(info_hash)
        if operation.event is Event.STOPPED:
            return self._stop(family, swarm, info_hash, endpoint)
        seeding = operation.role is Role.SEEDER
        mine: _Peers | None = None
        at = -1
        if swarm is not None:
            mine = swarm.seeders if seeding else swarm.leechers
            if mine is not None:
                at = mine.find(endpoint)
        word = 2 * self._second
        if mine is not None and at >= 0:
            mine.heard[at] = word | (mine.heard[at] & _COUNTED)
        else:
            if swarm is None:
                if self._is_full():
                    return AnnounceResult(0, 0, b"")
                swarm = family.found(info_hash)
            at = self._arrive(family, swarm, operation, endpoint, word)
            mine = swarm.seeders if seeding else swarm.leechers
        assert swarm is not None
        seeders, leechers = swarm.seeders, swarm.leechers
        want = operation.num_want
        peers: bytes = b""
        if want and seeding:
            if leechers is not None:
                peers = leechers.sample(want, self._draw)
        elif want:
            if seeders is not None:
                peers = seeders.sample(want, self._draw)
                want -= len(peers) // family.width
            if want > 0 and mine is not None:
                others = mine.sample(want, self._draw) if at < 0 else mine.sample_without(at, want, self._draw)
                peers = peers + others if peers else others
        return AnnounceResult(
            0 if seeders is None else len(seeders.heard), 0 if leechers is None else len(leechers.heard), peers
        )

    def _arrive(self, family: _Family, swarm: _Swarm, operation: AnnounceOperation, endpoint: bytes, word: int) -> int:
        """A peer that is new in its role: it leaves the other one, and may have completed a download. Its place, or -1
        if there is no room for it."""
        seeding = operation.role is Role.SEEDER
        others = swarm.leechers if seeding else swarm.seeders
        before = -1 if others is None else others.discard(endpoint)
        if before >= 0:
            family.count(Role.LEECHER if seeding else Role.SEEDER, -1)
            word |= before & _COUNTED
            if seeding and operation.event is Event.COMPLETED and not word & _COUNTED:
                word |= _COUNTED
                swarm.downloads += 1
        elif self._peers() >= self._max_peers:
            self._tell_full(MOST_PEERS)
            return -1
        mine = swarm.seeders if seeding else swarm.leechers
        if mine is None:
            mine = _Peers(family.width)
            if seeding:
                swarm.seeders = mine
            else:
                swarm.leechers = mine
        family.count(operation.role, 1)
        return mine.add(endpoint, word, self._draw)

    def _stop(self, family: _Family, swarm: _Swarm | None, info_hash: bytes, endpoint: bytes) -> AnnounceResult:
        if swarm is None:
            return AnnounceResult(0, 0, b"")
        for role, peers in ((Role.SEEDER, swarm.seeders), (Role.LEECHER, swarm.leechers)):
            if peers is not None and peers.discard(endpoint) >= 0:
                family.count(role, -1)
        family.forget_if_empty(info_hash, swarm, self._second)
        seeders, leechers = swarm.seeders, swarm.leechers
        return AnnounceResult(
            0 if seeders is None else len(seeders.heard), 0 if leechers is None else len(leechers.heard), b""
        )

    def _peers(self) -> int:
        peers = 0
        for family in self._families.values():
            peers += family.seeders + family.leechers
        return peers

    def _is_full(self) -> bool:
        """Whether there is no room for a swarm with its first peer; if so, it is counted."""
        swarms = 0
        for family in self._families.values():
            swarms += family.swarms
        if swarms >= self._max_swarms:
            self._tell_full(MOST_SWARMS)
            return True
        if self._peers() >= self._max_peers:
            self._tell_full(MOST_PEERS)
            return True
        return False

    def _tell_full(self, bound: str) -> None:
        """Count an announce that is not kept, and log it seldom."""
        if self._counters is not None:
            self._counters.unkept[bound] += 1
        if self._second - self._full_said >= _FULL_SAID_SECONDS:
            self._full_said = self._second
            log.warning("the store is full, it has %s: newcomers are answered and not kept", bound)
