"""What the tracker counts, as plain integers: nothing here formats, locks or knows Prometheus.

One `Counters` belongs to one process; `metrics` reads snapshots of it, of one process or of several, when scraped.
Histograms have a bucket for each power of two: bucket `i` counts the values whose bit length is `i`, that is those
from 2**(i-1) up to 2**i - 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from udptracker.core import reasons
from udptracker.core.listed import LISTS

DURATION_BUCKETS: Final = 26
"""Bit lengths of microseconds: the last bucket takes everything from 16.8 s up."""

SIZE_BUCKETS: Final = 16
"""Bit lengths of batch sizes: the last bucket takes everything from 16,384 up."""

ACTION_NAMES: Final = ("connect", "announce", "scrape")

ANSWER_NAMES: Final = (*ACTION_NAMES, "error")
"""What an answer may be, by its action field (`wire.Action`)."""

CONNECTED: Final = 0
ANNOUNCED: Final = 1
SCRAPED: Final = 2
REFUSED: Final = 3
"""Places in ANSWER_NAMES."""

LIMIT_NAMES: Final = ("connects", "announces", "scrapes", "bad_ids", "peers_in_swarm", "peers")
"""What there may be a limit on for one source."""

MODE_NAMES: Final = ("watch", "enforce")
"""What may be done about what is over a limit."""


ALLOWED: Final = "allow"
DENIED: Final = "deny"
"""The verdicts of entries of lists."""
FROM_FILE: Final = "file"
FROM_STORE: Final = "store"
FROM_CACHE: Final = "cache"
"""What lists are read from besides the configuration: `Counters.access_failures`."""

_GAUGES: Final = ("queue_depth", "undecided", "cpu_seconds", "resident_bytes", "tasks")
"""The gauges of `Counters`, 0 until somebody has them: requests that wait for the store, announces that wait for rules
that ask elsewhere, CPU seconds the process has used, bytes of memory that it has in use, tasks on its event loop."""


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
    responses and `dropped` silence, `store_errors` failed operations, `unkept` announces that a full store answered
    and did not keep, all by their `reasons`, each of which is there from the start. Of the histograms `loop_lag` is in
    microseconds a sample, `reaper_durations` in microseconds a run,
    `store_latency` in microseconds a batch, `batch_sizes` in operations.

    `limited` counts what was over a limit at 2 * (index in LIMIT_NAMES) + (index in MODE_NAMES).

    `durations` are microseconds from the turn that read a datagram to its answer, a histogram for each of ANSWER_NAMES.

    `chore_failures` counts what a process does besides answering and that failed in an unforeseen way, by name.

    `hook_refusals`, `hook_failures`, `hook_timeouts` and `hook_drops` count announces, and `hook_durations` are
    microseconds a call, all by the name of a hook, each of which is there once the hook is made (`add_hook`).

    `rows_missing` counts rows of scrapes that are zeros because the worker that has the swarm did not answer.
    `has_share` tells whether `totals` are of swarms that no other process counts.

    `access_entries` are how many entries lists hold, by "LIST VERDICT", `access_failures` times that a list could not
    be brought up to date, by what it is read from, and `access_refreshed` is the Unix time at which the shared lists
    were last known to be up to date, 0 where there are none.

    `restored` counts peers that were read from a snapshot, `snapshots_refused` those that could not be trusted.

    `gauges` are read when a snapshot is taken, by the name they have there, so that they are true at any time. Whoever
    has the figure puts its function there.
    """

    __slots__ = (
        "access_entries",
        "access_failures",
        "access_refreshed",
        "batch_sizes",
        "broken",
        "buffered",
        "bytes_in",
        "bytes_out",
        "chore_failures",
        "dropped",
        "durations",
        "gauges",
        "has_share",
        "hook_drops",
        "hook_durations",
        "hook_failures",
        "hook_refusals",
        "hook_timeouts",
        "limited",
        "loop_lag",
        "reaped",
        "reaper_durations",
        "reaper_failures",
        "reaper_last_success",
        "reaper_runs",
        "reaper_seconds",
        "reaper_skipped",
        "reaper_swarms",
        "refused",
        "replay_broken",
        "replay_dropped",
        "replayed",
        "requests",
        "restored",
        "rows_missing",
        "snapshots_refused",
        "standby_answers",
        "store_errors",
        "store_latency",
        "store_misfits",
        "store_up",
        "totals",
        "unkept",
    )

    def __init__(self) -> None:
        self.requests = [0] * 6
        self.refused: Counter[str] = Counter(dict.fromkeys(reasons.REFUSALS, 0))
        self.dropped: Counter[str] = Counter(dict.fromkeys(reasons.DROPS, 0))
        self.limited = [0] * (len(LIMIT_NAMES) * len(MODE_NAMES))
        self.bytes_in = 0
        self.bytes_out = 0
        self.durations = [Histogram(DURATION_BUCKETS) for _ in ANSWER_NAMES]
        self.store_latency = Histogram(DURATION_BUCKETS)
        self.batch_sizes = Histogram(SIZE_BUCKETS)
        self.loop_lag = Histogram(DURATION_BUCKETS)
        self.gauges: dict[str, Callable[[], float]] = dict.fromkeys(_GAUGES, lambda: 0)
        self.store_errors: Counter[str] = Counter(dict.fromkeys(reasons.STORE_ERRORS, 0))
        self.store_misfits = 0
        self.rows_missing = 0
        self.access_entries = {f"{which} {verdict}": 0 for which in LISTS for verdict in (ALLOWED, DENIED)}
        self.access_failures: Counter[str] = Counter(dict.fromkeys((FROM_FILE, FROM_STORE, FROM_CACHE), 0))
        self.access_refreshed = 0.0
        self.has_share = False
        self.store_up = 1
        self.chore_failures: Counter[str] = Counter()
        self.hook_refusals: Counter[str] = Counter()
        self.hook_failures: Counter[str] = Counter()
        self.hook_timeouts: Counter[str] = Counter()
        self.hook_drops: Counter[str] = Counter()
        self.hook_durations: dict[str, Histogram] = {}
        self.buffered = 0
        self.replayed = 0
        self.replay_broken = 0
        self.replay_dropped = 0
        self.standby_answers = 0
        self.reaper_runs = 0
        self.reaper_skipped = 0
        self.reaper_failures = 0
        self.reaped = 0
        self.broken = 0
        self.reaper_swarms = 0
        self.reaper_seconds = 0.0
        self.reaper_durations = Histogram(DURATION_BUCKETS)
        self.reaper_last_success = 0.0
        self.unkept: Counter[str] = Counter(dict.fromkeys(reasons.BOUNDS, 0))
        self.restored = 0
        self.snapshots_refused = 0
        self.totals: dict[int, tuple[int, int, int]] = {}

    def add_hook(self, name: str) -> None:
        """Have zeros for a hook, unless it was counted before."""
        for counts in (self.hook_refusals, self.hook_failures, self.hook_timeouts, self.hook_drops):
            counts[name] += 0
        self.hook_durations.setdefault(name, Histogram(DURATION_BUCKETS))

    def snapshot(self) -> dict[str, Any]:
        """Every counter and gauge by its name, as JSON can carry it: the keys of `totals` become strings, and
        `durations` are in the order of ANSWER_NAMES."""
        result: dict[str, Any] = {name: read() for name, read in self.gauges.items()}
        for name in self.__slots__:
            value = getattr(self, name)
            if name == "gauges":
                continue
            result[name] = _plain(value)
        return result


def _plain(value: Any) -> Any:
    """A copy of a counter, histograms as their snapshots."""
    if isinstance(value, Histogram):
        return value.snapshot()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
