"""What is remembered of sources: token buckets, in bounded memory.

A bucket is one number: the moment at which it is full again. Whoever takes from it moves that on by a step, the
seconds in which one comes back; if it would then be further away than a whole bucket takes to fill, there was nothing
to take (the generic cell rate algorithm, ITU-T I.371). So in any time `t` no more than burst + rate * t are taken.

Two generations take turns, as in `core.recent`: whoever is met moves to the young one, and the old one goes as a whole
when the young one is full or old enough. So a source that goes on asking is never forgotten, however many others
appear; one that pauses for so long that half a table of others appears in between is, and begins anew.
"""

from __future__ import annotations

from typing import final


@final
class Account:
    """Two buckets of one source, each by the moment (seconds) at which it is full again."""

    def __init__(self, now: float) -> None:
        self.first = now
        self.second = now

    def take(self, is_first: bool, step: float, most: float, now: float) -> bool:
        """Take from one of the buckets, if there is anything in it.

        Args:
            step: seconds in which what is taken comes back.
            most: seconds in which an empty bucket fills.
        """
        left = (self.first if is_first else self.second) - now
        if left < 0.0:
            left = 0.0
        is_taken = left + step <= most
        if is_taken:
            left += step
        elif left > most:  # emptier than empty: the clock went back, or the bucket was a larger one
            left = most
        else:
            return False
        if is_first:
            self.first = now + left
        else:
            self.second = now + left
        return is_taken

    def give_back(self, is_first: bool, step: float) -> None:
        """Undo what was just taken."""
        if is_first:
            self.first -= step
        else:
            self.second -= step


@final
class Table:
    """Accounts by source.

    Args:
        most: accounts in each of the two generations.
        span: seconds that a generation lasts, if it does not fill before.
    """

    def __init__(self, most: int, span: float) -> None:
        self._young: dict[bytes, Account] = {}
        self._old: dict[bytes, Account] = {}
        self._turn_at = 0.0
        self.use(most, span)

    def use(self, most: int, span: float) -> None:
        """Go on with another size and span; what is there stays until its generation goes."""
        self._most = most
        self._span = span

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def knows(self, source: bytes, now: float) -> bool:
        """Whether a source has an account."""
        if now >= self._turn_at:
            self._turn(now)
        return source in self._young or source in self._old

    def account(self, source: bytes, now: float) -> Account:
        """The account of a source, a new one with full buckets if it has none."""
        if now >= self._turn_at or len(self._young) >= self._most:
            self._turn(now)
        found = self._young.get(source)
        if found is None:
            found = self._old.pop(source, None)
            if found is None:
                found = Account(now)
            self._young[source] = found
        return found

    def _turn(self, now: float) -> None:
        """Let the old go, and the young become the old; of a time in which nobody came, both go."""
        self._old = self._young if now < self._turn_at + self._span else {}
        self._young = {}
        self._turn_at = now + self._span
