"""What is counted while a run goes on. A worker hands one over each second; the report adds them up."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from udptracker.core.wire import Action

KINDS = (Action.CONNECT, Action.ANNOUNCE, Action.SCRAPE)


@dataclass(slots=True)
class Tally:
    """Counts of one stretch of time.

    Every request that is `sent` ends in exactly one of: answered well (it has a latency), answered badly (it has an
    error), late, lost. Late ones were counted as lost at first, hence `lost` of a single tally may be negative.

    Attributes:
        seconds: how long the stretch was. `ended`: when it did, in seconds of the monotonic clock.
        cpu: seconds of CPU of the worker in it.
        sent: by kind, as in `KINDS`.
        latencies: by kind, microseconds to how often.
        errors: by what was wrong, answers that fit no request among them.
        unsent: requests of the schedule that were given up, since the generator could not keep up.
        checked: announce answers whose peers were looked at one by one.
        peers: in all good announce answers together.
        lag: microseconds that requests were sent after they were due, in sum. `worst_lag`: at most.
    """

    seconds: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0
    sent: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    latencies: list[defaultdict[int, int]] = field(default_factory=lambda: [defaultdict(int) for _ in KINDS])
    failed: int = 0
    lost: int = 0
    late: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unsent: int = 0
    checked: int = 0
    peers: int = 0
    lag: float = 0.0
    worst_lag: float = 0.0

    @property
    def answered(self) -> int:
        """Requests answered well."""
        return sum(sum(latencies.values()) for latencies in self.latencies)

    def add(self, other: Tally) -> None:
        """Take in what another counted at the same time, or after this one; its times are left to the caller."""
        self.cpu += other.cpu
        self.sent = [a + b for a, b in zip(self.sent, other.sent, strict=True)]
        for mine, others in zip(self.latencies, other.latencies, strict=True):
            for microseconds, count in others.items():
                mine[microseconds] += count
        self.failed += other.failed
        self.lost += other.lost
        self.late += other.late
        self.errors.update(other.errors)
        self.unsent += other.unsent
        self.checked += other.checked
        self.peers += other.peers
        self.lag += other.lag
        self.worst_lag = max(self.worst_lag, other.worst_lag)
