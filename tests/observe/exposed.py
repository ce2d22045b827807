"""Counters, and what Prometheus's own parser reads of their exposition."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from udptracker.core.counters import Counters
from udptracker.observe.metrics import exposition
from udptracker.observe.sums import Snapshot

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

REASONS = (("refusals_total", "reason"), ("drops_total", "reason"), ("store_errors_total", "kind"))
"""The families that count by a reason, and its label."""


def samples_of(text: bytes) -> Samples:
    result: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in result
            result[key] = sample.value
    return result


def scrape(
    snapshots: Mapping[str, Snapshot], kernel_drops: int = 0, saved: Mapping[str, float] | None = None
) -> Samples:
    return samples_of(exposition(snapshots, kernel_drops, saved=saved)[0])


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"udptracker_{name}", frozenset(labels.items())


def labels_of(samples: Samples, name: str) -> set[frozenset[tuple[str, str]]]:
    return {labels for sample, labels in samples if sample == f"udptracker_{name}"}


def busy() -> Counters:
    """Counters of which no two plain values are equal, so that a mix-up shows."""
    counters = Counters()
    counters.requests[:] = [11, 12, 13, 14, 15, 16]
    counters.refused["bad connection ID"] = 21
    counters.refused['a "quoted"\n\\ reason'] = 22
    counters.dropped["short packet"] = 23
    counters.limited[:] = range(101, 113)
    counters.bytes_in, counters.bytes_out = 31, 32
    counters.gauges["queue_depth"] = lambda: 33
    counters.gauges["cpu_seconds"], counters.gauges["resident_bytes"] = lambda: 72.5, lambda: 73
    counters.gauges["tasks"], counters.gauges["undecided"] = lambda: 74, lambda: 75
    counters.store_errors["StoreUnavailable"] = 34
    counters.store_misfits, counters.rows_missing = 35, 36
    counters.buffered, counters.replayed, counters.replay_dropped, counters.standby_answers = 41, 42, 43, 44
    counters.replay_broken = 45
    counters.unkept["max_peers"], counters.unkept["max_swarms"] = 46, 47
    counters.reaper_runs, counters.reaper_skipped, counters.reaper_failures = 51, 52, 53
    counters.reaped, counters.broken, counters.reaper_swarms = 54, 55, 56
    counters.reaper_seconds, counters.reaper_last_success = 0.125, 1_700_000_000.5
    counters.access_entries = {"torrents allow": 81, "torrents deny": 82, "networks deny": 83}
    counters.access_failures["file"], counters.access_refreshed = 84, 1_700_000_001.5
    counters.restored, counters.snapshots_refused = 57, 58
    counters.totals = {4: (61, 62, 63), 6: (64, 65, 66)}
    return counters
