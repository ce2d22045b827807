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
from bench.trackers import OPENTRACKER

_COLUMNS: Final = ("load", "tracker", "req/s", "CPU", "store CPU", "both", "ratio", "p50", "p99", "p99.9", "bad")


@dataclass(frozen=True, slots=True)
class Row:
    """A tracker under a load: medians of its rounds, units as in `Measurement`.

    `ratio` is tracker and store CPU to that of opentracker, None where it did not run.
    """

    load: str
    tracker: str
    rounds: int
    rate: float
    tracker_us: float
    store_us: float
    together_us: float
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
    cpu = {key: median(one.together_us for one in group) for key, group in groups.items()}
    loads = list(dict.fromkeys(load for load, _ in groups))
    found = []
    for (load, tracker), group in sorted(groups.items(), key=lambda item: loads.index(item[0][0])):
        beside = cpu.get((load, OPENTRACKER))
        found.append(
            Row(
                load=load,
                tracker=tracker,
                rounds=len(group),
                rate=median(one.rate for one in group),
                tracker_us=median(one.tracker_us for one in group),
                store_us=median(one.store_us for one in group),
                together_us=cpu[load, tracker],
                ratio=cpu[load, tracker] / beside if beside else None,
                p50=median(one.p50 for one in group),
                p99=median(one.p99 for one in group),
                p99_9=median(one.p99_9 for one in group),
                bad=median(one.bad for one in group),
                unsent=median(one.unsent for one in group),
                generator_busy=median(one.generator_busy for one in group),
            )
        )
    return found


def table(found: Sequence[Row]) -> str:
    """Markdown. CPU is in microseconds a request, latencies are in microseconds."""
    lines = [_COLUMNS, tuple("---" if at < 2 else "---:" for at in range(len(_COLUMNS)))]
    for row in found:
        store = (f"{row.store_us:.1f}", f"{row.together_us:.1f}") if row.store_us else ("", f"{row.together_us:.1f}")
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        latencies = (f"{row.p50:.0f}", f"{row.p99:.0f}", f"{row.p99_9:.0f}")
        numbers = (f"{row.rate:,.0f}", f"{row.tracker_us:.1f}", *store, ratio, *latencies, f"{row.bad:.2%}")
        lines.append((row.load, row.tracker, *numbers))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


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
