"""Calls of hooks that others wrote: whatever one does, it costs nobody but itself, and is told by its name."""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Final, final

from udptracker.access.hooks.api import Announce, HookFailure, PreHook, TryAgain
from udptracker.core.counters import Counters
from udptracker.core.seldom import Seldom
from udptracker.core.text import printable

log = logging.getLogger(__name__)

_LONG_SECONDS: Final = 0.1
"""For which a hook may keep everybody else waiting without being told of."""
_QUIET_SECONDS: Final = 60.0
"""In which the same is not told again."""

Method = Callable[[Sequence[Announce]], Any]
"""`PreHook.judge` or `PostHook.see`."""


class Outcome(enum.Enum):
    """What came of a call."""

    DONE = enum.auto()
    AGAIN = enum.auto()
    FAILED = enum.auto()
    LATE = enum.auto()


@final
class Calls:
    """Calls of one hook.

    Args:
        name: of the hook, what it is counted and told by.
    """

    def __init__(self, name: str, counters: Counters) -> None:
        self._name = name
        self._failures = counters.hook_failures
        self._durations = counters.hook_durations[name]
        self._seldom = Seldom(_QUIET_SECONDS)
        self._stuck: set[asyncio.Task[Outcome]] = set()

    @property
    def stuck(self) -> int:
        """Calls that were cancelled and go on all the same."""
        return len(self._stuck)

    def at_once(self, method: Method, announces: Sequence[Announce]) -> Outcome:
        """Call what is no coroutine."""
        began = time.perf_counter()
        outcome = self._at_once(method, announces)
        self._count_duration(began)
        return outcome

    def left_of(self, announces: list[Announce], hook: PreHook) -> set[Announce]:
        """What a hook still has to be asked about after it has recalled what it can: all, if it fails to."""
        left = set(announces)
        if announces and type(hook).recall is not PreHook.recall:
            unknown: set[Announce] = set()
            if self._at_once(lambda given: unknown.update(hook.recall(given)), announces) is Outcome.DONE:
                left &= unknown
        return left

    async def within(self, seconds: float, method: Method, announces: Sequence[Announce]) -> Outcome:
        """Call either kind, and wait for it no longer than that. Whoever waits counts what is late."""
        began = time.perf_counter()
        task = asyncio.create_task(self._call(method, announces))
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            if not task.done():
                self._stuck.add(task)
                task.add_done_callback(self._stuck.discard)
                task.cancel()
        self._count_duration(began)
        if task.done():
            return task.result()
        self._tell(f"it was not done within {seconds:g} s")
        return Outcome.LATE

    async def _call(self, method: Method, announces: Sequence[Announce]) -> Outcome:
        if not inspect.iscoroutinefunction(method):
            return self._at_once(method, announces)
        try:
            await _Watched(method(announces), self._heed)
        except BaseException as error:  # cancellation, too: this task is nobody's but the hook's
            if asyncio.current_task() in self._stuck:
                return Outcome.LATE
            return self._failed(error, len(announces))
        return Outcome.DONE

    def _at_once(self, method: Method, announces: Sequence[Announce]) -> Outcome:
        began = time.perf_counter()
        try:
            returned = method(announces)
            if inspect.isawaitable(returned):
                if inspect.iscoroutine(returned):
                    returned.close()
                raise TypeError("it returned something to wait for, and is no `async def`")
        except BaseException as error:  # SystemExit, too: no hook ends the tracker
            return self._failed(error, len(announces))
        finally:
            self._heed(time.perf_counter() - began)
        return Outcome.DONE

    def _failed(self, error: BaseException, count: int) -> Outcome:
        if isinstance(error, TryAgain):
            return Outcome.AGAIN
        self._failures[self._name] += count
        what = f"it failed: {type(error).__name__}"
        if isinstance(error, HookFailure):
            self._tell(what, detail=printable(f": {error}"))
        else:
            self._tell(what, error)
        return Outcome.FAILED

    def _count_duration(self, began: float) -> None:
        self._durations.add(int((time.perf_counter() - began) * 1e6))

    def _heed(self, spent: float) -> None:
        """Tell of a stretch in which nothing else could be done."""
        if spent >= _LONG_SECONDS:
            self._tell("it held the tracker up", detail=f" for {spent:.2f} s")

    def _tell(self, what: str, error: BaseException | None = None, detail: str = "") -> None:
        if self._seldom.allows(what, time.monotonic()):
            log.warning("hook %s: %s%s", self._name, what, detail, exc_info=error)


class _Watched:
    """Waits for a coroutine, and measures each stretch in which it keeps the loop to itself."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], heed: Callable[[float], None]) -> None:
        self._coroutine = coroutine
        self._heed = heed

    def __await__(self) -> Generator[Any, Any, None]:
        thrown: BaseException | None = None
        while True:
            began = time.perf_counter()
            try:
                waits_for = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration:
                return
            finally:
                self._heed(time.perf_counter() - began)
            thrown = None
            try:
                yield waits_for
            except BaseException as error:  # handed on, cancellation above all
                thrown = error
