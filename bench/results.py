"""Medians of all rounds, as a table, as JSON and as a chart."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.cores import available
from bench.measure import Measurement
from bench.rivals import OPENTRACKER
from udptracker.load import LoadError

_COLUMNS: Final = (
    *("load", "tracker", "peers", "req/s", "CPU", "ratio", "store CPU", "both", "ratio of both"),
    *("p50", "p99", "p99.9", "bad"),
)

_TABLE: Final = re.compile(rf"^\| *{_COLUMNS[0]} *\| *{_COLUMNS[1]} *\|.*\n(?:\|.*\n)+", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """A tracker under a load: medians of its rounds, units as in `Measurement`.

    `tracker_ratio` and `ratio` are the tracker's CPU, and that of tracker and store, to opentracker's in the same
    round; None where it did not run.
    """

    load: str
    tracker: str
    rounds: int
    peers: float
    rate: float
    tracker_us: float
    store_us: float
    together_us: float
    tracker_ratio: float | None
    ratio: float | None
    p50: float
    p99: float
    p99_9: float
    bad: float
    unsent: float
    generator_busy: float


def rows(measured: Sequence[Measurement]) -> list[Row]:
    """One for each pair of load and tracker, in the order of their first runs."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in measured:
        groups.setdefault((one.load, one.tracker), []).append(one)
    beside = {(one.load, one.round): one.together_us for one in measured if one.tracker == OPENTRACKER}
    loads = list(dict.fromkeys(load for load, _ in groups))
    return [
        _row(group, [beside.get((load, one.round), 0.0) for one in group])
        for (load, _), group in sorted(groups.items(), key=lambda item: loads.index(item[0][0]))
    ]


def _row(group: Sequence[Measurement], beside: Sequence[float]) -> Row:
    return Row(
        load=group[0].load,
        tracker=group[0].tracker,
        rounds=len(group),
        peers=median(one.peers for one in group),
        rate=median(one.rate for one in group),
        tracker_us=median(one.tracker_us for one in group),
        store_us=median(one.store_us for one in group),
        together_us=median(one.together_us for one in group),
        tracker_ratio=_ratio([one.tracker_us for one in group], beside),
        ratio=_ratio([one.together_us for one in group], beside),
        p50=median(one.p50 for one in group),
        p99=median(one.p99 for one in group),
        p99_9=median(one.p99_9 for one in group),
        bad=median(one.bad for one in group),
        unsent=median(one.unsent for one in group),
        generator_busy=median(one.generator_busy for one in group),
    )


def _ratio(ours: Sequence[float], beside: Sequence[float]) -> float | None:
    """The median of the rounds' ratios; of rounds without the other there is none."""
    ratios = [one / other for one, other in zip(ours, beside, strict=True) if other]
    return median(ratios) if ratios else None


def table(found: Sequence[Row]) -> str:
    """Markdown. CPU is in microseconds a request, latencies are in microseconds."""
    lines = [_COLUMNS, tuple("---" if at < 2 else "---:" for at in range(len(_COLUMNS)))]
    for row in found:
        both = (f"{row.store_us:.1f}", f"{row.together_us:.1f}", _figure(row.ratio)) if row.store_us else ("–",) * 3
        tracker = (f"{row.peers:.1f}", f"{row.rate:,.0f}", f"{row.tracker_us:.1f}", _figure(row.tracker_ratio))
        latencies = (f"{row.p50:.0f}", f"{row.p99:.0f}", f"{row.p99_9:.0f}")
        lines.append((row.load, row.tracker, *tracker, *both, *latencies, f"{row.bad:.2%}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def write_into(path: Path, found: Sequence[Row]) -> None:
    """Put the table in the place of the one in a Markdown file.

    Raises:
        LoadError: there is not exactly one.
    """
    text, places = _TABLE.subn(lambda _: table(found) + "\n", path.read_text())
    if places != 1:
        raise LoadError(f"{path}: expected one table of {_COLUMNS[0]} and {_COLUMNS[1]}, found {places}")
    path.write_text(text)


def _figure(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"


def machine() -> dict[str, Any]:
    """What the figures depend on and cannot be seen in them."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(available()),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def write_json(path: Path, measured: Sequence[Measurement], scale: float) -> None:
    """Everything: the machine, the medians, every run."""
    found = {
        "machine": machine(),
        "scale": scale,
        "rows": [asdict(row) for row in rows(measured)],
        "runs": [asdict(one) for one in measured],
    }
    path.write_text(json.dumps(found, indent=1) + "\n")
