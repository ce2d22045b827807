"""The store of one process: no dependency, nothing to install, gone when the process is unless a `snapshot` is written.
What it holds is in `swarms`.

A store that holds as many peers, or swarms, as it may keeps no newcomer, and answers it all the same with what it has:
who was here before a flood stays, and who comes during one still finds the others. Places become free as peers stop or
expire. What a flood took is given back by the reaper, tables of dictionaries included, which Python leaves as large as
they ever were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, final

from udptracker.core.counters import Counters
from udptracker.core.reasons import MOST_PEERS, MOST_SWARMS
from udptracker.core.swarm import (
    FAMILIES,
    IPV4,
    IPV6,
    LEECHER,
    SEEDER,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    ScrapeResult,
    Totals,
    compact_endpoint,
    keyed,
)
from udptracker.core.wire import COMPACT_BYTES, COMPLETED, STOPPED
from udptracker.storage.base import ImmediateStore, ReapReport, Shunned, nothing_shunned
from udptracker.storage.blocks import Block, Restoring, blocks
from udptracker.storage.swarms import COUNTED, DOWNLOADS_KEPT_SECONDS, LAST_SHARD, Family, Peers, Swarm

log = logging.getLogger(__name__)

_EVER: Final = 2**31
"""A second after all."""
_REAP_SLICE: Final = 1_000
"""Peers looked at between two pauses: about 1 ms, and the bound on what a request waits for the reaper."""
_FULL_SAID_SECONDS: Final = 600
_UNBOUNDED: Final = 1 << 60
_SECOND: Final = 1_000_000_000
_OLDEST: Final = 2**26 * _SECOND
"""How long before it was made the epoch of a store is: longer than the longest peer_lifetime, for the peers of a
snapshot."""


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
        self._epoch = clock() - _OLDEST
        self._shunned: Shunned = nothing_shunned
        self._families: dict[int, Family] = {family: Family(COMPACT_BYTES[family]) for family in FAMILIES}
        self._v4, self._v6 = self._families[IPV4], self._families[IPV6]
        self._second = 0
        self._restoring: Restoring | None = None
        self._full_said = -_FULL_SAID_SECONDS
        self.use(max_peers=max_peers, max_swarms=max_swarms)

    def use(self, *, max_peers: int, max_swarms: int) -> None:
        """Keep no more than this from now on. What is beyond a lower bound stays until it stops or expires."""
        self._max_peers = max_peers or _UNBOUNDED
        self._max_swarms = max_swarms or _UNBOUNDED

    def now(self) -> int:
        return self._clock()

    @property
    def age(self) -> int:
        """Nanoseconds since its epoch."""
        return self._clock() - self._epoch

    def blocks(self) -> Iterator[Block]:
        """What it holds, for a snapshot, in slices: requests may be served between any two."""
        return blocks(self._families)

    def restore(self, lifetime: float, place: int, places: int) -> Restoring:
        """What takes the blocks of a snapshot into this store. Until `restored`, what is announced wins.

        Args:
            lifetime: seconds after which a peer is stale.
            place: of `places` workers, which have a share of the swarms each (see `place_of`).
        """
        oldest = (self.age - int(lifetime * _SECOND)) // _SECOND
        self._restoring = Restoring(self._families, self._draw, self._room, oldest, place, places)
        return self._restoring

    def restored(self) -> None:
        """No block comes any more."""
        self._restoring = None

    async def close(self) -> None:
        """Let go of the peers in slices: to free a million at once would be felt."""
        for family in self._families.values():
            for shard in family.shards:
                shard.clear()
                await asyncio.sleep(0)

    def begin(self) -> None:
        self._second = self.age // _SECOND

    def apply(self, operation: Operation) -> Result:
        if isinstance(operation, AnnounceOperation):
            return self._announce(operation)
        family = self._v6 if operation.family == IPV6 else self._v4
        shards = family.shards
        counts: list[int] = []
        for info_hash in operation.info_hashes:
            swarm = shards[keyed(info_hash) & LAST_SHARD].get(info_hash)
            if swarm is None:
                downloads = family.kept[info_hash][0] if info_hash in family.kept else 0
                counts += (0, downloads, 0)
            else:
                counts += (swarm.seeding, swarm.downloads, swarm.leeching)
        return ScrapeResult(counts)

    async def totals(self) -> dict[int, Totals]:
        return {
            number: Totals(family.swarms, family.seeders, family.leechers) for number, family in self._families.items()
        }

    def shun(self, shunned: Shunned) -> None:
        self._shunned = shunned

    async def reap(self, cutoff: int) -> ReapReport:
        """See `PeerStore`. A stale peer that a newcomer moves behind the walk is left to the next run."""
        started = time.monotonic()
        second = (cutoff - self._epoch) // _SECOND
        self.begin()
        shunned = self._shunned
        removed = swarms = looked = 0
        for family in self._families.values():
            family.forget_kept(self._second - DOWNLOADS_KEPT_SECONDS)
            for number, shard in enumerate(family.shards):
                before = swarms
                for info_hash in list(shard):
                    swarm = shard.get(info_hash)
                    if swarm is None:
                        continue
                    stale = _EVER if shunned(info_hash) else second
                    for role, peers in ((SEEDER, swarm.seeders), (LEECHER, swarm.leechers)):
                        if peers is None:
                            continue
                        stop, before_role = len(peers.heard), removed
                        while stop > 0:
                            start = max(stop - _REAP_SLICE, 0)
                            gone = peers.remove_stale(start, stop, stale)
                            family.count(swarm, role, -gone)
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
        family = self._v6 if operation.family == IPV6 else self._v4
        info_hash = operation.info_hash
        endpoint = compact_endpoint(operation.peer)
        swarm = family.find(info_hash)
        if operation.event is STOPPED:
            return self._stop(family, swarm, info_hash, endpoint)
        seeding = operation.role is SEEDER
        mine: Peers | None = None
        at = -1
        if swarm is not None:
            mine = swarm.seeders if seeding else swarm.leechers
            if mine is not None:
                at = mine.find(endpoint)
        word = 2 * self._second
        if mine is not None and at >= 0:
            mine.heard[at] = word | (mine.heard[at] & COUNTED)
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
        return AnnounceResult(swarm.seeding, swarm.leeching, peers)

    def _arrive(self, family: Family, swarm: Swarm, operation: AnnounceOperation, endpoint: bytes, word: int) -> int:
        """A peer that is new in its role: it leaves the other one, and may have completed a download. Its place, or -1
        if there is no room for it."""
        seeding = operation.role is SEEDER
        others = swarm.leechers if seeding else swarm.seeders
        before = -1 if others is None else others.discard(endpoint)
        if before >= 0:
            family.count(swarm, LEECHER if seeding else SEEDER, -1)
            word |= before & COUNTED
            if seeding and operation.event is COMPLETED and not word & COUNTED:
                word |= COUNTED
                swarm.downloads += 1
        elif self._peers() >= self._max_peers:
            self._tell_full(MOST_PEERS)
            return -1
        mine = swarm.seeders if seeding else swarm.leechers
        if mine is None:
            mine = Peers(family.width)
            if seeding:
                swarm.seeders = mine
            else:
                swarm.leechers = mine
        family.count(swarm, operation.role, 1)
        return mine.add(endpoint, word, self._draw)

    def _stop(self, family: Family, swarm: Swarm | None, info_hash: bytes, endpoint: bytes) -> AnnounceResult:
        if self._restoring is not None:
            self._restoring.left(info_hash, endpoint)
        if swarm is None:
            return AnnounceResult(0, 0, b"")
        for role, peers in ((SEEDER, swarm.seeders), (LEECHER, swarm.leechers)):
            if peers is not None and peers.discard(endpoint) >= 0:
                family.count(swarm, role, -1)
        family.forget_if_empty(info_hash, swarm, self._second)
        return AnnounceResult(swarm.seeding, swarm.leeching, b"")

    def _peers(self) -> int:
        peers = 0
        for family in self._families.values():
            peers += family.seeders + family.leechers
        return peers

    def _room(self) -> tuple[int, int]:
        """For how many peers and swarms more; not above 0 if there is none."""
        swarms = 0
        for family in self._families.values():
            swarms += family.swarms
        return self._max_peers - self._peers(), self._max_swarms - swarms

    def _is_full(self) -> bool:
        """Whether there is no room for a swarm with its first peer; if so, it is counted."""
        peers, swarms = self._room()
        if swarms <= 0:
            self._tell_full(MOST_SWARMS)
        elif peers <= 0:
            self._tell_full(MOST_PEERS)
        return peers <= 0 or swarms <= 0

    def _tell_full(self, bound: str) -> None:
        """Count an announce that is not kept, and log it seldom."""
        if self._counters is not None:
            self._counters.unkept[bound] += 1
        if self._second - self._full_said >= _FULL_SAID_SECONDS:
            self._full_said = self._second
            log.warning("the store is full, it has %s: newcomers are answered and not kept", bound)
