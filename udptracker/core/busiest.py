"""Which swarms announce most, estimated at next to no cost.

Of each turn one question is looked at, drawn at random, and counts for as many as there were. So every announce is
counted once on average, and a busy tracker, whose turns are long, pays least for it. It also looks at no more than a
thousand questions a second or so: those of the turns between count with the next that is looked at. Counts are kept for
this minute and the one before, of a bounded number of swarms: when there are too many, the lesser half goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nlargest
from operator import itemgetter
from typing import Final, NamedTuple, final

from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question

_MINUTE: Final = 60.0
_LOOKS_A_SECOND: Final = 1000
_MOST: Final = 1024
"""Swarms counted at a time: about 150 KB."""


class BusySwarm(NamedTuple):
    """A swarm of both IP families: its hash in hexadecimal, its announces a minute, and how many peers it has."""

    info_hash: str
    announces: float
    seeders: int
    leechers: int


@final
class BusiestSwarms:
    """Counts announces by swarm.

    Args:
        draw: a source of uniform numbers in [0, 1).
        now: seconds on a monotonic clock, as all times here.
    """

    def __init__(self, draw: Callable[[], float], now: float) -> None:
        self._draw = draw
        self._since = now
        self._counts: dict[bytes, int] = {}
        self._before: dict[bytes, int] | None = None
        self._unseen = 0
        self._apart = 1
        self._seen = 0
        self._advanced = now

    def pick(self, among: int) -> int:
        """The place of the one to look at, of so many questions of a turn."""
        return int(self._draw() * among) if among > 1 else 0

    def count(self, info_hash: bytes, announces: int) -> None:
        """An announce for this swarm was picked from so many questions."""
        counts = self._counts
        counts[info_hash] = counts.get(info_hash, 0) + announces
        if len(counts) > _MOST:
            self._counts = dict(sorted(counts.items(), key=itemgetter(1), reverse=True)[: _MOST // 2])

    def see(self, questions: Sequence[Question]) -> None:
        """Pick one of a turn's questions if it is time to, and count it for all since the last if it is an announce."""
        among = len(questions)
        self._unseen += among
        if self._unseen < self._apart:
            return
        self._seen += self._unseen
        operation = questions[self.pick(among)].operation
        if isinstance(operation, AnnounceOperation):
            self.count(operation.info_hash, self._unseen)
        self._unseen = 0

    def advance(self, now: float) -> None:
        """Let a new minute begin if one has passed; to be called every second or so."""
        since_last = now - self._advanced
        if since_last > 0:
            self._apart = max(int(self._seen / since_last / _LOOKS_A_SECOND), 1)
            self._seen = 0
            self._advanced = now
        passed = now - self._since
        if passed >= _MINUTE:
            self._before = self._counts if passed < 2 * _MINUTE else {}
            self._counts = {}
            self._since = now

    def most(self, limit: int, now: float) -> list[tuple[bytes, float]]:
        """The swarms that announced most in the last minute, with their announces a minute."""
        passed = min(now - self._since, _MINUTE)
        if self._before is None:
            found = {swarm: count * _MINUTE / max(passed, 1.0) for swarm, count in self._counts.items()}
        else:
            left = 1 - passed / _MINUTE
            found = {swarm: count * left for swarm, count in self._before.items()}
            for swarm, count in self._counts.items():
                found[swarm] = found.get(swarm, 0.0) + count
        return nlargest(limit, ((swarm, rate) for swarm, rate in found.items() if rate > 0), itemgetter(1))


def busiest_of(workers: Iterable[Iterable[BusySwarm]], limit: int) -> list[BusySwarm]:
    """The busiest of several workers, or nodes, together. Each counts the peers of a swarm that they share, so those do
    not add."""
    together: dict[str, BusySwarm] = {}
    for swarms in workers:
        for swarm in swarms:
            known = together.get(swarm.info_hash, swarm._replace(announces=0.0))
            together[swarm.info_hash] = BusySwarm(
                swarm.info_hash,
                known.announces + swarm.announces,
                max(known.seeders, swarm.seeders),
                max(known.leechers, swarm.leechers),
            )
    return nlargest(limit, together.values(), lambda swarm: swarm.announces)
