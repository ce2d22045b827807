"""The parts of the access control as one: opened together, and put before a tracker and its executor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from udptracker.access.base import Part, Prepared, Watcher
from udptracker.access.guard import Guard
from udptracker.access.hooks.part import Hooks
from udptracker.access.limits.part import Limits
from udptracker.access.lists.part import Lists
from udptracker.core.counters import Counters
from udptracker.core.tracker import Admit, Tracker

if TYPE_CHECKING:
    from udptracker.config import Settings


class Parts(NamedTuple):
    """Every part, in the order in which they decide."""

    lists: Lists
    limits: Limits
    hooks: Hooks


def make_parts(settings: Settings, counters: Counters, *, speaks: bool) -> Parts:
    """The parts, not open.

    Args:
        speaks: whether this process tells what is the same in all workers of a node.
    """
    return Parts(Lists(settings, counters, speaks=speaks), Limits(settings, counters), Hooks(settings, counters))


class Access:
    """Keeps the rules in force those of its parts.

    Args:
        parts: in the order in which they decide.
        guard: applies the rules.
        tracker: asks at its door who may ask at all.
        watchers: see what was let through, besides those of the parts; others do from the next `take` on.
    """

    def __init__(self, parts: Sequence[Part], guard: Guard, tracker: Tracker, watchers: Sequence[Watcher] = ()) -> None:
        self._parts = parts
        self._guard = guard
        self._tracker = tracker
        self.watchers = tuple(watchers)
        self._prepared: list[Prepared] = []

    async def open(self) -> None:
        """Raises:
        AccessError: a part can never decide.
        """
        for part in self._parts:
            await part.open()
        self._put_in_force()

    async def prepare(self, settings: Settings) -> None:
        """Get ready for other settings, in place of those that were not taken; nothing is decided by them yet.

        Raises:
            AccessError: a part cannot decide by them.
        """
        await self.give_up()
        try:
            for part in self._parts:
                self._prepared.append(await part.prepare(settings))
        except BaseException:
            await self.give_up()
            raise

    def take(self) -> None:
        """Decide by what is prepared from now on, all parts at once."""
        for prepared in self._prepared:
            prepared.take()
        self._prepared = []
        self._put_in_force()

    async def give_up(self) -> None:
        """Let go of what is prepared."""
        prepared, self._prepared = self._prepared, []
        for each in prepared:
            await each.give_up()

    async def close(self) -> None:
        """Let go of everything."""
        await self.give_up()
        for part in self._parts:
            await part.close()

    def _put_in_force(self) -> None:
        parts = self._parts
        self._tracker.admit = _one_door([door for part in parts for door in part.doors])
        self._guard.use(
            [rule for part in parts for rule in part.rules],
            [rule for part in parts for rule in part.slow_rules],
            [*self.watchers, *(watcher for part in parts for watcher in part.watchers)],
        )


def _one_door(doors: Sequence[Admit]) -> Admit | None:
    """The doors one after the other, as one."""
    if len(doors) < 2:
        return doors[0] if doors else None

    def admit(kind: int, source: bytes, now: float) -> str | None:
        for door in doors:
            reason = door(kind, source, now)
            if reason is not None:
                return reason
        return None

    return admit
