"""When a socket is read at a pace instead of whenever something arrives."""

from __future__ import annotations

from typing import Final

from udptracker.net.burst import TURN

_SPARSE: Final = 25_000
_RARE: Final = 500_000
"""Nanoseconds between datagrams, on average, from which and up to which a socket keeps a pace. More often, and there
are several to read each time anyway; more seldom, and there is nothing to gather."""

_WINDOW: Final = 10_000_000
"""Nanoseconds over which that average is taken."""


class Pace:
    """Decides whether a socket is read at a pace.

    It is while datagrams come all the time but far apart: to be woken for each of them costs several times what it
    costs to answer it.

    Args:
        seconds: between two turns; 0 for no pace.
        now: by `since_boot`, as all times here.
    """

    def __init__(self, seconds: float, now: int) -> None:
        self.seconds = seconds
        self._since = now
        self._count = 0
        self._sparse = False

    def is_kept(self, received: int, now: int) -> bool:
        """Whether the next turn comes at the pace, after one at `now` that received so many datagrams."""
        self._count += received
        elapsed = now - self._since
        if elapsed > _WINDOW:
            self._sparse = self._count * _SPARSE < elapsed < self._count * _RARE
            self._count, self._since = 0, now
        return self._sparse and 0 < received < TURN and self.seconds > 0
