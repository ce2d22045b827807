"""A run from outside: starts the workers, keeps time, reads the tracker's CPU, and adds everything up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from udptracker.client.targets import BadTarget, resolve
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


class LoadInterrupted(KeyboardInterrupt):
    """Ctrl-C after the first second that counted. `report`: of the seconds until then."""

    def __init__(self, report: LoadReport) -> None:
        super().__init__()
        self.report = report


def run(options: LoadOptions, on_interval: Callable[[Interval], None] | None = None) -> LoadReport:
    """Load a tracker and report. `on_interval` is called after each second of the run.

    The workers are spawned processes, so a script that calls this must be importable (`if __name__ == "__main__"`).

    Raises:
        LoadError: it cannot be done, or may not be.
        LoadInterrupted: by Ctrl-C, with what was found until then; a `KeyboardInterrupt` if that is nothing.
    """
    try:
        family, target = resolve(options.host, options.port, options.family)
    except BadTarget as error:
        raise LoadError(str(error)) from None
    refuse_strangers(target[0], options.own_tracker)
    with _workers(options, family, target) as pipes:
        gathering = _Gathering(pipes)
        gathering.await_ready()
        pids = options.pids or cpu.listeners(*target)
        start = time.monotonic() + _HEAD_START
        for pipe in pipes:
            pipe.send(int(start * SECOND))
        counted = start + options.warmup
        gathering.gather(until=counted)
        meter = _Meter(pids, on_interval)
        interrupted = False
        try:
            gathering.gather(counted + options.duration + options.timeout + _END_PATIENCE, meter.read)
        except KeyboardInterrupt:
            if not gathering.intervals:
                raise
            interrupted = True
        if not (gathering.complete or interrupted):
            raise LoadError("the generator does not come to an end")
        report = LoadReport.of(
            options,
            ("[{}]:{}" if family == 6 else "{}:{}").format(*target),
            gathering.total,
            gathering.intervals,
            pids,
            meter.spent,
            interrupted=interrupted,
        )
        if interrupted:
            raise LoadInterrupted(report)
    return report


class _Meter:
    """The CPU of the tracker's processes: `spent`, in seconds, from now on to the last interval."""

    def __init__(self, pids: Collection[int], then: Callable[[Interval], None] | None) -> None:
        self.spent = 0.0
        self._pids = pids
        self._then = then
        self._before = cpu.cpu_seconds(pids)

    def read(self, interval: Interval) -> None:
        """Call after each interval."""
        self.spent = cpu.spent(self._before, cpu.cpu_seconds(self._pids))
        if self._then:
            self._then(interval)


class _Gathering:
    """Adds up what the workers count, second by second."""

    def __init__(self, pipes: list[Connection]) -> None:
        self.intervals: list[Interval] = []
        self._waiting = dict.fromkeys(pipes, 0)  # how many tallies each has handed over
        self._count = len(pipes)
        self._whole = Tally()
        self._sums: dict[int, Tally] = {}
        self._parts: Counter[int] = Counter()

    @property
    def complete(self) -> bool:
        """Whether every worker has handed over everything."""
        return not self._waiting

    @property
    def total(self) -> Tally:
        """Of all intervals, and of the wait at the end if that is complete."""
        whole = Tally()
        for tally in (self._whole, *(self._sums.values() if self.complete else ())):
            whole.add(tally)
        return whole

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

    def gather(self, until: float, on_interval: Callable[[Interval], None] | None = None) -> None:
        """Take tallies until this monotonic time, or until there are no more; `on_interval` is told each second's.

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
                    if on_interval and tally.seconds and self._parts[nth] == self._count:
                        on_interval(self.intervals[-1])

    def _take(self, nth: int, tally: Tally) -> None:
        second = self._sums.setdefault(nth, Tally(seconds=tally.seconds, ended=tally.ended))
        second.add(tally)
        self._parts[nth] += 1
        if second.seconds and self._parts[nth] == self._count:
            self.intervals.append(Interval.of(nth + 1, second))
            self._whole.add(second)
            del self._sums[nth]  # the latencies of an hour's seconds, one by one, would be gigabytes


@contextmanager
def _workers(options: LoadOptions, family: int, target: tuple[str, int]) -> Iterator[list[Connection]]:
    """Pipes to the started workers, which end with the block, whatever they are at."""
    context = get_context("spawn")
    processes, pipes = [], []
    resource_tracker.ensure_running()  # starting it with the first process would let held signals through
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
