"""The curves of soaks as a picture: `python -m tests.soak.plot docs/soak.svg docs/soak-*.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_MARKS: Final = {"worker killed": "#c0392b", "store restarted": "#8e44ad", "reload": "#7f8c8d"}

Curve = Callable[[dict[str, Any]], float]

_PANELS: Final[Sequence[tuple[str, dict[str, Curve]]]] = (
    ("resident, MiB", {"all processes": lambda minute: minute["state"]["resident"] / 2**20}),
    (
        "open",
        {
            "files": lambda minute: minute["state"]["files"],
            "tasks": lambda minute: minute["state"]["tasks"],
            "threads": lambda minute: minute["state"]["threads"],
        },
    ),
    (
        "p99, ms",
        {
            "tracker": lambda minute: minute["state"]["p99"] * 1e3,
            "client": lambda minute: minute["client_p99"] * 1e3,
        },
    ),
    ("lost a minute", {"requests": lambda minute: minute["lost"]}),
)
"""The label of each panel, and its curves by name."""


def draw(path: Path, outcomes: Sequence[dict[str, Any]]) -> None:
    """A column for each outcome, as `soak.Outcome.write` has it."""
    mpl.rcParams["svg.hashsalt"] = "soak"  # the same figures make the same file
    figure = Figure(figsize=(5.0 * len(outcomes), 8.0), layout="constrained")
    columns = figure.subplots(len(_PANELS), len(outcomes), sharex="col", squeeze=False).T
    for outcome, column in zip(outcomes, columns, strict=True):
        column[0].set_title(f"{outcome['store']}, {outcome['rate']:,.0f} requests/s", fontsize=10)
        minutes = [minute for minute in outcome["minutes"] if minute["state"] is not None]
        for axes, (label, curves) in zip(column, _PANELS, strict=True):
            _panel(axes, label, curves, minutes)
        column[-1].set_xlabel("minutes")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Axes, label: str, curves: dict[str, Curve], minutes: Sequence[dict[str, Any]]) -> None:
    for name, curve in curves.items():
        axes.plot([minute["minute"] for minute in minutes], [curve(minute) for minute in minutes], label=name)
    for incident, color in _MARKS.items():
        at = [minute["minute"] for minute in minutes if incident in minute["incidents"]]
        axes.vlines(at, 0, 1, transform=axes.get_xaxis_transform(), colors=color, alpha=0.25, linewidth=0.8)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.set_ylabel(label, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), [json.loads(Path(name).read_text()) for name in sys.argv[2:]])
