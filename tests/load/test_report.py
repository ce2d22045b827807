"""The figures of a report against a naive count, and what becomes of them."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from udptracker.load import plot, view
from udptracker.load.options import LoadError, LoadOptions
from udptracker.load.report import Interval, Latency, LoadReport
from udptracker.load.tally import Tally


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=3000))
def test_percentiles_are_exact(microseconds: list[int]) -> None:
    half = len(microseconds) // 2
    latency = Latency.of(Counter(microseconds[:half]), Counter(microseconds[half:]))
    ordered = sorted(microseconds)
    for share, value in ((500, latency.p50), (900, latency.p90), (990, latency.p99), (999, latency.p99_9)):
        assert 1000 * sum(one <= value for one in ordered) >= share * len(ordered)
        assert 1000 * sum(one < value for one in ordered) < share * len(ordered)
    assert latency.count == len(ordered)
    assert latency.max == ordered[-1]
    assert latency.mean == pytest.approx(sum(ordered) / len(ordered))


def test_nothing_is_zeros() -> None:
    assert Latency.of({}) == Latency(0, 0.0, 0, 0, 0, 0, 0)


def second(answers: int, latency: int) -> Tally:
    tally = Tally(seconds=1.0, cpu=0.001, sent=[0, answers, 1])
    tally.latencies[1][latency] = answers
    tally.peers = 3 * answers
    tally.errors["refused: no"] = 1
    tally.failed = 1
    return tally


@pytest.fixture
def report() -> LoadReport:
    seconds = [second(100, 1000), second(300, 3000)]
    after = Tally(lost=2, late=1, sent=[0, 0, 0])
    after.latencies[1][9000] = 1
    after.peers = 3
    total = Tally()
    for tally in (*seconds, after):
        total.add(tally)
    intervals = [Interval.of(nth + 1, tally) for nth, tally in enumerate(seconds)]
    return LoadReport.of(LoadOptions(host="127.0.0.1", port=1), "127.0.0.1:1", total, intervals, (42,), 0.00402)


def test_a_report_adds_up(report: LoadReport) -> None:
    assert report.rate == 200.0  # what came after the end is answered, but not throughput
    assert (report.requests, report.answered, report.failed, report.lost, report.late) == (402, 401, 2, 2, 1)
    assert report.latency.max == 9000
    assert [interval.latency.p50 for interval in report.intervals] == [1000, 3000]
    assert report.errors == {"refused: no": 2}
    assert report.peers_per_answer == 3.0
    assert report.tracker_cpu_per_request == pytest.approx(10.0)
    assert report.generator_cpu_per_request == pytest.approx(0.002 / 402 * 1e6)


def test_it_is_json(report: LoadReport) -> None:
    read = json.loads(json.dumps(report.to_dict()))
    assert read["requests_per_second"] == 200.0
    assert read["requests"]["lost"] == 2
    assert read["latency_us"]["all"]["max"] == read["latency_us"]["announce"]["max"] == 9000
    assert read["tracker"]["pids"] == [42]
    assert read["options"]["mix"] == [0, 99, 1]
    assert [interval["requests_per_second"] for interval in read["intervals"]] == [100.0, 300.0]


def test_the_tables_say_it(report: LoadReport) -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(view.tables(report))
    text = capture.get()
    for part in ("200 requests/s", "p99.9", "9.00 ms", "refused: no", "2 (0.498%)", "10.0 µs a request"):
        assert part in text


def test_the_live_line_moves_on_a_terminal_only(report: LoadReport) -> None:
    with view.live_line(report.options, Console(force_terminal=False)) as show:
        assert show is None
    shown = io.StringIO()
    with view.live_line(report.options, Console(file=shown, force_terminal=True, width=120)) as show:
        assert show is not None
        assert "warming up" in shown.getvalue(), "from the start, not from the first second on"
        show(report.intervals[1])
    assert "300 requests/s  p50 3.00 ms  p99 3.00 ms" in shown.getvalue()


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_plot_is_a_picture(report: LoadReport, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"run{suffix}"
    plot.require(path)
    plot.plot(report, path)
    assert path.read_bytes().startswith(start)


def test_a_plot_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="--plot"):
        plot.require(tmp_path / "run.pdf")
