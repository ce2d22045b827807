"""Counters to Prometheus text, read back with Prometheus's own parser."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from udptracker import __version__, build
from udptracker.core import reasons
from udptracker.core.counters import ANSWER_NAMES, Counters
from udptracker.core.listed import LISTS
from udptracker.core.wire import Action
from udptracker.observe import chihaya, process
from udptracker.observe.metrics import exposition, metric_rows, metrics_table
from udptracker.observe.sums import Snapshot, merged, without_the_living

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: bytes) -> Samples:
    result: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in result
            result[key] = sample.value
    return result


LIMITS = ("connects", "announces", "scrapes", "bad_ids", "peers_in_swarm", "peers")


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


def test_every_value_lands_in_its_own_family() -> None:
    saved = {"time": 91, "seconds": 92, "peers": 93, "failures": 94}
    samples = scrape({"0": busy().snapshot()}, kernel_drops=71, saved=saved)
    expected = {
        key("requests_total", action="connect", family="ipv4"): 11,
        key("requests_total", action="connect", family="ipv6"): 12,
        key("requests_total", action="announce", family="ipv4"): 13,
        key("requests_total", action="announce", family="ipv6"): 14,
        key("requests_total", action="scrape", family="ipv4"): 15,
        key("requests_total", action="scrape", family="ipv6"): 16,
        key("refusals_total", reason="bad connection ID"): 21,
        key("refusals_total", reason='a "quoted"\n\\ reason'): 22,
        key("drops_total", reason="short packet"): 23,
        **{key("refusals_total", reason=each): 0 for each in set(reasons.REFUSALS) - {"bad connection ID"}},
        **{key("drops_total", reason=each): 0 for each in set(reasons.DROPS) - {"short packet"}},
        key("received_bytes_total"): 31,
        key("sent_bytes_total"): 32,
        key("queue_depth"): 33,
        key("hook_queue_depth"): 75,
        key("store_errors_total", kind="StoreUnavailable"): 34,
        key("store_errors_total", kind="StoreError"): 0,
        key("store_misfits_total"): 35,
        key("scrape_rows_missing_total"): 36,
        key("store_up"): 1,
        key("standby_buffered_peers"): 41,
        key("standby_replayed_total"): 42,
        key("standby_dropped_total"): 43,
        key("unkept_announces_total", bound="max_peers"): 46,
        key("unkept_announces_total", bound="max_swarms"): 47,
        key("standby_answers_total"): 44,
        key("standby_broken_total"): 45,
        key("reaper_runs_total"): 51,
        key("reaper_skipped_total"): 52,
        key("reaper_failures_total"): 53,
        key("reaper_removed_peers_total"): 54,
        key("reaper_broken_entries_total"): 55,
        key("reaper_removed_swarms_total"): 56,
        key("reaper_duration_seconds"): 0.125,
        key("reaper_last_success_timestamp_seconds"): 1_700_000_000.5,
        key("snapshot_last_success_timestamp_seconds"): 91,
        key("snapshot_duration_seconds"): 92,
        key("snapshot_peers"): 93,
        key("snapshot_failures_total", step="write"): 94,
        key("snapshot_restored_peers_total"): 57,
        key("snapshot_failures_total", step="read"): 58,
        key("swarms", family="ipv4"): 61,
        key("seeders", family="ipv4"): 62,
        key("leechers", family="ipv4"): 63,
        key("swarms", family="ipv6"): 64,
        key("seeders", family="ipv6"): 65,
        key("leechers", family="ipv6"): 66,
        key("access_entries", list="torrents", verdict="allow"): 81,
        key("access_entries", list="torrents", verdict="deny"): 82,
        key("access_entries", list="networks", verdict="deny"): 83,
        **{
            key("access_entries", list=which, verdict=verdict): 0
            for which, verdict in product(LISTS, ("allow", "deny"))
            if (which, verdict) not in {("torrents", "allow"), ("torrents", "deny"), ("networks", "deny")}
        },
        key("access_failures_total", source="file"): 84,
        key("access_failures_total", source="store"): 0,
        key("access_failures_total", source="cache"): 0,
        key("access_refreshed_timestamp_seconds"): 1_700_000_001.5,
        **{
            key("limited_total", limit=limit, mode=mode): count
            for count, (limit, mode) in enumerate(product(LIMITS, ("watch", "enforce")), 101)
        },
        key("kernel_drops_total"): 71,
        key("workers"): 1,
        key("worker_cpu_seconds_total", worker="0"): 72.5,
        key("worker_resident_bytes", worker="0"): 73,
        key("worker_tasks", worker="0"): 74,
        key("worker_requests_total", worker="0"): 11 + 12 + 13 + 14 + 15 + 16,
        key("worker_queue_depth", worker="0"): 33,
        key("worker_store_up", worker="0"): 1,
        key("build_info", version=__version__, python=platform.python_version(), build=build.kind()): 1,
    }
    ours = {
        sample: value
        for sample, value in samples.items()
        if sample[0].startswith("udptracker_") and not sample[0].endswith(("_bucket", "_count", "_sum"))
    }
    assert ours == expected


def test_the_process_is_measured_as_every_prometheus_client_does() -> None:
    samples = scrape({"0": Counters().snapshot()})
    assert samples["process_resident_memory_bytes", frozenset()] > 1_000_000
    assert samples["process_open_fds", frozenset()] > 0
    assert 0 < samples["process_start_time_seconds", frozenset()] < time.time() + 60


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**27), max_size=50))
def test_a_duration_is_counted_from_the_first_bucket_that_holds_it(durations: list[int]) -> None:
    counters = Counters()
    for microseconds in durations:
        counters.durations[Action.SCRAPE].add(microseconds)
    samples = scrape({"0": counters.snapshot()})
    labels = map(dict, labels_of(samples, "request_duration_seconds_bucket"))
    bounds = [each["le"] for each in labels if each["action"] == "scrape"]
    assert len(bounds) == len(counters.durations[Action.SCRAPE].counts)
    for bound in bounds:
        # A duration of `d` whole microseconds lies between d and d + 1, so it must be below the bound.
        below = sum(d / 1e6 < float(bound) for d in durations)
        assert samples[key("request_duration_seconds_bucket", action="scrape", le=bound)] == below
    assert samples[key("request_duration_seconds_count", action="scrape")] == len(durations)
    assert abs(samples[key("request_duration_seconds_sum", action="scrape")] - sum(durations) / 1e6) < 1e-6
    assert samples[key("request_duration_seconds_count", action="connect")] == 0


def test_durations_are_told_apart_by_the_action_of_the_answer() -> None:
    counters = Counters()
    for place, histogram in enumerate(counters.durations):
        histogram.add(10**place)
    samples = scrape({"0": counters.snapshot()})
    sums = {name: samples[key("request_duration_seconds_sum", action=name)] for name in ANSWER_NAMES}
    assert sums == {"connect": 1e-6, "announce": 1e-5, "scrape": 1e-4, "error": 1e-3}


def test_every_reason_is_exported_before_it_first_occurs() -> None:
    samples = scrape({"0": Counters().snapshot()})
    told = {name: {dict(each)[label] for each in labels_of(samples, name)} for name, label in _REASONS}
    assert told == {
        "refusals_total": set(reasons.REFUSALS),
        "drops_total": set(reasons.DROPS),
        "store_errors_total": set(reasons.STORE_ERRORS),
    }


def test_whoever_counts_a_reason_names_a_constant() -> None:
    """So that none is missing from the table, which is what makes it exist from the start."""
    package = Path(reasons.__file__).parents[1]
    literal = re.compile(r"\b(?:refused|dropped|store_errors)\[[\"']")
    assert [path for path in package.rglob("*.py") if literal.search(path.read_text())] == []


def test_a_gauge_is_read_when_a_snapshot_is_taken() -> None:
    counters, waiting = Counters(), [1, 2, 3]
    counters.gauges["queue_depth"] = lambda: len(waiting)
    assert scrape({"0": counters.snapshot()})[key("queue_depth")] == 3
    waiting.clear()
    assert scrape({"0": counters.snapshot()})[key("queue_depth")] == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 40_000), max_size=50))
def test_a_batch_size_is_counted_from_the_first_bucket_that_holds_it(sizes: list[int]) -> None:
    counters = Counters()
    for size in sizes:
        counters.batch_sizes.add(size)
    samples = scrape({"0": counters.snapshot()})
    bounds = [dict(labels)["le"] for labels in labels_of(samples, "store_batch_size_bucket")]
    assert len(bounds) == len(counters.batch_sizes.counts)
    for bound in bounds:
        assert samples[key("store_batch_size_bucket", le=bound)] == sum(s <= float(bound) for s in sizes)
    assert samples[key("store_batch_size_sum")] == sum(sizes)


def test_store_latency_is_a_histogram_of_its_own() -> None:
    counters = Counters()
    counters.store_latency.add(1_500)
    samples = scrape({"0": counters.snapshot()})
    assert samples[key("store_batch_duration_seconds_bucket", le="0.001024")] == 0
    assert samples[key("store_batch_duration_seconds_bucket", le="0.002048")] == 1
    assert samples[key("store_batch_duration_seconds_sum")] == 0.0015
    assert samples[key("request_duration_seconds_count", action="announce")] == 0


_REASONS = (("refusals_total", "reason"), ("drops_total", "reason"), ("store_errors_total", "kind"))
_counts = st.integers(0, 2**40)
_reasons = st.dictionaries(st.sampled_from(["short packet", "queue full", "bad connection ID"]), _counts)


@st.composite
def _counters(draw: st.DrawFn) -> Counters:
    counters = Counters()
    for name in Counters.__slots__:
        value = getattr(counters, name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            setattr(counters, name, draw(_counts))
    counters.store_up = draw(st.integers(0, 1))
    counters.requests[:] = draw(st.lists(_counts, min_size=6, max_size=6))
    counters.totals = draw(st.dictionaries(st.sampled_from([4, 6]), st.tuples(_counts, _counts, _counts)))
    for counted in (counters.refused, counters.dropped, counters.store_errors):
        counted.update(draw(_reasons))
    counters.access_entries["torrents deny"] = draw(_counts)
    depth = draw(_counts)
    counters.gauges["queue_depth"] = lambda: depth
    for histogram in (*counters.durations, counters.store_latency, counters.batch_sizes):
        for value in draw(st.lists(_counts, max_size=3)):
            histogram.add(value)
    return counters


_SHARED = ("swarms", "seeders", "leechers")
_OF_EACH = ("access_entries",)
_WORST = ("store_up", "access_refreshed_timestamp_seconds")
_LATEST = ("reaper_duration_seconds", "reaper_last_success_timestamp_seconds")
_OF_THE_RENDERER = ("kernel_drops_total", "build_info", "workers")


@settings(deadline=None)
@given(st.lists(_counters(), min_size=2, max_size=4), st.booleans())
def test_workers_add_up(counters: list[Counters], have_shares: bool) -> None:
    for each in counters:
        each.has_share = have_shares
    snapshots = {str(i): counter.snapshot() for i, counter in enumerate(counters)}
    apart = [scrape({"0": snapshot}) for snapshot in snapshots.values()]
    together = scrape(snapshots)
    latest = max(apart, key=lambda samples: samples[key("reaper_last_success_timestamp_seconds")])
    for sample in set[tuple[str, frozenset[tuple[str, str]]]]().union(*apart):
        name = sample[0].removeprefix("udptracker_")
        values = [samples.get(sample, 0.0) for samples in apart]
        if name.startswith(("process_", "worker_")) or name in _OF_THE_RENDERER:
            continue
        if name in _SHARED:
            assert together[sample] == (sum(values) if have_shares else max(values))
        elif name in _OF_EACH:
            assert together[sample] == max(values)
        elif name in _WORST:
            assert together[sample] == min(values)
        elif name in _LATEST:
            assert together[key("reaper_last_success_timestamp_seconds")] == max(
                samples[key("reaper_last_success_timestamp_seconds")] for samples in apart
            )
            if len({samples[key("reaper_last_success_timestamp_seconds")] for samples in apart}) == len(apart):
                assert together[sample] == latest[sample]
        else:
            assert abs(together[sample] - sum(values)) <= 1e-9 * sum(values), sample


@settings(deadline=None)
@given(st.lists(_counters(), min_size=2, max_size=3))
def test_snapshots_may_have_come_through_json(counters: list[Counters]) -> None:
    direct = {str(i): counter.snapshot() for i, counter in enumerate(counters)}
    carried: dict[str, dict[str, Any]] = json.loads(json.dumps(direct))
    assert merged(carried.values()) == merged(direct.values())
    mixed = {"0": direct["0"], "1": carried["1"]}
    assert merged(mixed.values()) == merged([direct["0"], direct["1"]])


def test_merging_leaves_the_snapshots_alone() -> None:
    snapshots = [busy().snapshot(), busy().snapshot()]
    merged(snapshots)
    assert snapshots == [busy().snapshot(), busy().snapshot()]


def test_several_workers_are_told_apart_where_it_matters() -> None:
    idle, lost = Counters(), busy()
    lost.store_up = 0
    samples = scrape({"0": idle.snapshot(), "1": lost.snapshot()})
    assert samples[key("workers")] == 2
    assert samples[key("worker_requests_total", worker="0")] == 0
    assert samples[key("worker_cpu_seconds_total", worker="1")] == 72.5
    assert samples[key("worker_resident_bytes", worker="1")] == 73
    assert samples[key("worker_requests_total", worker="1")] == 11 + 12 + 13 + 14 + 15 + 16
    assert samples[key("worker_queue_depth", worker="1")] == 33
    assert samples[key("worker_store_up", worker="0")] == 1
    assert samples[key("worker_store_up", worker="1")] == 0


def test_chores_of_the_parent_are_counted_beside_those_of_workers() -> None:
    counters = Counters()
    counters.chore_failures.update({"reaper": 2, "lag": 0})
    text, _ = exposition({"0": counters.snapshot()}, 0, chores={"snapshot": 3, "lag": 1})
    found = re.findall(r'chore_failures_total\{chore="(\w+)"\} (\S+)', text.decode())
    assert found == [("lag", "1.0"), ("reaper", "2.0"), ("snapshot", "3.0")]


def test_what_is_left_of_the_dead_are_counters() -> None:
    before = busy().snapshot()
    after = without_the_living(before)
    assert (after["queue_depth"], after["undecided"], after["buffered"], after["totals"]) == (0, 0, 0, {})
    assert (after["resident_bytes"], after["tasks"]) == (0, 0)
    assert (after["cpu_seconds"], after["requests"]) == (before["cpu_seconds"], before["requests"])


def test_a_process_tells_what_it_uses() -> None:
    counters = Counters()
    process.watch(counters)
    samples = scrape({"0": counters.snapshot()})
    assert samples[key("worker_resident_bytes", worker="0")] > 1_000_000
    assert samples[key("worker_cpu_seconds_total", worker="0")] > 0.01
    assert process.resident_bytes(Path("/no/such/file")) == 0


def test_chihayas_names() -> None:
    counters = busy()
    for action in (Action.CONNECT, Action.ANNOUNCE, Action.SCRAPE, Action.ERROR):
        counters.durations[action].add(1000 * 2**action, 10)
    counters.reaper_durations.add(250_000)
    text, _ = exposition({"0": counters.snapshot()}, 0, also=chihaya.FAMILIES)
    samples = samples_of(text)
    assert samples["chihaya_storage_infohashes_count", frozenset()] == 61 + 64
    assert samples["chihaya_storage_seeders_count", frozenset()] == 62 + 65
    assert samples["chihaya_storage_leechers_count", frozenset()] == 63 + 66
    assert samples["chihaya_storage_gc_duration_milliseconds_sum", frozenset()] == 250
    assert samples["chihaya_storage_gc_duration_milliseconds_bucket", frozenset({("le", "262.144")})] == 1
    sums = {
        tuple(sorted(dict(labels).items())): value
        for (name, labels), value in samples.items()
        if name == "chihaya_udp_response_duration_milliseconds_sum"
    }
    assert sums == {
        (("action", action), ("address_family", "Unknown"), ("error", error)): value
        for action, error, value in (
            ("connect", "", 10),
            ("announce", "", 20),
            ("scrape", "", 40),
            ("Unknown", "refused", 80),
        )
    }
    assert not [name for name, _ in scrape({"0": counters.snapshot()}) if name.startswith("chihaya_")]


def test_no_worker_at_all_is_zeros_and_a_store_that_is_not_up() -> None:
    samples = scrape({})
    assert samples[key("workers")] == 0
    assert samples[key("store_up")] == 0
    assert samples[key("requests_total", action="announce", family="ipv4")] == 0


def test_the_rows_are_what_is_exposed() -> None:
    families = text_string_to_metric_families(exposition({"0": busy().snapshot()}, 0)[0].decode())
    exposed = [
        (family.name + ("_total" if family.type == "counter" else ""), family.type, family.documentation)
        for family in families
        if family.name.startswith("udptracker_")
    ]
    assert exposed == metric_rows()


def test_the_table_has_a_line_for_each_row_with_its_labels() -> None:
    head, rule, *lines = metrics_table().splitlines()
    assert head == "| Metric | Type | Meaning |"
    assert rule == "|---|---|---|"
    assert [line.split("`")[1].partition("{")[0] for line in lines] == [name for name, _, _ in metric_rows()]
    assert lines[0].startswith("| `udptracker_requests_total{action, family}` | counter | ")
    assert all(line.count("|") == 4 for line in lines)
