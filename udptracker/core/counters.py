"""What the tracker counts, as plain integers: nothing here formats, locks or knows Prometheus.

One `Counters` belongs to one process; `metrics` reads snapshots of it, of one process or of several, when scraped.
Histograms have a bucket for each power of two: bucket `i` counts the values whose bit length is `i`, that is those
from 2**(i-1) up to 2**i - 1.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

DURATION_BUCKETS: Final = 26
"""Bit lengths of microseconds: the last bucket takes everything from 16.8 s up."""

SIZE_BUCKETS: Final = 16
"""Bit lengths of batch sizes: the last bucket takes everything from 16,384 up."""

ACTION_NAMES: Final = ("connect", "announce", "scrape")


class Histogram:
    """Counts by bit length, with the sum of the values."""

    __slots__ = ("_last", "counts", "total")

    def __init__(self, buckets: int) -> None:
        self._last = buckets - 1
        self.counts = [0] * buckets
        self.total = 0

    def add(self, value: int, times: int = 1) -> None:
        """Count a value, not negative, `times` times."""
        bucket = value.bit_length()
        self.counts[bucket if bucket < self._last else self._last] += times
        self.total += value * times

    def snapshot(self) -> dict[str, Any]:
        """`counts` by bit length and `total`, the sum of the values."""
        return {"counts": list(self.counts), "total": self.total}


class Counters:
    """All counters and gauges of one process.

    `requests` counts well-formed requests at 2 * (index in ACTION_NAMES) + (1 for IPv6). `refused` counts error
    responses and `dropped` silence, both by reason. `durations` are microseconds from the turn that read a datagram to
    its answer. `store_latency` is in microseconds a batch, `batch_sizes` in operations.
    """

    __slots__ = (
        "batch_sizes",
        "broken",
        "buffered",
        "bytes_in",
        "bytes_out",
        "dropped",
        "durations",
        "queue_depth",
        "reaped",
        "reaper_failures",
        "reaper_last_success",
        "reaper_runs",
        "reaper_seconds",
        "reaper_skipped",
        "reaper_swarms",
        "refused",
        "replay_dropped",
        "replayed",
        "requests",
        "standby_answers",
        "store_errors",
        "store_latency",
        "store_up",
        "totals",
    )

    def __init__(self) -> None:
        self.requests = [0] * 6
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        self.durations = Histogram(DURATION_BUCKETS)
        self.store_latency = Histogram(DURATION_BUCKETS)
        self.batch_sizes = Histogram(SIZE_BUCKETS)
        self.queue_depth = 0
        self.store_errors: Counter[str] = Counter()
        self.store_up = 1
        self.buffered = 0
        self.replayed = 0
        self.replay_dropped = 0
        self.standby_answers = 0
        self.reaper_runs = 0
        self.reaper_skipped = 0
        self.reaper_failures = 0
        self.reaped = 0
        self.broken = 0
        self.reaper_swarms = 0
        self.reaper_seconds = 0.0
        self.reaper_last_success = 0.0
        self.totals: dict[int, tuple[int, int, int]] = {}

    def snapshot(self) -> dict[str, Any]:
        """Every counter by its name, as JSON can carry it: the keys of `totals` become strings."""
        result: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Histogram):
                value = value.snapshot()
            elif isinstance(value, dict):
                value = dict(value)  # in one step: the event loop may add a reason while another thread reads
                value = {str(key): item for key, item in value.items()}
            elif isinstance(value, list):
                value = list(value)
            result[name] = value
        return result
