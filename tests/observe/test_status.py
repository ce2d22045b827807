"""What `/stats.json` says, from counters that a test sets and at times that it names."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from udptracker.core.busiest import BusySwarm
from udptracker.core.counters import Counters
from udptracker.core.wire import Action
from udptracker.observe.status import HISTORY_POINTS, Status, quantile


@dataclass
class Scene:
    """A tracker of some workers, whose counters and clock are the test's."""

    workers: dict[str, Counters] = field(default_factory=lambda: {"0": Counters()})
    now: float = 1000.0
    silent: set[str] = field(default_factory=set)
    kernel_drops: int = 0
    verdict: tuple[bool, str] = (True, "ready")
    has_standby: bool = True

    def __post_init__(self) -> None:
        self.status = Status(
            lambda: {"version": "1"},
            has_standby=self.has_standby,
            snapshots=lambda: {
                name: {**counters.snapshot(), "answers": name not in self.silent}
                for name, counters in self.workers.items()
            },
            kernel_drops=lambda: self.kernel_drops,
            ready=lambda: self.verdict,
            busiest=lambda: [BusySwarm("aa" * 20, 2.5, 3, 4)],
            clock=lambda: self.now,
            wall=lambda: self.now + 1e9,
        )

    def stats(self) -> dict[str, Any]:
        """As a client reads it."""
        found: dict[str, Any] = json.loads(json.dumps(self.status.stats()))
        return found

    def sample_after(self, seconds: float) -> None:
        self.now += seconds
        self.status.sample()


def test_rates_are_between_now_and_the_sample_before_the_last() -> None:
    scene = Scene()
    counters = scene.workers["0"]
    scene.status.sample()
    counters.requests[:] = [100, 0, 0, 0, 0, 0]
    scene.sample_after(5)
    counters.requests[:] = [150, 50, 30, 20, 0, 10]
    counters.refused["bad connection ID"] = 25
    counters.dropped["queue full"] = 5
    counters.bytes_in, counters.bytes_out, scene.kernel_drops = 1000, 2000, 20
    scene.now += 5
    recent = scene.stats()["recent"]
    assert recent["seconds"] == 10
    assert recent["requests"] == {"connect": 20.0, "announce": 5.0, "scrape": 1.0}
    assert recent["refused"]["bad connection ID"] == 2.5
    assert recent["dropped"]["queue full"] == 0.5
    assert (recent["received_bytes"], recent["sent_bytes"], recent["kernel_drops"]) == (100.0, 200.0, 2.0)
    scene.status.sample()
    scene.sample_after(5)
    assert scene.stats()["recent"]["requests"]["connect"] == 0.0


def test_before_the_first_sample_nothing_has_a_rate() -> None:
    scene = Scene()
    scene.workers["0"].requests[0] = 7
    stats = scene.stats()
    assert stats["requests"]["connect"] == {"ipv4": 7, "ipv6": 0}
    assert stats["recent"]["seconds"] == 0
    assert stats["recent"]["requests"]["connect"] == 0
    assert stats["recent"]["latency"]["all"] == {"p50": None, "p99": None}
    assert stats["history"]["connect"] == []


def test_the_history_has_a_point_between_two_samples_and_a_bound() -> None:
    scene = Scene()
    scene.status.sample()
    for _ in range(3):
        scene.workers["0"].requests[2] += 50
        scene.workers["0"].durations[Action.ANNOUNCE].add(100, 50)
        scene.sample_after(5)
    scene.workers["0"].store_up = 0
    scene.sample_after(5)
    history = scene.stats()["history"]
    assert history["announce"] == [10.0, 10.0, 10.0, 0.0]
    assert history["store_up"] == [1, 1, 1, 0]
    assert history["p99"][:3] == [pytest.approx(127e-6, abs=2e-6)] * 3
    assert history["p99"][3] is None
    for _ in range(HISTORY_POINTS):
        scene.sample_after(5)
    assert len(scene.stats()["history"]["announce"]) == HISTORY_POINTS


def test_workers_are_summed_and_told_apart() -> None:
    scene = Scene({"0": Counters(), "1": Counters()})
    scene.status.sample()
    scene.workers["0"].requests[2], scene.workers["1"].requests[2] = 10, 30
    scene.workers["1"].gauges["queue_depth"] = lambda: 4
    scene.workers["1"].store_up = 0
    scene.workers["1"].gauges["cpu_seconds"] = lambda: 5
    scene.workers["1"].gauges["resident_bytes"] = lambda: 2**20
    scene.workers["1"].gauges["tasks"] = lambda: 9
    scene.now += 10
    scene.verdict = (False, "worker 1: the store does not answer: LOADING")
    stats = scene.stats()
    assert stats["recent"]["requests"]["announce"] == 4.0
    assert stats["workers"] == [
        {"name": "0", "requests": 1.0, "cpu": 0.0, "resident_bytes": 0, "tasks": 0, "queue_depth": 0, "store_up": True},
        {
            "name": "1",
            "requests": 3.0,
            "cpu": 0.5,
            "resident_bytes": 2**20,
            "tasks": 9,
            "queue_depth": 4,
            "store_up": False,
        },
    ]
    assert stats["store"]["up"] is False
    assert stats["store"]["word"] == "worker 1: the store does not answer: LOADING"


def test_of_a_worker_that_fell_silent_only_the_figures_stand() -> None:
    scene = Scene(workers={"0": Counters(), "1": Counters()})
    scene.workers["1"].requests[0] = 7
    scene.silent.add("1")
    stats = scene.stats()
    assert stats["requests"]["connect"]["ipv4"] == 7
    assert [worker["name"] for worker in stats["workers"]] == ["0"]
    scene.silent.add("0")
    stats = scene.stats()
    assert (stats["workers"], stats["store"]["up"]) == ([], False)
    scene.sample_after(5)
    scene.sample_after(5)
    assert scene.stats()["history"]["connect"] == []


def test_when_nobody_answers_the_last_figures_stand_and_no_worker_does() -> None:
    scene = Scene()
    scene.workers["0"].requests[0] = 7
    scene.status.sample()
    scene.workers.clear()
    scene.sample_after(5)
    stats = scene.stats()
    assert stats["requests"]["connect"]["ipv4"] == 7
    assert stats["workers"] == []
    assert stats["store"]["up"] is False
    assert stats["store"]["word"] == "no process of it answers"
    assert stats["busiest"] == []
    assert stats["history"]["connect"] == []


def test_a_counter_that_goes_back_stands_still() -> None:
    scene = Scene()
    scene.workers["0"].requests[0] = 100
    scene.workers["0"].durations[Action.CONNECT].add(100, 100)
    scene.status.sample()
    scene.workers["0"] = Counters()
    scene.now += 5
    recent = scene.stats()["recent"]
    assert recent["requests"]["connect"] == 0.0
    assert recent["latency"]["all"]["p50"] is None


def test_a_store_without_a_stand_in_has_none_to_tell_of() -> None:
    assert Scene(has_standby=False).stats()["store"]["standby"] is None
    assert Scene().stats()["store"]["standby"] == {"buffered_peers": 0, "answers": 0, "replayed": 0, "refused": 0}


def test_what_the_store_holds_the_busiest_and_the_facts_are_told() -> None:
    scene = Scene()
    scene.workers["0"].totals.update({4: (1, 2, 3)})
    scene.now += 12.5
    stats = scene.stats()
    assert stats["swarms"] == {"ipv4": {"swarms": 1, "seeders": 2, "leechers": 3}}
    assert stats["busiest"] == [{"info_hash": "aa" * 20, "announces": 2.5, "seeders": 3, "leechers": 4}]
    assert (stats["version"], stats["uptime_seconds"], stats["now"]) == ("1", 12.5, 1e9 + 1012.5)
    assert stats["reaper"]["last_ended"] is None


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.99, pytest.approx(0.99e-6)),  # below 1 µs
        ([0, 0, 4], 0.5, 3e-6),  # from 2 to 4 µs, evenly
        ([0, 1, 0, 1], 0.5, 2e-6),
        ([0, 1, 0, 1], 1.0, 8e-6),
    ],
)
def test_quantiles_of_buckets(counts: list[int], share: float, seconds: float | None) -> None:
    assert quantile(counts, share) == seconds
