"""What a process does besides answering: at intervals, for as long as it lives, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from udptracker.core.counters import Counters

log = logging.getLogger(__name__)


class Chores:
    """Coroutine functions that are called again and again.

    One that raises is logged, counted by its name, and called again after its interval. When told to stop, each ends
    after the call it is in, even if something below it has swallowed the cancellation.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    def start(
        self, name: str, interval: Callable[[], float], call: Callable[[], Awaitable[None]], *, at_once: bool = False
    ) -> None:
        """Call every so many seconds, the first time after the first of them unless `at_once`.

        Args:
            interval: gives the seconds, and may give others after `hurry`.
        """
        self._counters.chore_failures[name] += 0
        self._tasks.append(asyncio.create_task(self._repeat(name, interval, call, at_once), name=name))

    def hurry(self) -> None:
        """Intervals have changed."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def stop(self, seconds: float) -> None:
        """Cancel all, and return when they have ended, or after so many seconds with a warning that names the rest."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=seconds)
            for task in stuck:
                log.warning("the %s chore did not end within %g s and is left", task.get_name(), seconds)

    async def _repeat(
        self, name: str, interval: Callable[[], float], call: Callable[[], Awaitable[None]], at_once: bool
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not at_once:
            await self._sleep(interval)
        while True:
            try:
                await call()
            except (Exception, asyncio.CancelledError):  # the latter may be somebody else's
                if not task.cancelling():
                    self._counters.chore_failures[name] += 1
                    log.exception("the %s chore failed in an unforeseen way, and goes on in %g s", name, interval())
            if task.cancelling():
                return
            await self._sleep(interval)

    async def _sleep(self, interval: Callable[[], float]) -> None:
        """As long as the interval is, also if it becomes another one meanwhile and `hurry` is called."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            left = began + interval() - loop.time()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                return
