"""A process of the generator: its lanes, the loop that drives them, and what it tells the process that started it.

The conversation over the pipe: the worker says READY (connected and prefilled) or a line on why it cannot; it is
told when to start, in nanoseconds of the monotonic clock; then it hands over a `Tally` for each second, one for the
answers that came after the end, and None.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import ceil, inf
from multiprocessing.connection import Connection
from pathlib import Path
from select import select
from time import monotonic_ns, process_time, sleep
from typing import Final

from udptracker.load.lane import SECOND, Lane
from udptracker.load.options import LoadError, LoadOptions, source_addresses
from udptracker.load.tally import Tally
from udptracker.load.world import World
from udptracker.spawning import take_signals

READY: Final = "ready"

_CONNECT_PATIENCE: Final = 5 * SECOND
_PREFILL_PATIENCE: Final = 5 * SECOND
_NAP: Final = SECOND // 20
"""The longest sleep, and how often lost requests are looked for."""

_RESTFUL: Final = 32
"""A closed loop that has given the tracker this many requests rests (`options.rest`) before it looks for answers, and
so does an open loop in which more than one request falls due in that time.

Else it is woken for every single one: measured, that doubles the CPU it takes and slows down the tracker and the
store beside it. Latencies contain the rest.
"""

_TIMER_SLACK: Final = Path("/proc/self/timerslack_ns")

_RECEIVE_BUFFER: Final = 4 << 20


def work(options: LoadOptions, family: int, target: tuple[str, int], place: int, pipe: Connection) -> None:
    """The life of worker number `place`, in a process of its own."""
    take_signals()
    with ExitStack() as stack:
        try:
            worker = Worker(options, family, target, place, stack)
            worker.prepare()
        except LoadError as error:
            pipe.send(str(error))
            return
        pipe.send(READY)
        worker.run(pipe.recv(), pipe.send)
        pipe.send(None)


class Worker:
    """Every `options.processes`-th lane of the run.

    Args:
        options: the run.
        family: IP version of the target.
        target: numeric address and port.
        place: which worker this is.
        stack: closes the sockets.

    Raises:
        LoadError: a source address cannot be bound, or the target not be reached.
    """

    def __init__(
        self, options: LoadOptions, family: int, target: tuple[str, int], place: int, stack: ExitStack
    ) -> None:
        self._options = options
        self._target = target
        self._timeout = int(options.timeout * SECOND)
        self._places = range(place, options.sources, options.processes)
        sources = source_addresses(target[0], options.sources)
        sockets = [stack.enter_context(_open(family, sources[nth % len(sources)], target)) for nth in self._places]
        own = [source or sockets[0].getsockname()[0] for source in sources]
        inet = socket.AF_INET6 if family == 6 else socket.AF_INET
        world = World(options, [socket.inet_pton(inet, address.partition("%")[0]) for address in own])
        self._lanes = [Lane(sock, nth, world, options, family) for sock, nth in zip(sockets, self._places, strict=True)]
        share, more = divmod(options.in_flight, len(self._lanes))
        for nth, lane in enumerate(self._lanes):
            lane.limit = max(1, share + (nth < more))
        self._readers = dict(zip(sockets, self._lanes, strict=True))
        self._expire_at = 0
        self._spacing = 0.0
        gc.freeze()

    def prepare(self) -> None:
        """Connect every lane, and announce every peer once if that is asked for.

        Raises:
            LoadError: the tracker does not answer.
        """
        host, port = self._target
        deadline = monotonic_ns() + _CONNECT_PATIENCE
        while not all(lane.connected for lane in self._lanes):
            now = monotonic_ns()
            if now > deadline:
                raise LoadError(f"no answer from {host} port {port} to a connect in {_CONNECT_PATIENCE // SECOND} s")
            for lane in self._lanes:
                lane.send(0, now, 0.0, now)
            self._receive(_NAP)
        if self._options.prefill:
            self._prefill()

    def run(self, start: int, report: Callable[[Tally], None]) -> None:
        """Warm up from `start` on, load, and wait for the last answers.

        `report` gets a tally for each second that counts and one for the wait at the end, whose `seconds` are 0.
        """
        counted = start + int(self._options.warmup * SECOND)
        end = counted + int(self._options.duration * SECOND)
        self._drive(start, sending_until=0)
        if self._options.rate:
            self._schedule(start, self._options.rate)
        self._drive(counted, sending_until=end)
        for lane in self._lanes:
            lane.forget()
        self._take_tally()
        mark, cpu = counted, process_time()
        while mark < end:
            until = min(mark + SECOND, end)
            self._drive(until, sending_until=end)
            tally = self._take_tally()
            tally.seconds, tally.ended = (until - mark) / SECOND, until / SECOND
            tally.cpu, cpu = process_time() - cpu, process_time()
            report(tally)
            mark = until
        self._drive(end + self._timeout, sending_until=end, while_waiting=True)
        for lane in self._lanes:
            lane.expire(monotonic_ns() + self._timeout)
            if self._spacing:
                lane.tally.unsent += max(0, ceil((end - lane.next_due) / self._spacing))
        report(self._take_tally())

    def _schedule(self, start: int, rate: float) -> None:
        """Deal out the due times of an open loop, one after the other over all lanes of all workers."""
        with suppress(OSError):  # the kernel may wake us 50 µs late to save power: prctl(2), PR_SET_TIMERSLACK
            _TIMER_SLACK.write_text("1000")
        self._spacing = self._options.sources * SECOND / rate
        for nth, lane in zip(self._places, self._lanes, strict=True):
            lane.next_due = start + nth * SECOND / rate

    def _drive(self, until: int, sending_until: int, *, while_waiting: bool = False) -> None:
        """Send what is to be sent before `sending_until` and receive, up to `until` or, with `while_waiting`, until
        every request has its answer."""
        feed = self._keep_to_schedule if self._spacing else self._fill
        rest = self._options.rest
        if self._spacing:
            resting = self._spacing / len(self._lanes) < rest * SECOND
        else:
            resting = rest > 0 and self._options.in_flight >= _RESTFUL
        while (now := monotonic_ns()) < until:
            wake: float = min(until, now + _NAP)
            for lane in self._lanes:
                wake = min(wake, feed(lane, now, sending_until))
            if while_waiting and not any(lane.waiting for lane in self._lanes):
                return
            if resting:
                sleep(rest)
            self._receive(wake - monotonic_ns())
            if now > self._expire_at:
                self._expire_at = now + _NAP
                for lane in self._lanes:
                    lane.expire(now)

    def _fill(self, lane: Lane, now: int, until: int) -> float:
        """Closed loop: a new request for each that was answered. When to come back at the latest."""
        free = lane.limit - lane.waiting
        if free > 0 and now < until:
            lane.send(free, now, 0.0, now)
        return inf

    def _keep_to_schedule(self, lane: Lane, now: int, until: int) -> float:
        """Open loop: send what is due, give up what was due a timeout ago. When the next one is due."""
        spacing = self._spacing
        missed = int((now - self._timeout - lane.next_due) / spacing)
        if missed > 0:
            lane.tally.unsent += missed
            lane.next_due += missed * spacing
        due = ceil((min(now + 1, until) - lane.next_due) / spacing)
        if due > 0:
            lane.next_due += lane.send(due, lane.next_due, spacing, now) * spacing
        return lane.next_due if lane.next_due < until else inf

    def _prefill(self) -> None:
        """Announce each peer once, as fast as answers come.

        Raises:
            LoadError: they stop coming.
        """
        left = {lane: lane.population for lane in self._lanes}
        for lane in left:
            lane.announce_only(True)
        heard = monotonic_ns()
        while any(left.values()):
            now = monotonic_ns()
            for lane, count in left.items():
                left[lane] -= lane.send(min(count, lane.limit - lane.waiting), now, 0.0, now)
                lane.expire(now)
            if self._receive(_NAP):
                heard = now
            elif now - heard > _PREFILL_PATIENCE:
                raise LoadError(f"{self._target[0]} port {self._target[1]} has stopped answering")
        for lane in left:
            lane.announce_only(False)

    def _receive(self, patience: float) -> bool:
        """Wait up to so many nanoseconds for answers and take them; whether there were any."""
        readable, _, _ = select(self._readers, (), (), max(0.0, patience / SECOND))
        for sock in readable:
            self._readers[sock].receive()
        return bool(readable)

    def _take_tally(self) -> Tally:
        """What the lanes counted since the last time."""
        taken = Tally()
        for lane in self._lanes:
            taken.add(lane.tally)
            lane.tally = Tally()
        return taken


def _open(family: int, source: str, target: tuple[str, int]) -> socket.socket:
    """A non-blocking socket between the two, `source` empty for the kernel's choice.

    Raises:
        LoadError: it cannot be had.
    """
    sock = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setblocking(False)
        sock.bind((source, 0))
        sock.connect(target)
    except OSError as error:
        sock.close()
        raise LoadError(f"cannot send to {target[0]} port {target[1]}: {error.strerror or error}") from error
    return sock
