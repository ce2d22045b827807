"""Counters of several workers as one exposition."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.observe.exposed import (
    busy,
    key,
    scrape,
)
from udptracker.core.counters import Counters
from udptracker.observe.metrics import exposition
from udptracker.observe.sums import merged, without_the_living

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


def test_no_worker_at_all_is_zeros_and_a_store_that_is_not_up() -> None:
    samples = scrape({})
    assert samples[key("workers")] == 0
    assert samples[key("store_up")] == 0
    assert samples[key("requests_total", action="announce", family="ipv4")] == 0
