"""`python -m bench` on a small world: every step of it, none of its figures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bench import fleet, profile, sizing
from bench.builds import Builds
from bench.cores import Cores
from bench.measure import Measurement, requests_read
from bench.results import rows, write_into
from udptracker.load import Interval, LoadError
from udptracker.load.report import Latency

_REPOSITORY: Final = Path(__file__).parents[1]
_TIMEOUT: Final = 120.0


def test_restarts_are_timed() -> None:
    command = [sys.executable, "-m", "bench.restart", "--rounds", "2"]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    first, second, last = done.stdout.splitlines()
    assert first.startswith("stopped in ")
    assert second.startswith("stopped in ")
    assert last.startswith("median of 2: ")


def test_the_profile_charges_whatever_is_compiled_to_a_part_of_ours() -> None:
    source = (_REPOSITORY / "setup.py").read_text()
    compiled = re.findall(r'"([\w/]+)"', source[source.index("HOT_PATH = (") : source.index("\n)\n")])
    assert "storage/swarms" in compiled
    for module in compiled:
        sample = f"udptracker\n\tff CPyDef_{Path(module).name}___function (x.so)\n\tff uv_run (loop.so)"
        assert "event loop" not in profile.shares(sample), module


def test_measures_trackers_in_turn_and_writes_table_json_and_chart(tmp_path: Path) -> None:
    """One tracker with a store and one without, a closed and an open loop."""
    trackers = ("memory, plain", "valkey, plain")
    command = [sys.executable, "-m", "bench", "--rounds", "1", "--seconds", "2", "--scale", "0.01"]
    command += ["--output", str(tmp_path), "--trackers", *trackers, "--loads", "mixed", "half load"]
    readme = tmp_path / "README.md"
    readme.write_text("Before.\n\n| Load | Tracker | CPU |\n|---|---|---:|\n| mixed | gone | 1 |\n\nAfter.\n")
    command += ["--readme", str(readme)]
    ended = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    assert ended.returncode == 0, ended.stderr
    found = {
        (row["load"], row["tracker"]): row for row in json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    }
    assert set(found) == {(load, tracker) for load in ("mixed", "half load") for tracker in trackers}
    for (load, tracker), row in found.items():
        assert row["rate"] > 0
        assert row["tracker_us"] > 0
        assert row["peers"] > 1
        assert (row["store_us"] > 0) == (tracker != "memory, plain")
        assert f"| {load}" in ended.stdout
    assert readme.read_text() == f"Before.\n\n{ended.stdout}\nAfter.\n"
    assert "half load" in (tmp_path / "benchmark.svg").read_text()
    assert "memory" in (tmp_path / "mixed.svg").read_text()
    assert "half load" not in (tmp_path / "mixed.svg").read_text()


def test_the_tracker_has_its_cores_for_itself_where_there_are_enough() -> None:
    assert Cores.divide((0, 1, 2, 3), 1) == Cores((0,), (1,), (2, 3))
    assert Cores.divide((0, 1, 2, 3), 2) == Cores((0, 1), (2,), (3,))
    assert Cores.divide((4, 5), 1) == Cores((4,), (5,), (5,))
    assert Cores.divide((4, 5), 2) == Cores((4, 5), (4, 5), (4, 5))


def test_no_measurements_are_no_rows() -> None:
    assert rows([]) == []


def one(tracker: str, number: int, tracker_us: float, store_us: float = 0.0) -> Measurement:
    return Measurement(
        tracker=tracker,
        load="mixed",
        round=number,
        rate=1000.0,
        tracker_us=tracker_us,
        store_us=store_us,
        peers=20.0,
        p50=1,
        p99=2,
        p99_9=3,
        bad=0.0,
        unsent=0.0,
        generator_us=5.0,
        generator_busy=0.5,
        errors={},
    )


def test_a_ratio_is_of_runs_of_one_round() -> None:
    """So that a machine that was slower in one round was slower for both."""
    ours = [one("valkey", 1, 10.0, 5.0), one("valkey", 2, 40.0, 20.0), one("valkey", 3, 12.0, 6.0)]
    theirs = [one("opentracker", 1, 5.0), one("opentracker", 2, 20.0)]
    row, beside = rows([*ours, *theirs])
    assert (row.tracker_us, row.store_us, row.together_us) == (12.0, 6.0, 18.0)
    assert (row.tracker_ratio, row.ratio) == (2.0, 3.0)  # of the two rounds in which both ran
    assert (beside.tracker_ratio, beside.ratio) == (1.0, 1.0)
    (alone,) = rows(ours[:1])
    assert (alone.tracker_ratio, alone.ratio) == (None, None)


def test_a_file_without_the_table_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("nothing")
    with pytest.raises(LoadError, match="expected one table of load and tracker, found 0"):
        write_into(path, rows([one("memory", 1, 1.0)]))
    assert path.read_text() == "nothing"


def test_a_late_first_reading_of_the_cpu_leaves_its_requests_out() -> None:
    """What was spent until then is missing, so what was answered until then must be."""
    intervals = [Interval(second, 1.0, 100.0 + second, 1000, 0, 0, Latency.of({})) for second in (2, 3)]
    assert requests_read(intervals, 0.0) == 2000
    assert requests_read(intervals, 0.5) == 1500
    assert requests_read(intervals, 2.5) == 0


def test_a_fleet_is_measured(tmp_path: Path) -> None:
    """Every step, with a cluster and two nodes; none of its figures."""
    found = fleet.measure(Builds(tmp_path).plain, 3, 2, seconds=0.5, scale=0.005)
    assert (found.shards, found.nodes) == (3, 2)
    assert min(found.node_us, found.store_us, found.peer_bytes) > 0


def test_a_fleets_figures_are_medians_each_by_itself() -> None:
    rounds = [fleet.Fleet(1, 2, *figures) for figures in ((1.0, 9.0, 5.0), (3.0, 7.0, 5.0), (2.0, 8.0, 6.0))]
    assert fleet.medians(rounds) == fleet.Fleet(1, 2, 2.0, 8.0, 5.0)


COSTS: Final = sizing.Costs(10.0, 20.0, 4.0, 30.0, 6.0, 100.0, 200.0)


def test_costs_are_the_benchmarks_and_grow_as_the_fleets() -> None:
    cpu = [("mixed", "memory", 9.0, 0.0), ("mixed", "valkey, 1 worker", 10.0, 4.0), ("scrape", "memory", 1.0, 0.0)]
    names = ("load", "tracker", "tracker_us", "store_us")
    rows = [
        {"shards": shards, "nodes": nodes, "node_us": node, "store_us": store, "peer_bytes": size}
        for shards, nodes, node, store, size in (
            (1, 1, 20.0, 10.0, 90.0),
            (3, 1, 30.0, 15.0, 120.0),
            (1, 2, 22.0, 9.0, 91.0),
        )
    ]
    costs = sizing.Costs.of({"rows": [dict(zip(names, row, strict=True)) for row in cpu]}, {"rows": rows})
    assert costs == sizing.Costs(9.0, 11.0, 4.0, 15.0, 6.0, 90.0, 120.0)


def test_sizes_leave_half_of_each_core_and_a_node_to_spare() -> None:
    small, large = sizing.size(COSTS, 10_000), sizing.size(COSTS, 1_000_000)
    assert (small.memory_cores, small.shards, small.node_cores, small.nodes) == (1, 1, 1, 2)
    assert (large.memory_cores, large.shards, large.node_cores, large.nodes) == (20, 12, 60, 8)


def test_a_server_that_would_be_more_than_half_full_is_a_cluster() -> None:
    assert sizing.size(COSTS, 125_000).shards == 1
    assert sizing.size(COSTS, 125_001).shards == 3


def test_tables_go_to_their_marks() -> None:
    page = "Before\n\n<!-- table: costs -->\n| old |\n|---|\n\nAfter\n<!-- table: rates -->\n"
    put = sizing.put_into(page, {"costs": "| new |", "rates": "| a |\n| b |"})
    assert put == "Before\n\n<!-- table: costs -->\n| new |\n\nAfter\n<!-- table: rates -->\n| a |\n| b |\n"


def test_what_is_built_has_all_that_a_build_takes(tmp_path: Path) -> None:
    """Interpreted, since to compile takes a minute, and the rest of a build is the same."""
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path / "built")]
    environment = os.environ | {"UDPTRACKER_PURE": "1"}
    subprocess.run(command, cwd=Builds(tmp_path).plain, env=environment, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "built" / "lib" / "udptracker" / "cli.py").exists()
