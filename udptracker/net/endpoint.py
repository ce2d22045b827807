"""The edge of the tracker: turns of datagrams in, replies out. Nothing below this room knows a socket.

`UdpEndpoint` is the asyncio protocol; under asyncio's own transports, or uvloop's, each datagram is a turn of one.
`TurnTransport` is a transport on the event loop's readiness calls that reads a turn at once (see `burst`), and sends
the replies to it at once.

What waited in a socket while the process stood still (a paused or suspended machine, SIGSTOP) is old news by the time
it is read: its sender has asked again, perhaps another node, and may have left since. It is dropped, not believed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, Final, cast

from udptracker.core import reasons
from udptracker.core.counters import Counters
from udptracker.core.executor import Executor
from udptracker.core.tracker import Datagram, Reply, Tracker, Turn
from udptracker.net.burst import make_burst, packed_source
from udptracker.net.pace import Pace
from udptracker.net.sockets import drop_waiting, since_boot

log = logging.getLogger(__name__)

_STALE: Final = 15_000_000_000
"""Nanoseconds after which a BEP 15 client asks again ("Time outs"), so that to drop what is older costs it nothing."""

_FAULT_SECONDS: Final = 10.0
"""Between two lines of the log about errors that nobody foresaw: whoever can cause one can cause many."""

Send = Callable[[list[Reply]], None]


class UdpEndpoint(asyncio.DatagramProtocol):
    """Hands turns to the tracker, their questions to the executor, and replies to the transport.

    Args:
        tracker: decides what every datagram is answered with.
        executor: answers what needs the store.
        counters: bytes, durations and drops are counted here.
        clock: Unix seconds.
    """

    def __init__(
        self,
        tracker: Tracker,
        executor: Executor,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._executor = executor
        self._counters = counters
        self._clock = clock
        self._send: Send
        self._faults_unsaid = 0
        self._fault_said_at = -_FAULT_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport | TurnTransport) -> None:
        if isinstance(transport, TurnTransport):
            self._send = transport.send
        else:
            self._send = _one_by_one(cast(asyncio.DatagramTransport, transport))  # uvloop's is one without saying so

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """A turn of one, from a transport that knows no others."""
        if addr[1]:
            self.turn_received([(data, packed_source(addr[0]), addr)])
        else:
            self._counters.dropped[reasons.UNANSWERABLE] += 1

    def turn_received(self, datagrams: Sequence[Datagram]) -> None:
        """Answer what can be answered at once. The clocks are read here, once for all of them."""
        counters = self._counters
        received = 0
        for data, _, _ in datagrams:
            received += len(data)
        counters.bytes_in += received
        turn = self._tracker.receive(datagrams, self._clock(), monotonic_ns())
        if turn.questions:
            try:
                self._executor.submit(turn, self)
            except Exception as error:  # whatever it is, the others of the turn are answered
                counters.dropped[reasons.UNFORESEEN] += len(turn.questions)
                turn.faults.append(error)
        self.answer(turn)

    def answer(self, turn: Turn) -> None:
        """Send the replies of a turn, and count them."""
        replies = turn.replies
        if replies:
            turn.replies = []
            self._send(replies)
            sent = 0
            for data, _ in replies:
                sent += len(data)
            self._counters.bytes_out += sent
            took = (monotonic_ns() - turn.arrived) // 1000
            for kind, count in enumerate(turn.answered):
                if count:
                    self._counters.durations[kind].add(took, count)
            turn.answered = [0, 0, 0, 0]
        if turn.faults:
            self._say_faults(turn)

    def replies_dropped(self, blocked: int, refused: int) -> None:
        """So many replies found no room in the kernel, and so many were refused by it."""
        self._counters.dropped[reasons.REPLY_WOULD_BLOCK] += blocked
        self._counters.dropped[reasons.SOCKET_ERROR] += refused

    def unanswerable_dropped(self, count: int) -> None:
        """So many datagrams came from port 0."""
        self._counters.dropped[reasons.UNANSWERABLE] += count

    def stale_dropped(self, count: int) -> None:
        """So many datagrams were dropped unread for their age."""
        self._counters.dropped[reasons.STALE] += count

    def error_received(self, exc: Exception) -> None:
        self._counters.dropped[reasons.SOCKET_ERROR] += 1

    def _say_faults(self, turn: Turn) -> None:
        """Log the first of them, seldom enough that no sender can fill the log."""
        now = monotonic_ns() / 1e9
        self._faults_unsaid += len(turn.faults)
        if now - self._fault_said_at >= _FAULT_SECONDS:
            error = turn.faults[0]
            log.error("%d datagrams met an unforeseen error, the last: %r", self._faults_unsaid, error, exc_info=error)
            self._faults_unsaid, self._fault_said_at = 0, now
        turn.faults = []


def _one_by_one(transport: asyncio.DatagramTransport) -> Send:
    def send(replies: list[Reply]) -> None:
        for data, handle in replies:
            assert isinstance(handle, tuple)  # the address that came with the datagram
            transport.sendto(data, handle)

    return send


class TurnTransport:
    """A transport over a bound, non-blocking UDP socket. `beat` is to be called every few seconds.

    A reply that the kernel has no room for is dropped and reported to the protocol, not kept: a BEP 15 client asks
    again, and the process must not grow.

    Args:
        pace: seconds between two turns, where a `Pace` is kept.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: UdpEndpoint, pace: float
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._burst = make_burst(sock)
        self._protocol = protocol
        self._awake_at = since_boot()
        self._pace = Pace(pace, self._awake_at)
        self._unanswerable = 0
        self._closing = False
        self._paced: asyncio.TimerHandle | None = None
        protocol.connection_made(self)
        loop.add_reader(sock, self._read)

    def beat(self, now: int) -> None:
        """Note that the process runs at `now`, by `since_boot`. If it has not for so long that clients have asked
        again, drop what waits."""
        asleep, self._awake_at = now - self._awake_at, now
        if asleep > _STALE and not self._closing:
            self._protocol.stale_dropped(drop_waiting(self._socket))

    def send(self, replies: list[Reply]) -> None:
        """Send now or drop; what was dropped goes to `replies_dropped`."""
        blocked, refused = self._burst.send(replies)
        if blocked or refused:
            self._protocol.replies_dropped(blocked, refused)

    def stop_reading(self) -> None:
        """Leave what arrives from now on unread; replies still go out."""
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._socket)
            if self._paced is not None:
                self._paced.cancel()

    def close(self) -> None:
        self.stop_reading()
        self._socket.close()

    def _read(self) -> None:
        """One turn: because something has arrived, or at its own pace while a little arrives all the time."""
        now = since_boot()
        self.beat(now)
        received = 0
        try:
            datagrams = self._burst.receive()
            received = len(datagrams)
            if datagrams:
                self._protocol.turn_received(datagrams)
        except OSError as error:
            self._protocol.error_received(error)
        except Exception:  # whatever it is, the socket goes on
            log.exception("a turn of %d datagrams was lost to an unforeseen error", received)
        if self._burst.unanswerable != self._unanswerable:
            self._protocol.unanswerable_dropped(self._burst.unanswerable - self._unanswerable)
            self._unanswerable = self._burst.unanswerable
        if self._closing:
            return
        if self._pace.is_kept(received, now):
            if self._paced is None:
                self._loop.remove_reader(self._socket)
            self._paced = self._loop.call_later(self._pace.seconds, self._read)
        elif self._paced is not None:
            self._paced = None
            self._loop.add_reader(self._socket, self._read)
