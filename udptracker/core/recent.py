"""What was seen lately: a set whose members leave after a while, in bounded memory."""

from __future__ import annotations

from typing import final


@final
class Recent:
    """Remembers each key for between one and two spans. Two sets take turns: the older is let go as a whole.

    Args:
        seconds: the span.
        most: keys in each of the two sets; beyond it the older ones are let go early.
    """

    def __init__(self, seconds: int, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._span = 0
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def has(self, key: bytes) -> bool:
        """Whether the key is remembered."""
        return key in self._young or key in self._old

    def is_news(self, key: bytes, now: float) -> bool:
        """Whether the key was not seen lately; if so, from now on it was."""
        span = int(now) // self._seconds
        if span != self._span or len(self._young) >= self._most:
            self._old = self._young if span <= self._span + 1 else set()
            self._young = set()
            self._span = span
        if key in self._young or key in self._old:
            return False
        self._young.add(key)
        return True
