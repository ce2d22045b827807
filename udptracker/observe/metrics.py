"""Counters as Prometheus text: pure, from snapshots of one process or of several.

Every family is a row of one table, from which the exposition and the table in docs/watching.md are both made.
Values are summed over the workers as `sums` has it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from udptracker import __version__, build
from udptracker.core.counters import ACTION_NAMES, ANSWER_NAMES, LIMIT_NAMES, MODE_NAMES
from udptracker.core.swarm import Totals
from udptracker.observe.family import (
    Families,
    Family,
    Reader,
    Samples,
    Scrape,
    by_key,
    by_worker,
    durations,
    sizes,
    summed,
)
from udptracker.observe.sums import Snapshot, answering, merged


def exposition(
    snapshots: Mapping[str, Snapshot],
    kernel_drops: int,
    accept: str = "",
    also: Iterable[Family] = (),
    *,
    reloads: Mapping[str, int] | None = None,
    saved: Mapping[str, float] | None = None,
    chores: Mapping[str, int] | None = None,
) -> tuple[bytes, str]:
    """The body of `/metrics` and its content type.

    Args:
        snapshots: of every worker that ever answered, by its name ("0", "1", ...).
        kernel_drops: datagrams the kernel dropped for full receive buffers, of all workers.
        accept: the Accept header of who asks; OpenMetrics by it, else Prometheus' text format.
        also: families that are exported besides ours.
        reloads: of the configuration, by what they came to.
        saved: `time`, `seconds`, `peers` and `failures` of snapshots that were written.
        chores: failures of chores that are none of the workers', by name.

    `process_*` are of the process that renders.
    """
    registry = CollectorRegistry()
    scrape = Scrape(snapshots, merged(snapshots.values()), kernel_drops, reloads or {}, saved or {}, chores or {})
    registry.register(Families((*_FAMILIES, *also), scrape))
    ProcessCollector(registry=registry)
    encode, content_type = _encoder(accept)
    return encode(registry), content_type


def metric_rows() -> list[tuple[str, str, str]]:
    """(name, type, help) of every family that is ours, in the order of the exposition."""
    return [(family.name, family.kind, family.help) for family in _FAMILIES]


def metrics_table() -> str:
    """The same as a Markdown table, labels with the names, for docs/watching.md."""
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


def _total(field: str) -> Reader:
    place = Totals._fields.index(field)
    return lambda scrape: [
        ((f"ipv{family}",), (totals[place],)) for family, totals in sorted(scrape.sums["totals"].items())
    ]


def _requests(scrape: Scrape) -> Samples:
    for place, count in enumerate(scrape.sums["requests"]):
        yield (ACTION_NAMES[place // 2], "ipv6" if place % 2 else "ipv4"), (count,)


def _limited(scrape: Scrape) -> Samples:
    for place, count in enumerate(scrape.sums["limited"]):
        yield (LIMIT_NAMES[place // 2], MODE_NAMES[place % 2]), (count,)


def _chores(scrape: Scrape) -> Samples:
    of_workers = scrape.sums["chore_failures"]
    for name in sorted({*of_workers, *scrape.chores}):
        yield (name,), (of_workers.get(name, 0) + scrape.chores.get(name, 0),)


def _seconds(key: str) -> Reader:
    return lambda scrape: [((), durations(scrape.sums[key]))]


def _answers(scrape: Scrape) -> Samples:
    for name, counted in zip(ANSWER_NAMES, scrape.sums["durations"], strict=True):
        yield (name,), durations(counted)


def _hooks(scrape: Scrape) -> Samples:
    for name, counted in sorted(scrape.sums["hook_durations"].items()):
        yield (name,), durations(counted)


def _saved(figure: str) -> Reader:
    return lambda scrape: [((), (scrape.saved.get(figure, 0),))]


def _snapshot_failures(scrape: Scrape) -> Samples:
    yield ("read",), (scrape.sums["snapshots_refused"],)
    yield ("write",), (scrape.saved.get("failures", 0),)


def _family(kind: str, name: str, help_text: str, read: Reader, *labels: str) -> Family:
    return Family(f"udptracker_{name}", kind, help_text, labels, read)


_FAMILIES: Final = (
    _family(
        "counter",
        "requests_total",
        "Well-formed requests, by action and IP family.",
        _requests,
        "action",
        "family",
    ),
    _family("counter", "refusals_total", "Error responses sent, by reason.", by_key("refused"), "reason"),
    _family("counter", "drops_total", "Datagrams left without an answer, by reason.", by_key("dropped"), "reason"),
    _family(
        "counter",
        "limited_total",
        "Requests over a limit on their source, by limit; in mode `enforce` they were refused or dropped for it.",
        _limited,
        "limit",
        "mode",
    ),
    _family(
        "counter",
        "kernel_drops_total",
        "Datagrams the kernel dropped because a socket's receive buffer was full.",
        lambda scrape: [((), (scrape.kernel_drops,))],
    ),
    _family("counter", "received_bytes_total", "UDP payload received.", summed("bytes_in")),
    _family("counter", "sent_bytes_total", "UDP payload sent.", summed("bytes_out")),
    _family(
        "histogram",
        "request_duration_seconds",
        "From when a datagram was read to its answer, by the action of the answer.",
        _answers,
        "action",
    ),
    _family(
        "histogram",
        "store_batch_duration_seconds",
        "How long the store took for a batch.",
        _seconds("store_latency"),
    ),
    _family(
        "histogram",
        "store_batch_size",
        "Operations in a batch for the store.",
        lambda scrape: [((), sizes(scrape.sums["batch_sizes"]))],
    ),
    _family(
        "histogram",
        "loop_lag_seconds",
        "How late the event loop comes to what is due, sampled ten times a second, once a second while nobody asks.",
        _seconds("loop_lag"),
    ),
    _family(
        "gauge",
        "queue_depth",
        "Requests that wait for the store, or on memory for another worker.",
        summed("queue_depth"),
    ),
    _family("counter", "store_errors_total", "Operations that failed, by kind.", by_key("store_errors"), "kind"),
    _family(
        "counter",
        "store_misfits_total",
        "Download counts in the store that no response has room for, or that are no numbers.",
        summed("store_misfits"),
    ),
    _family(
        "counter",
        "unkept_announces_total",
        "Announces that were answered and not kept, since the store had as many as this bound allows; only on memory.",
        by_key("unkept"),
        "bound",
    ),
    _family(
        "counter",
        "scrape_rows_missing_total",
        "Rows of scrapes that are zeros because the worker that has the swarm did not answer; only on memory.",
        summed("rows_missing"),
    ),
    _family("gauge", "store_up", "1 if the store answers every worker, else 0.", summed("store_up")),
    _family(
        "gauge",
        "standby_buffered_peers",
        "Peers kept to be written to a store that is away.",
        summed("buffered"),
    ),
    _family("counter", "standby_replayed_total", "Peers written to a store that came back.", summed("replayed")),
    _family(
        "counter",
        "standby_dropped_total",
        "Announces refused because the stand-in was full.",
        summed("replay_dropped"),
    ),
    _family(
        "counter",
        "standby_broken_total",
        "Times a broken value in the store kept a peer from being written as a whole.",
        summed("replay_broken"),
    ),
    _family("counter", "standby_answers_total", "Requests answered without the store.", summed("standby_answers")),
    _family("gauge", "swarms", "Swarms in the store, by IP family.", _total("swarms"), "family"),
    _family("gauge", "seeders", "Seeders in the store, by IP family.", _total("seeders"), "family"),
    _family("gauge", "leechers", "Leechers in the store, by IP family.", _total("leechers"), "family"),
    _family("counter", "reaper_runs_total", "Reaper runs that were completed.", summed("reaper_runs")),
    _family("counter", "reaper_skipped_total", "Reaper runs left to another node's lease.", summed("reaper_skipped")),
    _family("counter", "reaper_failures_total", "Reaper runs that were cut off.", summed("reaper_failures")),
    _family("counter", "reaper_removed_peers_total", "Stale peers the reaper removed.", summed("reaped")),
    _family("counter", "reaper_broken_entries_total", "Unreadable entries the reaper removed.", summed("broken")),
    _family("counter", "reaper_removed_swarms_total", "Emptied swarms the reaper removed.", summed("reaper_swarms")),
    _family("gauge", "reaper_duration_seconds", "How long the last reaper run took.", summed("reaper_seconds")),
    _family(
        "gauge",
        "reaper_last_success_timestamp_seconds",
        "Unix time the last reaper run ended; 0 before the first.",
        summed("reaper_last_success"),
    ),
    _family(
        "gauge",
        "access_entries",
        "Entries of the lists that decide who may announce, from all sources, by list and verdict.",
        lambda scrape: [(name.split(" "), (count,)) for name, count in sorted(scrape.sums["access_entries"].items())],
        "list",
        "verdict",
    ),
    _family(
        "gauge",
        "access_refreshed_timestamp_seconds",
        "Unix time at which the shared lists of the worker that is furthest behind were last known to be up to date; "
        "0 where there are none.",
        summed("access_refreshed"),
    ),
    _family(
        "counter",
        "access_failures_total",
        "Times that a list could not be brought up to date, by what it is read from.",
        by_key("access_failures"),
        "source",
    ),
    _family(
        "gauge",
        "snapshot_last_success_timestamp_seconds",
        "Unix time the last snapshot of the peers was in place; 0 before the first of this process. Only on memory.",
        _saved("time"),
    ),
    _family("gauge", "snapshot_duration_seconds", "How long the last snapshot took.", _saved("seconds")),
    _family("gauge", "snapshot_peers", "Peers in the last snapshot.", _saved("peers")),
    _family("counter", "snapshot_restored_peers_total", "Peers read from a snapshot.", summed("restored")),
    _family(
        "counter",
        "snapshot_failures_total",
        "Snapshots that could not be written, or not be trusted when they were read, by which of the two.",
        _snapshot_failures,
        "step",
    ),
    _family(
        "counter",
        "chore_failures_total",
        "Runs of what a process does besides answering that failed in an unforeseen way, by chore.",
        _chores,
        "chore",
    ),
    _family("gauge", "hook_queue_depth", "Announces that wait for hooks that ask elsewhere.", summed("undecided")),
    _family("counter", "hook_refusals_total", "Announces that a hook refused.", by_key("hook_refusals"), "hook"),
    _family(
        "counter",
        "hook_failures_total",
        "Announces that a hook did not decide, or take, because it failed.",
        by_key("hook_failures"),
        "hook",
    ),
    _family(
        "counter",
        "hook_timeouts_total",
        "Announces that a hook did not decide, or take, in time.",
        by_key("hook_timeouts"),
        "hook",
    ),
    _family(
        "counter",
        "hook_drops_total",
        "Announces that a hook was not shown, since too many waited for it.",
        by_key("hook_drops"),
        "hook",
    ),
    _family(
        "histogram",
        "hook_duration_seconds",
        "How long a hook that may ask elsewhere took for what it was given at once.",
        _hooks,
        "hook",
    ),
    _family(
        "counter",
        "config_reloads_total",
        "Reloads of the configuration, by what they came to.",
        lambda scrape: [((result,), (count,)) for result, count in scrape.reloads.items()],
        "result",
    ),
    _family(
        "gauge",
        "workers",
        "Worker processes that answered this scrape.",
        lambda scrape: [((), (len(answering(scrape.workers)),))],
    ),
    _family(
        "counter",
        "worker_requests_total",
        "Well-formed requests, by worker.",
        by_worker(lambda snapshot: sum(snapshot["requests"])),
        "worker",
    ),
    _family(
        "gauge",
        "worker_queue_depth",
        "Requests that wait for the store, or on memory for another worker, by worker.",
        by_worker(lambda snapshot: snapshot["queue_depth"]),
        "worker",
    ),
    _family(
        "gauge",
        "worker_store_up",
        "1 if the store answers the worker, else 0.",
        by_worker(lambda snapshot: snapshot["store_up"]),
        "worker",
    ),
    _family(
        "counter",
        "worker_cpu_seconds_total",
        "CPU time used, by worker.",
        by_worker(lambda snapshot: snapshot["cpu_seconds"]),
        "worker",
    ),
    _family(
        "gauge",
        "worker_resident_bytes",
        "Memory in use, by worker.",
        by_worker(lambda snapshot: snapshot["resident_bytes"]),
        "worker",
    ),
    _family(
        "gauge", "worker_tasks", "Tasks on the event loop, by worker.", by_worker(lambda it: it["tasks"]), "worker"
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
