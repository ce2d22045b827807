"""What a metric is here: a row with a name and what reads its samples from a scrape, pure.

Histogram buckets are the powers of two of `counters`. A bucket of durations ends at 2**i microseconds, in whatever
unit they are given: durations are cut to whole microseconds, so all below 2**i is counted there. A bucket of sizes
ends at 2**i - 1, the largest size in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from udptracker.observe.sums import Snapshot


class Scrape(NamedTuple):
    """What is exported at one moment: snapshots of each worker by its name, their sums, what the kernel dropped,
    reloads of the configuration by what they came to, figures of the last snapshot of the peers, and failures of chores
    that are none of the workers'."""

    workers: Mapping[str, Snapshot]
    sums: Snapshot
    kernel_drops: int
    reloads: Mapping[str, int]
    saved: Mapping[str, float]
    chores: Mapping[str, int]


Samples = Iterable[tuple[Sequence[str], tuple[Any, ...]]]
"""Label values, and what the family's `add_metric` takes after them: (value,), or (buckets, sum)."""

Reader = Callable[[Scrape], Samples]


class Family(NamedTuple):
    """A row of the table of metrics: `kind` is one of Prometheus' types."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Reader


class Families(Collector):
    """Some families of one scrape as a registry wants them."""

    def __init__(self, families: Iterable[Family], scrape: Scrape) -> None:
        self._families = tuple(families)
        self._scrape = scrape

    def describe(self) -> Iterator[Metric]:
        """Every family without its samples; a registry asks to tell duplicates."""
        return (_KINDS[family.kind](family.name, family.help) for family in self._families)

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = _KINDS[family.kind](family.name, family.help, labels=family.labels)
            for labels, value in family.read(self._scrape):
                metric.add_metric(labels, *value)
            yield metric


_KINDS: Final[Mapping[str, Callable[..., Any]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def summed(key: str) -> Reader:
    """The sum of a counter or gauge."""
    return lambda scrape: [((), (scrape.sums[key],))]


def by_key(key: str) -> Reader:
    """A sample for each reason of a counter."""
    return lambda scrape: [((name,), (count,)) for name, count in sorted(scrape.sums[key].items())]


def by_worker(read: Callable[[Snapshot], float]) -> Reader:
    """A sample for each worker."""
    return lambda scrape: [((name,), (read(snapshot),)) for name, snapshot in scrape.workers.items()]


def durations(counted: Snapshot, per_second: int = 1) -> tuple[list[tuple[str, int]], float]:
    """Buckets and sum of a histogram of microseconds, in seconds or, with 1000 of them in one, in milliseconds."""
    unit = 1e6 / per_second
    return _histogram(counted, lambda bits: 2.0**bits / unit, unit)


def sizes(counted: Snapshot) -> tuple[list[tuple[str, int]], float]:
    """Buckets and sum of a histogram of whole numbers."""
    return _histogram(counted, lambda bits: 2.0**bits - 1, 1)


def _histogram(counted: Snapshot, upper: Callable[[int], float], unit: float) -> tuple[list[tuple[str, int]], float]:
    """Buckets and sum of a `counters.Histogram`: bucket `i` ends at `upper(i)`, the last takes all the rest."""
    cumulative = list(accumulate(counted["counts"]))
    buckets = [(str(upper(i)), count) for i, count in enumerate(cumulative[:-1])]
    return [*buckets, ("+Inf", cumulative[-1])], counted["total"] / unit
