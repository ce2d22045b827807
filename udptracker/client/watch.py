"""Nodes side by side in the terminal, asked every few seconds for their `/stats.json`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.layout import Layout
from rich.live import Live

from udptracker.client.nodes import Address, NoStats, ask
from udptracker.client.top_view import SORTS, Row, keys_line, view

_NOBODY: Final = 1
_QUIT: Final = ("q", "\x1b", "")
"""Its key, Escape, and the end of the terminal."""


class Watch:
    """Some nodes, each asked on its own: one that does not answer holds up no other.

    Args:
        sort: a key of `top_view.SORTS`.
        interval: seconds between two looks.
        timeout: seconds to wait for a node.
    """

    def __init__(self, addresses: Sequence[Address], sort: str, interval: float, timeout: float) -> None:
        self._nodes = [(address, Row(address.name)) for address in dict.fromkeys(addresses)]
        self._rows = [row for _, row in self._nodes]
        self._sort = sort
        self._interval = interval
        self._timeout = timeout
        self._console = Console(highlight=False)
        self._changed = asyncio.Event()
        self._over = False

    async def once(self) -> int:
        """Print one look; the exit status: 1 if a node does not answer."""
        await asyncio.gather(*(self._look(place) for place in range(len(self._nodes))))
        self._console.print(view(self._rows, self._sort, self._console.width, 24 + len(self._rows)))
        return _NOBODY if any(row.fault for row in self._rows) else 0

    async def follow(self) -> int:
        """Show them until a key or Ctrl-C says to quit; the exit status, 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        looking = [loop.create_task(self._look_again_and_again(place)) for place in range(len(self._nodes))]
        with _keys(), Live(console=self._console, screen=True, auto_refresh=False) as live:
            loop.add_reader(sys.stdin, self._key)
            while not self._over:
                live.update(self._screen(), refresh=True)
                await self._changed.wait()
                self._changed.clear()
            loop.remove_reader(sys.stdin)
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        return 0

    def _screen(self) -> Layout:
        width, height = self._console.size
        screen = Layout()
        screen.split_column(
            Layout(view(self._rows, self._sort, width, height - 1)), Layout(keys_line(self._sort), size=1)
        )
        return screen

    async def _look_again_and_again(self, place: int) -> None:
        while True:
            await self._look(place)
            self._changed.set()
            await asyncio.sleep(self._interval)

    async def _look(self, place: int) -> None:
        address, row = self._nodes[place]
        try:
            row.stats = await asyncio.wait_for(ask(address), self._timeout)
            row.fault = ""
        except NoStats as error:
            row.fault = str(error)
        except TimeoutError:
            row.fault = f"no answer within {self._timeout:g} s"

    def _key(self) -> None:
        pressed = os.read(sys.stdin.fileno(), 64).decode(errors="replace").lower()
        if pressed in _QUIT:
            self._end()
        elif pressed in SORTS:  # longer ones are arrows and the like
            self._sort = pressed
            self._changed.set()

    def _end(self) -> None:
        self._over = True
        self._changed.set()


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one and are not shown, Ctrl-C stays a signal."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
