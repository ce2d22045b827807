"""What commands print: tables or JSON on standard output, one line on standard error when they fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from udptracker.core.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

_PIPED_COLUMNS: Final = 200
"""Of a table that nobody looks at."""


def show_json(fields: Mapping[str, Any]) -> None:
    """One line of JSON in plain ASCII; no control character is in it."""
    print(json.dumps(fields).replace("\x7f", "\\u007f"))


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; a line break in a cell stands, whatever else is not printable is escaped."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(heading, overflow="fold") for heading in headings))  # an info hash is to be copied whole
    for row in rows:  # as `Text`, since in a plain string `[fe80::1]` would be taken for markup
        table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS).print(table)


def progress_bar() -> Progress:
    """On standard error, and gone at its end; nothing at all, no empty line either, where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def fail(message: str, status: int) -> int:
    """Say on standard error why a command fails; its exit status."""
    print(f"udptracker: {printable(message)}", file=sys.stderr)
    return status
