"""Throughput and latency over the time of a run, as a picture. Needs matplotlib: the extra `plot`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from udptracker.load.options import LoadError
from udptracker.load.report import LoadReport

SUFFIXES: Final = (".png", ".svg")


def require(path: Path) -> None:
    """Find out before a run what would be in the way of its picture.

    Raises:
        LoadError: matplotlib is missing, or the file name asks for another format.
    """
    if path.suffix not in SUFFIXES:
        raise LoadError(f"--plot {path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise LoadError("--plot needs matplotlib: pip install matplotlib")


def plot(report: LoadReport, path: Path) -> None:
    """Draw the run into a PNG or SVG file.

    Raises:
        LoadError: see `require`.
        OSError: the file cannot be written.
    """
    require(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    ends, elapsed = [], 0.0
    for interval in report.intervals:
        elapsed += interval.seconds
        ends.append(elapsed)
    figure = Figure(figsize=(8, 6), layout="constrained")
    rates, latencies = figure.subplots(2, 1, sharex=True)
    figure.suptitle(f"udptracker load on {report.target}: {report.rate:,.0f} requests/s")
    rates.plot(ends, [interval.rate for interval in report.intervals], marker=".")
    rates.set_ylim(bottom=0)
    rates.set_ylabel("requests/s")
    for name in ("p50", "p90", "p99", "p99_9"):
        values = [getattr(interval.latency, name) / 1000 for interval in report.intervals]
        latencies.plot(ends, values, marker=".", label=name.replace("_", "."))
    latencies.set_yscale("log")
    for plain in (latencies.yaxis.set_major_formatter, latencies.yaxis.set_minor_formatter):
        plain(StrMethodFormatter("{x:g}"))
    latencies.set_ylabel("latency, ms")
    latencies.set_xlabel("seconds")
    latencies.legend()
    for axes in (rates, latencies):
        axes.grid(alpha=0.3)
    figure.savefig(path)
