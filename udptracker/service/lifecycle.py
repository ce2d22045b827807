"""The life of a process, the same for a node by itself, for a worker and for their parent: start, serve, stop.

From the signal that says so, a process ends within `STOP_SECONDS`, whatever its store, its workers and its tasks do:
each step of a stop has its part of that, and whoever does not keep it is named in the log and left.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import uvloop

from udptracker.core.busiest import BusySwarm

if TYPE_CHECKING:
    from udptracker.config import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_SECONDS: Final = 5.0
"""From the signal to the end of the process, on a machine that is not overloaded."""
DRAIN_SECONDS: Final = 2.0
"""Of those, how long a node waits for its store to answer what was accepted."""
CLOSE_SECONDS: Final = 0.5
"""And for its chores to end, and again for its store to close."""
WORKERS_SECONDS: Final = 4.0
"""And how long the parent waits for its workers, before it kills them."""
SAVE_SECONDS: Final = 3.0
"""And how long after its stop began what it keeps over a restart must be written: all that is left, but for closing."""
PUBLISH_SECONDS: Final = 1.0
"""And then, at least, for that to be put where it belongs: a disk may take its time, and most stops leave some."""
_LAST_RESORT_SECONDS: Final = 15.0
"""What even an overloaded machine needs no longer than."""

_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)
_NEWS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Service(Protocol):
    """What lives in a process: a node, or the parent of several."""

    async def start(self) -> None:
        """Return once requests are served.

        Raises:
            StoreError: the store can never serve.
            AccessError: the access control can never decide.
            OSError: the system has no room for it.
        """

    async def stop(self) -> None:
        """End within `STOP_SECONDS`, also when it has not started or only in part."""

    async def use(self, settings: Settings, keys: Sequence[bytes]) -> bool:
        """Go on with other settings and keys; whether every process of it does already.

        Raises:
            AccessError: one of them cannot, and all go on with those of before.
        """

    async def save(self, path: str) -> list[str]:
        """Write what each process of it holds beside the path of a snapshot; what kept any of them from it."""

    def save_at_stop(self, path: str) -> None:
        """Let its `stop` do so once more, when nothing is served any more."""

    async def snapshots(self) -> dict[str, dict[str, Any]]:
        """The counters of each process that serves, by its name."""

    async def turns(self) -> bool:
        """Whether every process of it has an event loop that turns and a store that answers in time, or is known to
        be away."""

    async def alive(self) -> bool:
        """Whether every process of it responds."""

    async def ready(self) -> tuple[bool, str]:
        """Whether requests reach the store, and a word on it."""

    async def busiest(self) -> list[BusySwarm]:
        """The swarms that announced most in the last minute, as many as `status_swarms` says."""


def take_news() -> None:
    """From now on no signal that operators send ends the process but SIGTERM, SIGINT and SIGKILL."""
    for number in _NEWS:
        signal.signal(number, lambda number, _: _ignore(signal.Signals(number)))


def run(life: Coroutine[Any, Any, T]) -> T:
    """Run a life on an event loop of its own. Tasks that are left when it ends hold nothing up."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(life)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            _, stuck = loop.run_until_complete(asyncio.wait(left, timeout=CLOSE_SECONDS))
            for task in stuck:
                log.warning("a task does not end and is left: %r", task)
        asyncio.set_event_loop(None)
        loop.close()
        faulthandler.cancel_dump_traceback_later()


def end_at_the_latest() -> None:
    """The last resort, for what holds up the loop, until `run` returns, or the interpreter itself, if it is called when
    nothing but the end is left: the process ends in `_LAST_RESORT_SECONDS`, whatever it is at."""
    if sys.stderr is not None:
        faulthandler.dump_traceback_later(_LAST_RESORT_SECONDS, exit=True)


async def live(
    service: Service, told: asyncio.Event, serving: Callable[[], None], stopping: Callable[[], None] | None = None
) -> None:
    """From start to stop.

    Args:
        told: set when it is to stop, by signals among others (see `heed`).
        serving: called once, when requests are served.
        stopping: called once, before anything is stopped.
    """
    starting = asyncio.ensure_future(service.start())
    waiting = asyncio.ensure_future(told.wait())
    try:
        # A store that is away may keep `start` waiting for long: the signal must still be heard.
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            serving()
            await waiting
    finally:
        end_at_the_latest()
        if stopping is not None:
            stopping()
        waiting.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=CLOSE_SECONDS)
            if starting.done() and not starting.cancelled() and (error := starting.exception()) is not None:
                log.info("the start was given up, and would have failed: %s", error)
        await service.stop()


def heed(
    told: asyncio.Event,
    *,
    reload: Callable[[], None] | None = None,
    report: Callable[[], None] | None = None,
    before_the_end: Callable[[], None] | None = None,
) -> None:
    """Set `told` at the first SIGTERM or SIGINT; the next one ends the process at once.

    Args:
        reload: called at SIGHUP, and at SIGUSR1 as in chihaya; ignored with a word if there is none.
        report: the same at SIGUSR2.
        before_the_end: called before the process is ended at once, for what would outlive it.
    """
    loop = asyncio.get_running_loop()

    def end(number: int, _: object) -> None:
        if before_the_end is not None:
            before_the_end()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def tell() -> None:
        told.set()
        for number in _ENDINGS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if before_the_end is None else end)

    for number in _ENDINGS:
        loop.add_signal_handler(number, tell)
    for number, heard in zip(_NEWS, (reload, reload, report), strict=True):
        if heard is None:
            loop.add_signal_handler(number, _ignore, number)
        else:
            loop.add_signal_handler(number, heard)


async def within(seconds: float, work: Coroutine[Any, Any, object], what: str) -> None:
    """Wait for work, at most so long, even if it does not let itself be cancelled; then it is named and left."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
        log.warning("%s within %g s", what, seconds)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.error("a step of the stop failed in an unforeseen way", exc_info=error)


def _ignore(number: signal.Signals) -> None:
    log.warning("%s is ignored: it is for the parent, once that has started", signal.Signals(number).name)
