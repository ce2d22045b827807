"""What `udptracker top` shows: a table of nodes, with as many columns as the terminal has room for, and below it what
they hear and refuse most. All text from a node is made printable first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from udptracker.client.nodes import Stats
from udptracker.core.busiest import busiest_of
from udptracker.core.text import printable

_BARS: Final = " ▁▂▃▄▅▆▇█"
_TREND: Final = 24
"""Points of the history in a row: two minutes."""


BY_NAME: Final = "n"


@dataclass
class Row:
    """A node, what it said last, and why it says nothing now."""

    name: str
    stats: Stats | None = None
    fault: str = ""


class _Column(NamedTuple):
    """`rank` is how early it goes when there is no room: the highest first. `key` sorts by it."""

    title: str
    key: str
    rank: int
    width: int
    order: Callable[[Stats], float | str]
    show: Callable[[Stats], str | Text]


def _rate(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.2f}" if value < 0.1 else f"{value:.1f}" if value < 10 else _count(value)


def _count(value: float) -> str:
    for least, unit, name in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if value >= least:
            return f"{value / unit:.3g}{name}"
    return f"{value:,.0f}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"


def _uptime(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} m" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _state(stats: Stats) -> Text:
    if not stats.serves:
        return Text("not serving", "bold red")
    return Text("serving", "green") if stats.store_up else Text("stand-in", "bold yellow")


def _trend(stats: Stats) -> Text:
    points = stats.history[-_TREND:]
    most = max(points, default=0.0)
    bars = "".join(_BARS[round(point / most * 8) if most else 0] for point in points)
    return Text(bars.rjust(_TREND), "blue")


COLUMNS: Final = (
    _Column("State", "", 0, 11, lambda stats: "", _state),
    _Column("Req/s", "r", 0, 7, lambda stats: stats.requests, lambda stats: _rate(stats.requests)),
    _Column("p50", "", 4, 7, lambda stats: stats.p50 or 0.0, lambda stats: _span(stats.p50)),
    _Column("p99", "l", 1, 7, lambda stats: stats.p99 or 0.0, lambda stats: _span(stats.p99)),
    _Column("Refused/s", "f", 2, 9, lambda stats: stats.refused, lambda stats: _rate(stats.refused)),
    _Column("Dropped/s", "d", 3, 9, lambda stats: stats.dropped, lambda stats: _rate(stats.dropped)),
    _Column("Seeders", "s", 5, 8, lambda stats: float(stats.seeders), lambda stats: _count(stats.seeders)),
    _Column("Leechers", "e", 6, 8, lambda stats: float(stats.leechers), lambda stats: _count(stats.leechers)),
    _Column("Swarms", "w", 7, 7, lambda stats: float(stats.swarms), lambda stats: _count(stats.swarms)),
    _Column("Queue", "", 9, 6, lambda stats: float(stats.queue), lambda stats: _count(stats.queue)),
    _Column("Workers", "", 11, 7, lambda stats: float(stats.workers), lambda stats: str(stats.workers)),
    _Column("Up", "u", 10, 9, lambda stats: stats.uptime, lambda stats: _uptime(stats.uptime)),
    _Column("Two minutes", "", 8, _TREND, lambda stats: "", _trend),
)

SORTS: Final = {BY_NAME: "name", **{column.key: column.title for column in COLUMNS if column.key}}
"""What the rows may be sorted by, by key; all but the name from the largest down."""

_HASH_WIDTH: Final = 40
_LEAST_NAME: Final = 12
_LEAST_ROOM: Final = 34
"""Beside the name: for the state, the rate and the 99th percentile."""
_PADDING: Final = 2
_GAP: Final = _PADDING + 1
"""Between two columns: the box has a blank of its own."""


def view(rows: Sequence[Row], sort: str, width: int, height: int) -> RenderableType:
    """Everything that is shown, for a terminal of this size."""
    room = max(height - len(rows) - 7, 1)
    parts: list[RenderableType] = [_nodes(rows, sort, width)]
    parts += [Text(f"{row.name}: {said}", "yellow") for row in rows if (said := _trouble(row))]
    busiest, reasons = _busiest(rows, room, width), _reasons(rows, room)
    if busiest and reasons and width >= 110:
        both = Table.grid(padding=(0, 4, 0, 0))
        both.add_row(busiest, reasons)
        parts += ["", both]
    else:
        parts += [part for table in (busiest, reasons) if table for part in ("", table)]
    return Group(*parts)


def keys_line(sort: str) -> Text:
    """The bottom line: which keys do what."""
    line = Text(no_wrap=True, overflow="ellipsis", style="dim")
    line.append("q quit · sort by ")
    for key, title in SORTS.items():
        line.append(f"{key} {title.lower()}", "bold not dim" if key == sort else "")
        line.append("  ")
    return line


def _sorted(rows: Sequence[Row], sort: str) -> list[Row]:
    column = next((column for column in COLUMNS if column.key == sort and sort), None)
    if column is None:
        return sorted(rows, key=lambda row: row.name)
    by = column.order
    return sorted(rows, key=lambda row: by(row.stats) if row.stats else -1.0, reverse=True)


def _nodes(rows: Sequence[Row], sort: str, width: int) -> Table:
    name_width = max(_LEAST_NAME, min(max(len(row.name) for row in rows), width - _LEAST_ROOM))
    columns = _fitting(width - name_width)
    table = _table()
    table.add_column("Node", max_width=name_width, no_wrap=True, overflow="ellipsis")
    for column in columns:
        style = "bold" if column.key == sort and sort else ""
        left = column.title in ("State", "Two minutes")
        table.add_column(
            Text(column.title, style), justify="left" if left else "right", min_width=column.width, no_wrap=True
        )
    for row in _sorted(rows, sort):
        stats = row.stats
        if row.fault:
            cells = [Text("no answer", "bold red"), *[Text("–", "dim")] * (len(columns) - 1)]
        elif stats is None:
            cells = [Text("asking", "dim"), *[Text("–", "dim")] * (len(columns) - 1)]
        else:
            cells = [_text(column.show(stats)) for column in columns]
        table.add_row(Text(printable(row.name)), *cells)
    return table


def _fitting(room: int) -> list[_Column]:
    """The columns that there is room for, in their order."""
    columns = list(COLUMNS)
    while sum(column.width + _GAP for column in columns) > room and len(columns) > 1:
        columns.remove(max(columns, key=lambda column: column.rank))
    return columns


def _trouble(row: Row) -> str:
    if row.fault:
        return printable(row.fault)
    if row.stats and not (row.stats.serves and row.stats.store_up):
        return printable(row.stats.word)
    return ""


def _busiest(rows: Sequence[Row], room: int, width: int) -> Table | None:
    """The busiest swarms of all nodes: announces add up, and peers are those of the node that sees most."""
    busiest = busiest_of([row.stats.busiest for row in rows if row.stats and not row.fault], room)
    if not busiest:
        return None
    table = _table()
    table.add_column("Busiest swarms", max_width=_HASH_WIDTH, no_wrap=True, overflow="ellipsis")
    for title in ("/min", "Seeders", "Leechers")[: 3 if width >= 72 else 1]:
        table.add_column(title, justify="right", no_wrap=True)
    for swarm in busiest:
        figures = [_rate(swarm.announces), _count(swarm.seeders), _count(swarm.leechers)]
        table.add_row(Text(printable(swarm.info_hash)), *figures[: len(table.columns) - 1])
    return table


def _reasons(rows: Sequence[Row], room: int) -> Table | None:
    """Why requests are refused and dropped, over all nodes."""
    together: dict[str, float] = {}
    for reason, rate in (pair for row in rows if row.stats and not row.fault for pair in row.stats.reasons):
        together[reason] = together.get(reason, 0.0) + rate
    if not together:
        return None
    table = _table()
    table.add_column("Refused and dropped", no_wrap=True, overflow="ellipsis")
    table.add_column("/s", justify="right", no_wrap=True)
    for reason, rate in sorted(together.items(), key=lambda pair: pair[1], reverse=True)[:room]:
        table.add_row(Text(printable(reason)), _rate(rate))
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, _PADDING, 0, 0), pad_edge=False, show_edge=False, header_style="dim")


def _text(cell: str | Text) -> Text:
    return Text(cell) if isinstance(cell, str) else cell
