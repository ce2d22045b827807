"""Counters as Prometheus text: pure, from snapshots of one process or of several.

Every family is a row of one table, from which the exposition and the table in the README are both made.
Values are summed over the workers, save for what workers share or cannot add up: of what the store holds the
largest figure counts, of `store_up` the worst, and the last reaper run is the latest of them all.

Histogram buckets are the powers of two of `counters`. A bucket of durations ends at 2**i microseconds, given
in seconds: durations are cut to whole microseconds, so all below 2**i is counted there. A bucket of sizes
ends at 2**i - 1, the largest size in it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from udptracker import __version__, build
from udptracker.core.counters import ACTION_NAMES, ANSWER_NAMES, Counters
from udptracker.core.swarm import Totals

Snapshot = Mapping[str, Any]
"""What `Counters.snapshot` returns, or its copy by way of JSON."""

_NOT_ADDED: Final = {"store_up", "totals", "reaper_last_success", "reaper_seconds"}


def exposition(snapshots: Mapping[str, Snapshot], kernel_drops: int, accept: str = "") -> tuple[bytes, str]:
    """The body of `/metrics` and its content type.

    Args:
        snapshots: of every worker that answered, by its name ("0", "1", ...).
        kernel_drops: datagrams the kernel dropped for full receive buffers, of all workers.
        accept: the Accept header of who asks; OpenMetrics by it, else Prometheus' text format.

    Families by worker have samples only if there are several. `process_*` are of the process that renders.
    """
    registry = CollectorRegistry()
    registry.register(_Families(_Scrape(snapshots, merged(snapshots.values()), kernel_drops)))
    ProcessCollector(registry=registry)
    encode, content_type = _encoder(accept)
    return encode(registry), content_type


def merged(snapshots: Collection[Snapshot]) -> dict[str, Any]:
    """One snapshot that stands for all of them. Of none, it is zeros and a store that is not up."""
    result = Counters().snapshot()
    for name in result.keys() - _NOT_ADDED:
        for snapshot in snapshots:
            result[name] = _add(result[name], snapshot[name])
    result["store_up"] = min((snapshot["store_up"] for snapshot in snapshots), default=0)
    for snapshot in snapshots:
        for family, totals in snapshot["totals"].items():
            result["totals"][family] = tuple(map(max, totals, result["totals"].get(family, totals)))
        if snapshot["reaper_last_success"] > result["reaper_last_success"]:
            result["reaper_last_success"] = snapshot["reaper_last_success"]
            result["reaper_seconds"] = snapshot["reaper_seconds"]
    return result


def metric_rows() -> list[tuple[str, str, str]]:
    """(name, type, help) of every family that is ours, in the order of the exposition."""
    return [(family.name, family.kind, family.help) for family in _FAMILIES]


def metrics_table() -> str:
    """The same as a Markdown table, labels with the names, for the README."""
    lines = ["| Metric | Type | Meaning |", "|---|---|---|"]
    for family in _FAMILIES:
        labels = f"{{{', '.join(family.labels)}}}" if family.labels else ""
        lines.append(f"| `{family.name}{labels}` | {family.kind} | {family.help} |")
    return "\n".join(lines) + "\n"


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # what the library raises of a `version` that is no number
        return choose_encoder("")


def _add(left: Any, right: Any) -> Any:
    """The sum of two values of a snapshot: of numbers, of lists place by place, of mappings key by key."""
    if isinstance(left, dict):
        return {**left, **right, **{key: _add(left[key], right[key]) for key in left.keys() & right.keys()}}
    if isinstance(left, list):
        return [_add(*pair) for pair in zip(left, right, strict=True)]
    return left + right


class _Scrape(NamedTuple):
    workers: Mapping[str, Snapshot]
    sums: Snapshot
    kernel_drops: int


_Samples = Iterable[tuple[Sequence[str], tuple[Any, ...]]]
"""Label values, and what the family's `add_metric` takes after them: (value,), or (buckets, sum)."""

_Reader = Callable[[_Scrape], _Samples]


class _Family(NamedTuple):
    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: _Reader


class _Families(Collector):
    """One scrape as a registry wants it."""

    def __init__(self, scrape: _Scrape) -> None:
        self._scrape = scrape

    def describe(self) -> Iterator[Metric]:
        """Every family without its samples; a registry asks to tell duplicates."""
        return (_KINDS[family.kind](family.name, family.help) for family in _FAMILIES)

    def collect(self) -> Iterator[Metric]:
        for family in _FAMILIES:
            metric = _KINDS[family.kind](family.name, family.help, labels=family.labels)
            for labels, value in family.read(self._scrape):
                metric.add_metric(labels, *value)
            yield metric


_KINDS: Final[Mapping[str, Callable[..., Any]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _sum(key: str) -> _Reader:
    return lambda scrape: [((), (scrape.sums[key],))]


def _by_key(key: str) -> _Reader:
    return lambda scrape: [((name,), (count,)) for name, count in sorted(scrape.sums[key].items())]


def _total(field: str) -> _Reader:
    place = Totals._fields.index(field)
    return lambda scrape: [
        ((f"ipv{family}",), (totals[place],)) for family, totals in sorted(scrape.sums["totals"].items())
    ]


def _by_worker(read: Callable[[Snapshot], float]) -> _Reader:
    def samples(scrape: _Scrape) -> _Samples:
        if len(scrape.workers) > 1:
            for name, snapshot in scrape.workers.items():
                yield (name,), (read(snapshot),)

    return samples


def _requests(scrape: _Scrape) -> _Samples:
    for place, count in enumerate(scrape.sums["requests"]):
        yield (ACTION_NAMES[place // 2], "ipv6" if place % 2 else "ipv4"), (count,)


def _seconds(key: str) -> _Reader:
    return lambda scrape: [((), _histogram(scrape.sums[key], _micro, 1e6))]


def _durations(scrape: _Scrape) -> _Samples:
    for name, counted in zip(ANSWER_NAMES, scrape.sums["durations"], strict=True):
        yield (name,), _histogram(counted, _micro, 1e6)


def _micro(bits: int) -> float:
    """Seconds that all of so many bits of microseconds are below."""
    return 2.0**bits / 1e6


def _sizes(key: str) -> _Reader:
    return lambda scrape: [((), _histogram(scrape.sums[key], lambda i: 2.0**i - 1, 1))]


def _histogram(counted: Snapshot, upper: Callable[[int], float], unit: float) -> tuple[list[tuple[str, int]], float]:
    """Buckets and sum of a `counters.Histogram`: bucket `i` ends at `upper(i)`, the last takes all the rest."""
    cumulative = list(accumulate(counted["counts"]))
    buckets = [(str(upper(i)), count) for i, count in enumerate(cumulative[:-1])]
    return [*buckets, ("+Inf", cumulative[-1])], counted["total"] / unit


def _family(kind: str, name: str, help_text: str, read: _Reader, *labels: str) -> _Family:
    return _Family(f"udptracker_{name}", kind, help_text, labels, read)


_FAMILIES: Final = (
    _family(
        "counter",
        "requests_total",
        "Well-formed requests, by action and IP family.",
        _requests,
        "action",
        "family",
    ),
    _family("counter", "refusals_total", "Error responses sent, by reason.", _by_key("refused"), "reason"),
    _family("counter", "drops_total", "Datagrams left without an answer, by reason.", _by_key("dropped"), "reason"),
    _family(
        "counter",
        "kernel_drops_total",
        "Datagrams the kernel dropped because a socket's receive buffer was full.",
        lambda scrape: [((), (scrape.kernel_drops,))],
    ),
    _family("counter", "received_bytes_total", "UDP payload received.", _sum("bytes_in")),
    _family("counter", "sent_bytes_total", "UDP payload sent.", _sum("bytes_out")),
    _family(
        "histogram",
        "request_duration_seconds",
        "From when a datagram was read to its answer, by the action of the answer.",
        _durations,
        "action",
    ),
    _family(
        "histogram",
        "store_batch_duration_seconds",
        "How long the store took for a batch.",
        _seconds("store_latency"),
    ),
    _family("histogram", "store_batch_size", "Operations in a batch for the store.", _sizes("batch_sizes")),
    _family(
        "histogram",
        "loop_lag_seconds",
        "How late the event loop comes to what is due, sampled ten times a second.",
        _seconds("loop_lag"),
    ),
    _family("gauge", "queue_depth", "Requests that wait for the store.", _sum("queue_depth")),
    _family("counter", "store_errors_total", "Operations that failed, by kind.", _by_key("store_errors"), "kind"),
    _family(
        "counter",
        "store_misfits_total",
        "Download counts in the store that no response has room for, or that are no numbers.",
        _sum("store_misfits"),
    ),
    _family("gauge", "store_up", "1 if the store answers every worker, else 0.", _sum("store_up")),
    _family(
        "gauge",
        "standby_buffered_peers",
        "Peers kept to be written to a store that is away.",
        _sum("buffered"),
    ),
    _family("counter", "standby_replayed_total", "Peers written to a store that came back.", _sum("replayed")),
    _family(
        "counter",
        "standby_dropped_total",
        "Announces refused because the stand-in was full.",
        _sum("replay_dropped"),
    ),
    _family(
        "counter",
        "standby_broken_total",
        "Times a broken value in the store kept a peer from being written as a whole.",
        _sum("replay_broken"),
    ),
    _family("counter", "standby_answers_total", "Requests answered without the store.", _sum("standby_answers")),
    _family("gauge", "swarms", "Swarms in the store, by IP family.", _total("swarms"), "family"),
    _family("gauge", "seeders", "Seeders in the store, by IP family.", _total("seeders"), "family"),
    _family("gauge", "leechers", "Leechers in the store, by IP family.", _total("leechers"), "family"),
    _family("counter", "reaper_runs_total", "Reaper runs that were completed.", _sum("reaper_runs")),
    _family("counter", "reaper_skipped_total", "Reaper runs left to another node's lease.", _sum("reaper_skipped")),
    _family("counter", "reaper_failures_total", "Reaper runs that were cut off.", _sum("reaper_failures")),
    _family("counter", "reaper_removed_peers_total", "Stale peers the reaper removed.", _sum("reaped")),
    _family("counter", "reaper_broken_entries_total", "Unreadable entries the reaper removed.", _sum("broken")),
    _family("counter", "reaper_removed_swarms_total", "Emptied swarms the reaper removed.", _sum("reaper_swarms")),
    _family("gauge", "reaper_duration_seconds", "How long the last reaper run took.", _sum("reaper_seconds")),
    _family(
        "gauge",
        "reaper_last_success_timestamp_seconds",
        "Unix time the last reaper run ended; 0 before the first.",
        _sum("reaper_last_success"),
    ),
    _family(
        "counter",
        "chore_failures_total",
        "Runs of what a process does besides answering that failed in an unforeseen way, by chore.",
        _by_key("chore_failures"),
        "chore",
    ),
    _family("gauge", "workers", "Worker processes that answered this scrape.", lambda s: [((), (len(s.workers),))]),
    _family(
        "counter",
        "worker_requests_total",
        "Well-formed requests, by worker; only with several.",
        _by_worker(lambda snapshot: sum(snapshot["requests"])),
        "worker",
    ),
    _family(
        "gauge",
        "worker_queue_depth",
        "Requests that wait for the store, by worker; only with several.",
        _by_worker(lambda snapshot: snapshot["queue_depth"]),
        "worker",
    ),
    _family(
        "gauge",
        "worker_store_up",
        "1 if the store answers the worker, else 0; only with several.",
        _by_worker(lambda snapshot: snapshot["store_up"]),
        "worker",
    ),
    _family(
        "gauge",
        "build_info",
        "Always 1; the labels tell what runs.",
        lambda _: [((__version__, platform.python_version(), build.kind()), (1,))],
        "version",
        "python",
        "build",
    ),
)
