"""What a run found: counts, latency percentiles and CPU, as numbers for a program (`to_dict`) or a table (`view`)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import ceil
from typing import Any

from udptracker.core.wire import Action
from udptracker.load.options import LoadOptions
from udptracker.load.tally import KINDS, Tally


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of a set of latencies in microseconds; zeros if there were none.

    They are exact, by nearest rank: p99 is the smallest latency that 99 of 100 do not exceed.
    """

    count: int
    mean: float
    p50: int
    p90: int
    p99: int
    p99_9: int
    max: int

    @classmethod
    def of(cls, *counted: Mapping[int, int]) -> Latency:
        """From maps of microseconds to how often."""
        merged: Counter[int] = Counter()
        for counts in counted:
            merged.update(counts)
        if not merged:
            return cls(0, 0.0, 0, 0, 0, 0, 0)
        values = sorted(merged)
        ranks = list(accumulate(merged[value] for value in values))
        number = ranks[-1]
        mean = sum(value * count for value, count in merged.items()) / number
        p50, p90, p99, p99_9 = (values[bisect_left(ranks, ceil(number * n / 1000))] for n in (500, 900, 990, 999))
        return cls(number, mean, p50, p90, p99, p99_9, values[-1])


@dataclass(frozen=True, slots=True)
class Interval:
    """One second of a run, or what is left of it at the end.

    `second` is its number, from 1; `ended` is when it ended, in seconds of this machine's monotonic clock.
    """

    second: int
    seconds: float
    ended: float
    answered: int
    failed: int
    lost: int
    latency: Latency

    @classmethod
    def of(cls, second: int, tally: Tally) -> Interval:
        """From what all workers counted in it."""
        return cls(
            second, tally.seconds, tally.ended, tally.answered, tally.failed, tally.lost, Latency.of(*tally.latencies)
        )

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """In plain types; a time of the monotonic clock says nothing to whoever reads it later."""
        found = {**asdict(self), "requests_per_second": self.rate}
        del found["ended"]
        return found


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The outcome of a run. sent = answered + failed + late + lost + waiting, of requests after the warm-up.

    Attributes:
        target: address and port, as in `127.0.0.1:6969`.
        interrupted: whether it was ended before its time; then it is of the whole seconds until then.
        seconds: that counted. `rate`: good answers a second in them.
        sent: requests by kind.
        answered: with a good answer. `failed`: with a bad one or an error, see `errors`.
        late: answered after the timeout. `lost`: never answered.
        unsent: requests of an open loop's schedule that the generator gave up, since it could not keep up.
        errors: bad answers and other mishaps by kind.
        checked: announce answers whose every peer was checked.
        peers_per_answer: peers in a good answer to an announce, on average.
        latency: of all good answers, and `latency_by_kind` of each kind; microseconds from when a request was due.
        intervals: second by second.
        generator_cpu: CPU seconds of the generator's processes. `mean_lag`, `worst_lag`: microseconds from when a
            request was due until it was sent (open loop), which are in the latencies.
        tracker_pids: whose CPU was measured; empty if none was found.
        tracker_cpu: CPU seconds of these and their children.
    """

    options: LoadOptions
    target: str
    interrupted: bool
    seconds: float
    rate: float
    sent: dict[str, int]
    answered: int
    failed: int
    late: int
    lost: int
    unsent: int
    errors: dict[str, int]
    checked: int
    peers_per_answer: float
    latency: Latency
    latency_by_kind: dict[str, Latency]
    intervals: tuple[Interval, ...]
    generator_cpu: float
    mean_lag: float
    worst_lag: float
    tracker_pids: tuple[int, ...]
    tracker_cpu: float

    @classmethod
    def of(
        cls,
        options: LoadOptions,
        target: str,
        total: Tally,
        intervals: list[Interval],
        tracker_pids: tuple[int, ...],
        tracker_cpu: float,
        *,
        interrupted: bool = False,
    ) -> LoadReport:
        """From what was counted in all, the answers that came after the end included, and second by second."""
        seconds = sum(interval.seconds for interval in intervals)
        names = [kind.name.lower() for kind in KINDS]
        by_kind = {name: Latency.of(counts) for name, counts in zip(names, total.latencies, strict=True) if counts}
        sent = sum(total.sent)
        announces = sum(total.latencies[KINDS.index(Action.ANNOUNCE)].values())
        return cls(
            options=options,
            target=target,
            interrupted=interrupted,
            seconds=seconds,
            rate=sum(interval.answered for interval in intervals) / seconds,
            sent=dict(zip(names, total.sent, strict=True)),
            answered=total.answered,
            failed=total.failed,
            late=total.late,
            lost=total.lost,
            unsent=total.unsent,
            errors=dict(total.errors.most_common()),
            checked=total.checked,
            peers_per_answer=total.peers / announces if announces else 0.0,
            latency=Latency.of(*total.latencies),
            latency_by_kind=by_kind,
            intervals=tuple(intervals),
            generator_cpu=total.cpu,
            mean_lag=total.lag / sent / 1000 if sent else 0.0,
            worst_lag=total.worst_lag / 1000,
            tracker_pids=tracker_pids,
            tracker_cpu=tracker_cpu,
        )

    @property
    def requests(self) -> int:
        """All that were sent."""
        return sum(self.sent.values())

    @property
    def waiting(self) -> int:
        """Requests whose answers were still awaited when the run was interrupted; else 0."""
        return self.requests - self.answered - self.failed - self.late - self.lost

    @property
    def tracker_cpu_per_request(self) -> float | None:
        """Microseconds, None where the tracker's processes were not found."""
        return self._per_request(self.tracker_cpu) if self.tracker_pids else None

    @property
    def generator_cpu_per_request(self) -> float | None:
        """Microseconds, None where nothing was answered."""
        return self._per_request(self.generator_cpu)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain types, for JSON. Latencies and `_us` are in microseconds, `_seconds` in seconds."""
        return {
            "target": self.target,
            "options": asdict(self.options),
            "interrupted": self.interrupted,
            "seconds": self.seconds,
            "requests_per_second": self.rate,
            "requests": {
                "sent": self.requests,
                "answered": self.answered,
                "failed": self.failed,
                "late": self.late,
                "lost": self.lost,
                "waiting": self.waiting,
                "unsent": self.unsent,
            },
            "sent_by_kind": self.sent,
            "errors": self.errors,
            "answers_checked": self.checked,
            "peers_per_answer": self.peers_per_answer,
            "latency_us": {
                "all": asdict(self.latency),
                **{name: asdict(latency) for name, latency in self.latency_by_kind.items()},
            },
            "generator": {
                "cpu_seconds": self.generator_cpu,
                "cpu_us_per_request": self.generator_cpu_per_request,
                "mean_lag_us": self.mean_lag,
                "worst_lag_us": self.worst_lag,
            },
            "tracker": {
                "pids": self.tracker_pids,
                "cpu_seconds": self.tracker_cpu if self.tracker_pids else None,
                "cpu_us_per_request": self.tracker_cpu_per_request,
            },
            "intervals": [interval.to_dict() for interval in self.intervals],
        }

    def _per_request(self, seconds: float) -> float | None:
        handled = sum(interval.answered + interval.failed for interval in self.intervals)
        return seconds / handled * 1e6 if handled else None
