"""Random samples of large, busy swarms, kept for a moment and answered from.

A swarm qualifies when it has `LARGE_SWARM` peers and announces come faster than one every `ttl`. Its sample is
`SAMPLE_PEERS` random peers of each role. It is renewed, by one batch for all, in the second half of its life, and is
never used after its end. What this node itself hears in between is in it: who comes joins, who leaves is taken out.
Writes are not concerned: they always go to Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from udptracker.core.swarm import FAMILIES, SEEDER, AnnounceOperation, Role, compact_endpoint, without_endpoint
from udptracker.core.wire import COMPACT_BYTES
from udptracker.storage.redis.answers import Pools

LARGE_SWARM: Final = 100
SAMPLE_PEERS: Final = 500
MOST_SAMPLES: Final = 4_096


@final
class Sample:
    """One swarm's. `seen` is its last announce; `until` the end of the pools; `renew_at` when to ask for new ones."""

    __slots__ = ("leechers", "pools", "renew_at", "seeders", "seen", "until")

    def __init__(self, seen: int) -> None:
        self.seen = seen
        self.until = self.renew_at = 0
        self.seeders = self.leechers = 0
        self.pools = Pools(b"", b"", b"")

    def join(self, role: Role, endpoint: bytes, family: int, draw: Callable[[], float]) -> None:
        """A peer is new in a role."""
        pools = self.pools
        if role is SEEDER:
            self.seeders += 1
            pools.seeders = _with(pools.seeders, endpoint, family, draw)
            pools.others = without_endpoint(pools.others, endpoint, family)
        else:
            self.leechers += 1
            pools.leechers = _with(pools.leechers, endpoint, family, draw)
            if not _holds(pools.seeders, endpoint, family):
                pools.others = _with(pools.others, endpoint, family, draw)

    def leave(self, role: Role, endpoint: bytes, family: int) -> None:
        """A peer is in a role no more."""
        pools = self.pools
        if role is SEEDER:
            self.seeders = max(self.seeders - 1, 0)
            pools.seeders = without_endpoint(pools.seeders, endpoint, family)
            if _holds(pools.leechers, endpoint, family) and not _holds(pools.others, endpoint, family):
                pools.others += endpoint
        else:
            self.leechers = max(self.leechers - 1, 0)
            pools.leechers = without_endpoint(pools.leechers, endpoint, family)
            pools.others = without_endpoint(pools.others, endpoint, family)


@final
class Samples:
    """The samples of one node, by family and info hash.

    Args:
        ttl: nanoseconds, as all times here; 0 turns sampling off.
        draw: a source of uniform numbers in [0, 1).
    """

    def __init__(self, ttl: int, draw: Callable[[], float]) -> None:
        self._ttl = ttl
        self._draw = draw
        self._swarms: dict[int, dict[bytes, Sample]] = {family: {} for family in FAMILIES}
        self._size = 0
        self._full_until = 0

    def find(self, family: int, info_hash: bytes) -> Sample | None:
        """What is kept of a swarm: its pools hold until `until`."""
        return self._swarms[family].get(info_hash)

    def renews(self, sample: Sample, now: int) -> bool:
        """Note that a swarm is asked for: whether who asks shall read a new sample."""
        busy = now - sample.seen < self._ttl
        sample.seen = now
        if not busy or now < sample.renew_at:
            return False
        sample.renew_at = now + self._ttl
        return True

    def note(self, family: int, info_hash: bytes, now: int) -> None:
        """Remember a swarm that was found to be large, if there is room for one more beside the busy ones."""
        swarms = self._swarms[family]
        if not self._ttl or info_hash in swarms or now < self._full_until:
            return
        if self._size >= MOST_SAMPLES:
            self._full_until = now + self._ttl  # to look through them all for each newcomer would be felt
            for each in self._swarms.values():
                for quiet in [name for name, kept in each.items() if now - kept.seen >= self._ttl]:
                    self._forget(each, quiet)
        if self._size < MOST_SAMPLES:
            swarms[info_hash] = Sample(now)
            self._size += 1

    def left(self, announce: AnnounceOperation, role: Role, now: int) -> None:
        """The peer of an announce is in a role no more: neither is it in the sample, if there is one."""
        sample = self.find(announce.family, announce.info_hash)
        if sample is not None and now < sample.until:
            sample.leave(role, compact_endpoint(announce.peer), announce.family)

    def keep(self, sample: Sample, seeders: int, leechers: int, pools: Pools, now: int) -> None:
        """Counts, and what a read of `SAMPLE_PEERS` of each role brought at `now`."""
        sample.seeders, sample.leechers = seeders, leechers
        sample.pools = pools
        sample.until = now + self._ttl
        # At random: swarms that grew busy together would all be read anew at the same instant.
        sample.renew_at = now + int(self._ttl * (0.5 + 0.4 * self._draw()))

    def forget(self, family: int, info_hash: bytes) -> None:
        """A swarm is large no more."""
        self._forget(self._swarms[family], info_hash)

    def _forget(self, swarms: dict[bytes, Sample], info_hash: bytes) -> None:
        if swarms.pop(info_hash, None) is not None:
            self._size -= 1


def _holds(pool: bytes, endpoint: bytes, family: int) -> bool:
    return len(without_endpoint(pool, endpoint, family)) < len(pool)


def _with(pool: bytes, endpoint: bytes, family: int, draw: Callable[[], float]) -> bytes:
    """A pool with one endpoint more, in the place of another if it is full."""
    if _holds(pool, endpoint, family):
        return pool
    width = COMPACT_BYTES[family]
    size = len(pool) // width
    if size < SAMPLE_PEERS:
        at = int(draw() * (size + 1)) * width
        return pool[:at] + endpoint + pool[at:]
    at = int(draw() * size) * width
    return pool[:at] + endpoint + pool[at + width :]
