"""Post-hooks: shown what was let through, off the way of the answers, in bounded memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, final

from udptracker.access.hooks.api import Announce, PostHook
from udptracker.access.hooks.calls import Calls, Outcome
from udptracker.access.hooks.deciding import shown
from udptracker.core.counters import Counters
from udptracker.core.tracker import Question

log = logging.getLogger(__name__)

_MOST_IN_A_CALL: Final = 1024
_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 2.0
"""Seconds before a hook that said so is shown the same again."""


@final
class Watching:
    """Args:
    terms: `WatchingHook` of the configuration, which may be replaced.
    """

    def __init__(self, name: str, hook: PostHook, terms: Any, counters: Counters) -> None:
        self._name = name
        self._hook = hook
        self.terms = terms
        self._drops = counters.hook_drops
        self._timeouts = counters.hook_timeouts
        self._calls = Calls(name, counters)
        self._waiting: list[Announce] = []
        self._shown = 0
        self._showing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Whatever the hook raises."""
        await self._hook.open()

    async def close(self) -> None:
        """Show what waits, and close the hook; whatever that raises."""
        try:
            if self._showing is not None:
                await asyncio.wait({self._showing})
        finally:
            if left := self._shown + len(self._waiting):
                self._drops[self._name] += left
                log.warning("hook %s is closed, and was not shown the last %d announces", self._name, left)
            if self._showing is not None:
                self._showing.cancel()
            await self._hook.close()

    def see(self, questions: Sequence[Question]) -> None:
        """A `Watcher`."""
        announces = list(shown(questions))
        room = max(self.terms.max_pending - self._shown - len(self._waiting), 0)
        if len(announces) > room:
            self._drops[self._name] += len(announces) - room
            del announces[room:]
        self._waiting += announces
        if self._waiting and (self._showing is None or self._showing.done()):
            self._showing = asyncio.get_running_loop().create_task(self._show())

    async def _show(self) -> None:
        while self._waiting:
            announces = self._waiting[:_MOST_IN_A_CALL]
            del self._waiting[:_MOST_IN_A_CALL]
            self._shown = len(announces)
            try:
                await self._show_until_taken(announces)
            finally:
                self._shown = 0

    async def _show_until_taken(self, announces: Sequence[Announce]) -> None:
        pause = _FIRST_PAUSE
        while True:
            if self._calls.stuck:
                self._drops[self._name] += len(announces)
                return
            outcome = await self._calls.within(self.terms.timeout, self._hook.see, announces)
            if outcome is Outcome.LATE:
                self._timeouts[self._name] += len(announces)
            if outcome is not Outcome.AGAIN:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)
