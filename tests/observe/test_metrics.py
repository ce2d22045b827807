"""Counters to Prometheus text, read back with Prometheus's own parser."""

from __future__ import annotations

import platform
import re
import time
from itertools import product
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.observe.exposed import (
    REASONS,
    busy,
    key,
    labels_of,
    samples_of,
    scrape,
)
from udptracker import __version__, build
from udptracker.core import reasons
from udptracker.core.counters import ANSWER_NAMES, Counters
from udptracker.core.listed import LISTS
from udptracker.core.wire import Action
from udptracker.observe import chihaya, process
from udptracker.observe.metrics import exposition, metric_rows, metrics_table

LIMITS = ("connects", "announces", "scrapes", "bad_ids", "peers_in_swarm", "peers")


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
    told = {name: {dict(each)[label] for each in labels_of(samples, name)} for name, label in REASONS}
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
