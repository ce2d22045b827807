"""In one line how the tracker does, for an operator who asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from udptracker.observe.sums import Snapshot, merged


class StatusLine:
    """Rates are those since the last line.

    Args:
        clock: seconds of any steady clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._requests = 0

    def of(self, snapshots: Mapping[str, Snapshot]) -> str:
        """What the counters of every process (see `observe.sums`) come to."""
        sums, now = merged(snapshots.values()), self._clock()
        requests = sum(sums["requests"])
        rate = (requests - self._requests) / max(now - self._since, 1e-3)
        self._requests, self._since = requests, now
        totals = [tuple(of_family) for of_family in sums["totals"].values()]
        swarms, seeders, leechers = map(sum, zip(*totals, strict=True)) if totals else (0, 0, 0)
        store = "the store answers" if sums["store_up"] else "the store is away"
        return (
            f"{max(rate, 0.0):.0f} requests/s, {requests} in all; {swarms} swarms, {seeders} seeders, "
            f"{leechers} leechers; {store}"
        )
