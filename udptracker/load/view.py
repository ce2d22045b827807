"""A run on the terminal: the line that moves while it goes on, and the tables at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from udptracker.load.options import LoadOptions
from udptracker.load.report import Interval, Latency, LoadReport


@contextmanager
def live_line(options: LoadOptions, console: Console | None = None) -> Iterator[Callable[[Interval], None] | None]:
    """What to call after each second so that a line moves on the console, which is standard error if not given; None
    where it is no terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[news]}"))
    # No refreshes in between: each takes CPU from the tracker that is measured beside it.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        news = "prefilling and warming up" if options.prefill else "warming up"
        task = progress.add_task("loading", total=options.duration, news=news)
        progress.refresh()  # the first interval is some seconds away

        def move(interval: Interval) -> None:
            latency = interval.latency
            news = f"{interval.rate:,.0f} requests/s  p50 {_ms(latency.p50)}  p99 {_ms(latency.p99)}"
            progress.update(task, advance=interval.seconds, news=news, refresh=True)

        yield move


def show(report: LoadReport) -> None:
    """Print the outcome on standard output."""
    Console().print(tables(report))


def tables(report: LoadReport) -> RenderableType:
    """The outcome, for a reader."""
    return Group(_latencies(report), _outcome(report))


def _latencies(report: LoadReport) -> Table:
    table = Table("requests", title=f"load on {report.target}", padding=0)
    for heading in ("answered", "mean", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(heading, justify="right")
    rows = {**report.latency_by_kind, "all": report.latency}
    if len(report.latency_by_kind) == 1:
        del rows["all"]
    for name, latency in rows.items():
        table.add_row(name, f"{latency.count:,}", *map(_ms, _figures(latency)))
    return table


def _figures(latency: Latency) -> tuple[float, ...]:
    return latency.mean, latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max


def _outcome(report: LoadReport) -> Table:
    table = Table(show_header=False)
    of = f" of {report.options.duration:g} s, then interrupted" if report.interrupted else " s"
    table.add_row("throughput", f"{report.rate:,.0f} requests/s over {report.seconds:g}{of}")
    table.add_row("sent", f"{report.requests:,}")
    table.add_row("lost", _share(report.lost, report.requests))
    table.add_row("late", _share(report.late, report.requests))
    table.add_row("bad answers", _share(report.failed, report.requests))
    for what, count in report.errors.items():
        table.add_row(Text(f"  {what}"), f"{count:,}")  # a tracker's words are no markup
    if report.unsent:
        table.add_row("unsent", f"{report.unsent:,}: the generator could not keep to the schedule")
    if report.options.rate:
        table.add_row("sent after due", f"{_ms(report.mean_lag)} on average, {_ms(report.worst_lag)} at most")
    table.add_row("peers in an answer", f"{report.peers_per_answer:.1f}")
    table.add_row("peers checked in", f"{report.checked:,} announce answers")
    table.add_row("tracker CPU", _cpu(report.tracker_cpu_per_request, "not found: not local? give --pid"))
    table.add_row("generator CPU", _cpu(report.generator_cpu_per_request, "nothing was answered"))
    return table


def _cpu(microseconds: float | None, otherwise: str) -> str:
    return otherwise if microseconds is None else f"{microseconds:.1f} µs a request"


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({count / whole:.3%})" if count else "0"


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:.2f} ms"
