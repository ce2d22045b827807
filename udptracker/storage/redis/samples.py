"""Random samples of large, busy swarms, kept for a moment and answered from.

A swarm qualifies when it has `LARGE_SWARM` peers and announces come faster than one every `ttl`. Its sample is
`SAMPLE_PEERS` random peers of each role; an answer is a slice of it from a random offset, so that every peer is as
likely in it as any other and answers differ. A sample is renewed, by one batch for all, in the second half of its
life, and is never used after its end; counts are as old as it is. Writes are not concerned: they always go to Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from udptracker.core.swarm import IPV4, without_endpoint
from udptracker.core.wire import COMPACT_BYTES
from udptracker.storage.redis.layout import compact_endpoints

LARGE_SWARM: Final = 100
SAMPLE_PEERS: Final = 500
MOST_SAMPLES: Final = 4_096


class Pool:
    """Compact endpoints in random order, for slices from any offset, around the end."""

    __slots__ = ("_family", "_packed", "_size")

    def __init__(self, fields: list[bytes], family: int) -> None:
        (packed,) = compact_endpoints([fields], family)
        self._family = family
        self._size = len(packed) // COMPACT_BYTES[family]
        self._packed = packed + packed

    def sample(self, count: int, own: bytes, draw: Callable[[], float]) -> bytes:
        """`count` endpoints, or all there are, without `own`."""
        width = COMPACT_BYTES[self._family]
        start = int(draw() * self._size) * width
        chosen = self._packed[start : start + min(count + 1, self._size) * width]
        return without_endpoint(chosen, own, self._family)[: count * width]


class Sample:
    """One swarm's. `seen` is its last announce; `until` the end of the pools; `renew_at` when to ask for new ones."""

    __slots__ = ("leechers", "leechers_pool", "renew_at", "seeders", "seeders_pool", "seen", "until")

    def __init__(self, seen: int) -> None:
        self.seen = seen
        self.until = self.renew_at = 0
        self.seeders = self.leechers = 0
        self.seeders_pool = self.leechers_pool = Pool([], IPV4)


class Samples:
    """The samples of one node, by (family, info hash).

    Args:
        ttl: nanoseconds, as all times here; 0 turns sampling off.
        draw: a source of uniform numbers in [0, 1).
    """

    def __init__(self, ttl: int, draw: Callable[[], float]) -> None:
        self._ttl = ttl
        self._draw = draw
        self._swarms: dict[tuple[int, bytes], Sample] = {}
        self._full_until = 0

    def find(self, swarm: tuple[int, bytes], now: int) -> tuple[Sample | None, bool]:
        """(the sample to answer from or None, whether this announce shall read a new one)."""
        sample = self._swarms.get(swarm)
        if sample is None:
            return None, False
        busy = now - sample.seen < self._ttl
        sample.seen = now
        renews = busy and now >= sample.renew_at
        if renews:
            sample.renew_at = now + self._ttl
        return (sample if now < sample.until else None), renews

    def note(self, swarm: tuple[int, bytes], now: int) -> None:
        """Remember a swarm that was found to be large, if there is room for one more beside the busy ones."""
        if not self._ttl or swarm in self._swarms or now < self._full_until:
            return
        if len(self._swarms) >= MOST_SAMPLES:
            self._full_until = now + self._ttl  # to look through them all for each newcomer would be felt
            self._swarms = {name: kept for name, kept in self._swarms.items() if now - kept.seen < self._ttl}
        if len(self._swarms) < MOST_SAMPLES:
            self._swarms[swarm] = Sample(now)

    def forget(self, swarm: tuple[int, bytes]) -> None:
        """A swarm is large no more."""
        self._swarms.pop(swarm, None)

    def renew(
        self,
        swarm: tuple[int, bytes],
        counts: tuple[int, int],
        fields: tuple[list[bytes], list[bytes]],
        now: int,
    ) -> None:
        """Keep what a read of `SAMPLE_PEERS` of each role (seeders, leechers) brought at `now`."""
        sample = self._swarms.get(swarm)
        if sample is None:
            return
        sample.seeders, sample.leechers = counts
        sample.seeders_pool = Pool(fields[0], swarm[0])
        sample.leechers_pool = Pool(fields[1], swarm[0])
        sample.until = now + self._ttl
        # At random: swarms that grew busy together would all be read anew at the same instant.
        sample.renew_at = now + int(self._ttl * (0.5 + 0.4 * self._draw()))
