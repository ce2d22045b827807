"""What `/stats.json` says: the counters as they are, how fast they went a moment ago, and how fast over ten minutes.

Every `SAMPLE_SECONDS` a sample is taken, whether or not anybody asks. Recent rates are between now and the sample
before the last; the history has a point for what happened between two. docs/stats.md tells every field.
"""

from __future__ import annotations

import platform
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from udptracker import __version__
from udptracker.config import Settings
from udptracker.core.busiest import BusySwarm
from udptracker.core.counters import ACTION_NAMES, ANSWER_NAMES
from udptracker.core.swarm import Totals
from udptracker.observe.sums import Snapshot, answering, merged

SAMPLE_SECONDS: Final = 5.0
HISTORY_POINTS: Final = 120
"""Ten minutes."""

_TELLING: Final = (
    "announce_interval",
    "interval_jitter",
    "udp.default_numwant",
    "udp.max_numwant",
    "udp.max_pending",
    "udp.connection_id_lifetime",
    "storage.config.peer_lifetime",
    "storage.config.gc_interval",
)
"""Settings that say how this tracker differs from another, by path; none of them is a secret."""


class _Sample(NamedTuple):
    """All counters at one moment, by worker and summed."""

    at: float
    workers: Mapping[str, Snapshot]
    sums: Snapshot
    kernel_drops: int


class Status:
    """Keeps the history. All its methods are called in one thread.

    Args:
        facts: what does not change while the process runs (see `facts`); asked for when somebody asks.
        has_standby: whether the store has a stand-in.
        snapshots: the counters of every worker that ever answered, by its name.
        kernel_drops: datagrams the kernel dropped for full receive buffers.
        ready: whether the store takes announces, and a word on it.
        busiest: the swarms that announce most.
        clock, wall: monotonic and Unix seconds.
    """

    def __init__(
        self,
        facts: Callable[[], Mapping[str, Any]],
        *,
        has_standby: bool,
        snapshots: Callable[[], Mapping[str, Snapshot]],
        kernel_drops: Callable[[], int],
        ready: Callable[[], tuple[bool, str]],
        busiest: Callable[[], Sequence[BusySwarm]],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._facts = facts
        self._has_standby = has_standby
        self._snapshots = snapshots
        self._kernel_drops = kernel_drops
        self._ready = ready
        self._busiest = busiest
        self._clock = clock
        self._wall = wall
        self._began, self._started = clock(), wall()
        self._samples: deque[_Sample] = deque(maxlen=2)
        self._history: deque[dict[str, float | None]] = deque(maxlen=HISTORY_POINTS)

    def sample(self) -> None:
        """Take a sample; to be called every `SAMPLE_SECONDS`."""
        sample = self._take()
        if not answering(sample.workers):  # nobody answers: what is missing is no zero
            return
        if self._samples:
            self._history.append(_point(self._samples[-1], sample))
        self._samples.append(sample)

    def stats(self) -> dict[str, Any]:
        """What `/stats.json` says, now."""
        now = self._take()
        answers = bool(answering(now.workers))
        if not answers and self._samples:
            now = self._samples[-1]
        then = self._samples[0] if self._samples else now
        sums = now.sums
        is_ready, word = self._ready() if answers else (False, "no process of it answers")
        return {
            **self._facts(),
            "started": self._started,
            "now": self._wall(),
            "uptime_seconds": self._clock() - self._began,
            "requests": _by_action_and_family(sums["requests"]),
            "refused": sums["refused"],
            "dropped": sums["dropped"],
            "kernel_drops": now.kernel_drops,
            "received_bytes": sums["bytes_in"],
            "sent_bytes": sums["bytes_out"],
            "swarms": {f"ipv{family}": Totals(*totals)._asdict() for family, totals in sorted(sums["totals"].items())},
            "store": {
                "up": answers and is_ready and bool(sums["store_up"]),
                "word": word,
                "queue_depth": sums["queue_depth"],
                "errors": sums["store_errors"],
                "standby": _standby(sums) if self._has_standby else None,
            },
            "reaper": {
                "runs": sums["reaper_runs"],
                "left_to_others": sums["reaper_skipped"],
                "cut_off": sums["reaper_failures"],
                "removed_peers": sums["reaped"],
                "removed_swarms": sums["reaper_swarms"],
                "broken_entries": sums["broken"],
                "last_seconds": sums["reaper_seconds"],
                "last_ended": sums["reaper_last_success"] or None,
            },
            "recent": _recent(then, now),
            "workers": [_worker(name, then, now) for name in answering(now.workers)] if answers else [],
            "history": {
                "seconds": SAMPLE_SECONDS,
                **{key: [point[key] for point in self._history] for key in _point(now, now)},
            },
            "busiest": [swarm._asdict() for swarm in (self._busiest() if answers else ())],
        }

    def _take(self) -> _Sample:
        taken = self._snapshots()
        return _Sample(self._clock(), taken, merged(taken.values()), self._kernel_drops())


def facts(settings: Settings, build: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """What does not change while the process runs.

    Args:
        build: `compiled` or `plain`.
        written: the settings as a file has them, without secrets.
    """
    return {
        "version": __version__,
        "build": build,
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "storage": settings.storage.describe(),
        "listen": list(settings.udp.addr),
        "settings": {path: _at(written, path) for path in _TELLING},
    }


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Seconds within which this share of the durations lie that a `counters.Histogram` of microseconds counted; None
    of none. Within a bucket, which is a power of two, they are taken as evenly spread."""
    rank = share * sum(counts)
    if not rank:
        return None
    below = 0
    for bits, count in enumerate(counts):
        if count and below + count >= rank:
            low = 1 << (bits - 1) if bits else 0
            return (low + ((1 << bits) - low) * (rank - below) / count) / 1e6
        below += count
    raise AssertionError("a share is at most 1")


def _at(tree: Mapping[str, Any], path: str) -> Any:
    for step in path.split("."):
        tree = tree[step]
    return tree


def _standby(sums: Snapshot) -> dict[str, Any]:
    return {
        "buffered_peers": sums["buffered"],
        "answers": sums["standby_answers"],
        "replayed": sums["replayed"],
        "refused": sums["replay_dropped"],
    }


def _by_action_and_family(requests: Sequence[int]) -> dict[str, dict[str, int]]:
    return {
        name: {"ipv4": requests[2 * place], "ipv6": requests[2 * place + 1]} for place, name in enumerate(ACTION_NAMES)
    }


def _recent(then: _Sample, now: _Sample) -> dict[str, Any]:
    """Rates a second and latencies in seconds between two samples."""
    durations = [_gain(*pair) for pair in zip(_counts(then), _counts(now), strict=True)]
    return {
        "seconds": now.at - then.at,
        "requests": _rates_by_action(then, now),
        "refused": _rates(then, now, "refused"),
        "dropped": _rates(then, now, "dropped"),
        "kernel_drops": _rate(then, now, then.kernel_drops, now.kernel_drops),
        "received_bytes": _rate(then, now, then.sums["bytes_in"], now.sums["bytes_in"]),
        "sent_bytes": _rate(then, now, then.sums["bytes_out"], now.sums["bytes_out"]),
        "latency": {
            "all": _quantiles(_together(durations)),
            **{name: _quantiles(counts) for name, counts in zip(ANSWER_NAMES, durations, strict=True)},
        },
        **{
            name: _quantiles(_gain(then.sums[name]["counts"], now.sums[name]["counts"]))
            for name in ("store_latency", "loop_lag")
        },
    }


def _point(then: _Sample, now: _Sample) -> dict[str, float | None]:
    """A point of the history: what happened between two samples."""
    durations = _gain(_together(_counts(then)), _together(_counts(now)))
    return {
        **_rates_by_action(then, now),
        "refused": sum(_rates(then, now, "refused").values()),
        "dropped": sum(_rates(then, now, "dropped").values()) + _rate(then, now, then.kernel_drops, now.kernel_drops),
        "p50": quantile(durations, 0.5),
        "p99": quantile(durations, 0.99),
        "store_up": now.sums["store_up"],
    }


def _worker(name: str, then: _Sample, now: _Sample) -> dict[str, Any]:
    snapshot = now.workers[name]
    before = then.workers.get(name, snapshot)
    return {
        "name": name,
        "requests": _rate(then, now, sum(before["requests"]), sum(snapshot["requests"])),
        "cpu": _rate(then, now, before["cpu_seconds"], snapshot["cpu_seconds"]),
        "resident_bytes": snapshot["resident_bytes"],
        "tasks": snapshot["tasks"],
        "queue_depth": snapshot["queue_depth"],
        "store_up": bool(snapshot["store_up"]),
    }


def _counts(sample: _Sample) -> list[list[int]]:
    """The counts of durations by answer."""
    return [histogram["counts"] for histogram in sample.sums["durations"]]


def _together(counts: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]


def _gain(then: Sequence[int], now: Sequence[int]) -> list[int]:
    return [max(after - before, 0) for before, after in zip(then, now, strict=True)]


def _quantiles(counts: Sequence[int]) -> dict[str, float | None]:
    return {"p50": quantile(counts, 0.5), "p99": quantile(counts, 0.99)}


def _rates_by_action(then: _Sample, now: _Sample) -> dict[str, float]:
    before, after = then.sums["requests"], now.sums["requests"]
    return {
        name: _rate(then, now, sum(before[2 * place : 2 * place + 2]), sum(after[2 * place : 2 * place + 2]))
        for place, name in enumerate(ACTION_NAMES)
    }


def _rates(then: _Sample, now: _Sample, key: str) -> dict[str, float]:
    return {reason: _rate(then, now, then.sums[key].get(reason, 0), count) for reason, count in now.sums[key].items()}


def _rate(then: _Sample, now: _Sample, before: float, after: float) -> float:
    """A second; a counter that went back, as when a worker's last words were lost, stood still."""
    return max(after - before, 0) / (now.at - then.at) if now.at > then.at else 0.0
