"""Several workers on the same ports, each a node in a process of its own, under one supervising parent.

The parent binds a socket for each worker and listen address with SO_REUSEPORT and keeps them open: the kernel spreads
senders over them, and what arrives for a worker that died waits for its successor. The parent serves no datagram; it
restarts workers, sums their counters for `/metrics`, and ends them. Workers end by themselves when the parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

import uvloop

from udptracker.config import Settings
from udptracker.core.swarm import StoreError
from udptracker.observe import logs
from udptracker.observe.metrics import merged
from udptracker.service.node import DRAIN_SECONDS, Node, until_told_to_stop
from udptracker.spawning import signals_held, take_signals

log = logging.getLogger(__name__)

_STOP_SECONDS: Final = 2 * DRAIN_SECONDS + 2
"""The most that the parent waits for its workers to end by themselves."""
_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)
_ANSWER_SECONDS: Final = 2.0
_SHORT_LIFE: Final = 1.0
"""A worker that lived for less is restarted only after this many seconds more."""


class Worker:
    """One worker as the parent sees it: a process, and a pipe on which it answers questions."""

    def __init__(self, index: int, settings: Settings, keys: Sequence[bytes], sockets: Sequence[socket.socket]) -> None:
        self.index = index
        self._arguments = (index, settings, keys, sockets)
        self._lock = threading.RLock()
        self._last: dict[str, Any] | None = None
        self._of_the_dead: dict[str, Any] | None = None
        self.start()

    def start(self) -> None:
        """Start the process, for the first time or again.

        Raises:
            OSError: the system has no room for it.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=run_worker, args=(*self._arguments, theirs), name=f"worker {self.index}")
        with theirs, signals_held():
            process.start()
        with self._lock:
            self._pipe = ours
            self.process: BaseProcess = process
        self.started = time.monotonic()

    def snapshot(self) -> dict[str, Any] | None:
        """The worker's counters with those of its predecessors, and while it does not answer as they last were, so
        that no sum ever falls; None if there was never an answer."""
        with self._lock:
            answer = self.ask("snapshot")
            if answer is not None:
                self._last = answer
            last, dead = self._last, self._of_the_dead
            if last is None or dead is None:
                return last or dead
            return {**last, **merged([last, dead]), "store_up": last["store_up"]}

    def bury(self) -> None:
        """Keep what the dead process last counted, without what it measured of itself."""
        with self._lock:
            if self._last is not None:
                kept = {**self._last, "queue_depth": 0, "buffered": 0, "totals": {}}
                dead = self._of_the_dead
                self._of_the_dead = kept if dead is None else {**kept, **merged([kept, dead])}
                self._last = None

    def ask(self, question: str) -> Any:
        """The worker's answer to `snapshot` or `ready`; None if it is dead or does not answer in time."""
        with self._lock, contextlib.suppress(OSError, EOFError):
            while self._pipe.poll():  # an answer that came too late for whoever asked
                self._pipe.recv()
            self._pipe.send(question)
            deadline = time.monotonic() + _ANSWER_SECONDS
            while self._pipe.poll(max(deadline - time.monotonic(), 0)):
                asked, answer = self._pipe.recv()
                if asked == question:
                    return answer
        return None

    def stop(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.process.pid is not None and self.process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class Supervisor:
    """See the module. From its start on SIGTERM and SIGINT are noted for `run`, which blocks until one has come."""

    def __init__(self, settings: Settings, keys: Sequence[bytes], sockets: Sequence[Sequence[socket.socket]]) -> None:
        self._signals, self._wake = socket.socketpair()
        for end in (self._signals, self._wake):
            end.setblocking(False)
        self._previous_wake = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in _ENDINGS:
            signal.signal(number, lambda *_: None)
        self._workers: list[Worker] = []
        self._arguments = (settings, keys, sockets)

    def start(self) -> None:
        """Start the workers.

        Raises:
            OSError: the system has no room for them; `end` ends those that were started.
        """
        settings, keys, sockets = self._arguments
        for index, mine in enumerate(sockets):
            self._workers.append(Worker(index, settings, keys, mine))

    def snapshots(self) -> dict[str, dict[str, Any]]:
        """The counters of every worker that has ever answered, by its index."""
        taken = {str(worker.index): worker.snapshot() for worker in self._workers}
        return {name: snapshot for name, snapshot in taken.items() if snapshot is not None}

    def alive(self) -> bool:
        """Whether every worker answers."""
        return all(worker.ask("snapshot") is not None for worker in self._workers)

    def ready(self) -> tuple[bool, str]:
        """Whether every worker is ready, and the word of the first that is not."""
        for worker in self._workers:
            answer = worker.ask("ready")
            if answer is None:
                return False, f"worker {worker.index} does not answer"
            if not answer[0]:
                return False, f"worker {worker.index}: {answer[1]}"
        return True, "ready"

    def run(self) -> int:
        """Keep the workers alive until a signal says to stop; the exit status."""
        while not self._told():
            self._restart_dead()
        return 0

    def _told(self) -> bool:
        """Wait until a worker dies or a signal comes; whether a signal came."""
        wait([self._signals, *(worker.process.sentinel for worker in self._workers)], timeout=1.0)
        with contextlib.suppress(BlockingIOError):
            return bool(self._signals.recv(64))
        return False

    def _restart_dead(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                continue
            worker.process.join()
            worker.bury()
            log.warning("%s died (%s), starting it again", worker.process.name, _ending(worker.process.exitcode))
            if time.monotonic() - worker.started < _SHORT_LIFE:
                time.sleep(_SHORT_LIFE)
            try:
                worker.start()
            except OSError as error:
                log.error("%s cannot be started: %s", worker.process.name, error)
                time.sleep(_SHORT_LIFE)

    def end(self) -> None:
        """End the workers, within a bound; a signal that comes meanwhile kills them."""
        signal.set_wakeup_fd(self._previous_wake)
        for number in _ENDINGS:
            signal.signal(number, self._kill_now)
        for worker in self._workers:
            worker.stop(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            worker.process.join(max(deadline - time.monotonic(), 0))
            if worker.process.is_alive():
                log.warning("%s did not end in time and is killed", worker.process.name)
                worker.stop(signal.SIGKILL)
                worker.process.join()

    def _kill_now(self, number: int, _: Any) -> None:
        for worker in self._workers:
            worker.stop(signal.SIGKILL)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def run_worker(
    index: int, settings: Settings, keys: Sequence[bytes], sockets: Sequence[socket.socket], pipe: Connection
) -> None:
    """The whole life of a worker process."""
    take_signals()
    os.setpgrp()  # from now on the terminal's Ctrl-C is for the parent alone
    logs.configure(settings.log_level, f"worker {index}: ", settings.log_format)
    with contextlib.suppress(StoreError):  # said in the log already
        uvloop.run(_work(index, settings, keys, sockets, pipe))


async def _work(
    index: int, settings: Settings, keys: Sequence[bytes], sockets: Sequence[socket.socket], pipe: Connection
) -> None:
    loop = asyncio.get_running_loop()
    node = Node(settings, keys, sockets, reaps=index == 0)  # one of them is enough for the store they share
    told = loop.create_task(until_told_to_stop())

    async def answer_ready() -> None:
        pipe.send(("ready", await node.ready()))

    answers: set[asyncio.Task[None]] = set()

    def on_question() -> None:
        try:
            question = pipe.recv()
        except (EOFError, OSError):  # the parent is gone
            loop.remove_reader(pipe.fileno())
            told.cancel()
            return
        if question == "ready":
            task = loop.create_task(answer_ready())
            answers.add(task)
            task.add_done_callback(answers.discard)
        else:
            pipe.send((question, node.snapshot()))

    loop.add_reader(pipe.fileno(), on_question)
    started = loop.create_task(node.start())
    try:
        await asyncio.wait({told, started}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
        await asyncio.wait({told})
    except StoreError as error:
        log.error("%s", error)
        raise
    finally:
        started.cancel()
        await node.stop()


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}"
    return f"exit status {exitcode}"
