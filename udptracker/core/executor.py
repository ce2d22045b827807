"""What a turn is given to, and what gives it: the two sides of every step between the sockets and the store."""

from __future__ import annotations

from typing import Protocol

from udptracker.core.tracker import Turn


class Asker(Protocol):
    """Whoever brought a turn: an endpoint."""

    def answer(self, turn: Turn) -> None:
        """Send the replies of a turn to where its requests came from."""


class Executor(Protocol):
    """What answers questions, at once or later."""

    def submit(self, turn: Turn, asker: Asker) -> None:
        """Take the questions out of a turn. What is answered at once is among its replies; the rest comes later, by
        `asker.answer`."""

    async def drain(self) -> None:
        """Return when everything accepted has been answered."""
