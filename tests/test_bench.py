"""`python -m bench` on a small world: every step of it, none of its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.cores import Cores
from bench.results import rows

_REPOSITORY: Final = Path(__file__).parents[1]
_TIMEOUT: Final = 120.0


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
    assert "memory" in (tmp_path / "benchmark.svg").read_text()


def test_the_tracker_has_its_cores_for_itself_where_there_are_enough() -> None:
    assert Cores.divide((0, 1, 2, 3), 1) == Cores((0,), (1,), (2, 3))
    assert Cores.divide((0, 1, 2, 3), 2) == Cores((0, 1), (2,), (3,))
    assert Cores.divide((4, 5), 1) == Cores((4,), (5,), (5,))
    assert Cores.divide((4, 5), 2) == Cores((4, 5), (4, 5), (4, 5))


def test_no_measurements_are_no_rows() -> None:
    assert rows([]) == []
