"""A run from outside: starts the workers, keeps time, reads the tracker's CPU, and adds everything up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from udptracker.client.cli import BadTarget, resolve
from udptracker.load import cpu
from udptracker.load.lane import SECOND
from udptracker.load.options import LoadError, LoadOptions, refuse_strangers
from udptracker.load.report import Interval, LoadReport
from udptracker.load.tally import Tally
from udptracker.load.worker import READY, work
from udptracker.spawning import signals_held

_HEAD_START: Final = 0.05
"""Seconds from the word to start to the start, for it to reach all workers."""

_PREPARATION_PATIENCE: Final = 600.0
_END_PATIENCE: Final = 30.0
_GOODBYE_PATIENCE: Final = 5.0


def run(options: LoadOptions, on_interval: Callable[[Interval], None] | None = None) -> LoadReport:
    """Load a tracker and report. `on_interval` is called after each second of the run.

    The workers are spawned processes, so a script that calls this must be importable (`if __name__ == "__main__"`).

    Raises:
        LoadError: it cannot be done, or may not be.
    """
    try:
        family, target = resolve(options.host, options.port, options.family)
    except BadTarget as error:
        raise LoadError(str(error)) from None
    refuse_strangers(target[0], options.own_tracker)
    with _workers(options, family, target) as pipes:
        gathering = _Gathering(pipes, on_interval)
        gathering.await_ready()
        pids = options.pids or cpu.listeners(*target)
        start = time.monotonic() + _HEAD_START
        for pipe in pipes:
            pipe.send(int(start * SECOND))
        counted = start + options.warmup
        end = counted + options.duration
        gathering.gather(until=counted)
        before = cpu.cpu_seconds(pids)
        gathering.gather(until=end)
        spent = cpu.spent(before, cpu.cpu_seconds(pids))
        gathering.gather(until=end + options.timeout + _END_PATIENCE)
        if not gathering.complete:
            raise LoadError("the generator does not come to an end")
    name = "[{}]:{}" if family == 6 else "{}:{}"
    return LoadReport.of(options, name.format(*target), gathering.total, gathering.intervals, pids, spent)


class _Gathering:
    """Adds up what the workers count, second by second."""

    def __init__(self, pipes: list[Connection], on_interval: Callable[[Interval], None] | None) -> None:
        self.total = Tally()
        self.intervals: list[Interval] = []
        self._waiting = dict.fromkeys(pipes, 0)  # how many tallies each has handed over
        self._count = len(pipes)
        self._on_interval = on_interval
        self._sums: list[Tally] = []
        self._parts: list[int] = []

    @property
    def complete(self) -> bool:
        """Whether every worker has handed over everything."""
        return not self._waiting

    def await_ready(self) -> None:
        """Return when all workers are connected and prefilled.

        Raises:
            LoadError: one cannot be, for the reason it gives.
        """
        deadline = time.monotonic() + _PREPARATION_PATIENCE
        missing = set(self._waiting)
        while missing:
            ready = _speaking(missing, deadline - time.monotonic())
            if not ready:
                raise LoadError(f"the generator is not ready after {_PREPARATION_PATIENCE:.0f} s")
            for pipe in ready:
                message = _receive(pipe)
                if message != READY:
                    raise LoadError(str(message))
                missing.discard(pipe)

    def gather(self, until: float) -> None:
        """Take tallies until this monotonic time, or until there are no more.

        Raises:
            LoadError: a worker has died.
        """
        while self._waiting and (patience := until - time.monotonic()) > 0:
            for pipe in _speaking(self._waiting, patience):
                tally = _receive(pipe)
                if tally is None:
                    del self._waiting[pipe]
                else:
                    nth = self._waiting[pipe]
                    self._waiting[pipe] += 1
                    self._take(nth, tally)

    def _take(self, nth: int, tally: Tally) -> None:
        if nth == len(self._sums):
            self._sums.append(Tally(seconds=tally.seconds))
            self._parts.append(0)
        whole = self._sums[nth]
        whole.add(tally)
        self._parts[nth] += 1
        if self._parts[nth] == self._count:
            self.total.add(whole)
            if whole.seconds:
                self.intervals.append(Interval.of(nth + 1, whole))
                if self._on_interval:
                    self._on_interval(self.intervals[-1])


@contextmanager
def _workers(options: LoadOptions, family: int, target: tuple[str, int]) -> Iterator[list[Connection]]:
    """Pipes to the started workers, which end with the block, whatever they are at."""
    context = get_context("spawn")
    processes, pipes = [], []
    try:
        with signals_held():
            for place in range(options.processes):
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(options, family, target, place, theirs), daemon=True)
                process.start()
                theirs.close()
                processes.append(process)
                pipes.append(ours)
        yield pipes
        for process in processes:
            process.join(_GOODBYE_PATIENCE)
    finally:
        for process in processes:
            process.kill()
            process.join()
        for pipe in pipes:
            pipe.close()


def _speaking(pipes: Iterable[Connection], patience: float) -> list[Connection]:
    """Those of the pipes that have something to receive within so many seconds."""
    candidates = list(pipes)
    ready = wait(candidates, patience)
    return [pipe for pipe in candidates if pipe in ready]


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        raise LoadError("a process of the generator has died") from None
