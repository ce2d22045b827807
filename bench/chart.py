"""The charts of README and docs: microseconds of CPU a request, by load and tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.results import Row

_HEIGHT = 0.32
_COLORS = ("#2f6db5", "#e08a2e")


def draw(path: Path, found: Sequence[Row]) -> None:
    """A bar for each row, the store's share in another colour; the format is that of the path's suffix."""
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures make the same file
    figure = Figure(figsize=(8.0, 1.0 + _HEIGHT * (len(found) + len({row.load for row in found}))))
    axes = figure.add_subplot()
    places: list[float] = []
    place, last = 0.0, None
    for row in found:
        place += 1.0 if row.load == last else 2.0
        last = row.load
        places.append(place)
    tracker, store = [row.tracker_us for row in found], [row.store_us for row in found]
    axes.barh(places, tracker, color=_COLORS[0], label="tracker")
    axes.barh(places, store, left=tracker, color=_COLORS[1], label="store")
    for at, row in zip(places, found, strict=True):
        axes.text(row.together_us, at, f" {row.together_us:.1f}", va="center", fontsize=8)
    axes.set_yticks(places, [f"{row.load} · {row.tracker}" for row in found], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("microseconds of CPU a request (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
