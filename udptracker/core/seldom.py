"""What is not to be said again and again. No clock: the time is an argument."""

from __future__ import annotations

from typing import Final

_MOST: Final = 64


class Seldom:
    """Lets each text through when it is new, and once in `every` seconds from then on.

    Args:
        every: seconds.
    """

    def __init__(self, every: float = 600.0) -> None:
        self._every = every
        self._said: dict[str, float] = {}

    def allows(self, text: str, now: float) -> bool:
        """Whether this is to be said at `now` (seconds of any steady clock)."""
        before = self._said.get(text)
        if before is not None and now - before < self._every:
            return False
        self._said.pop(text, None)
        self._said[text] = now
        if len(self._said) > _MOST:
            del self._said[next(iter(self._said))]
        return True
