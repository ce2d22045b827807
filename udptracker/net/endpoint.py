"""The edge of the tracker: datagrams in, replies out. Nothing below this file knows a socket.

`UdpEndpoint` is the asyncio protocol. `DatagramSocket` is its transport on the event loop's readiness calls: it reads
all that has arrived, up to a bound, before it gives the loop back, and where it listens on a wildcard address it
answers from the address that was asked, for which asyncio's own transport has no means (packet info: ip(7), RFC 3542).

What waited in a socket while the process stood still (a paused or suspended machine, SIGSTOP) is old news by the time
it is read: its sender has asked again, perhaps another node, and may have left since. It is dropped, not believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from udptracker.core import reasons
from udptracker.core.counters import Counters
from udptracker.core.tracker import Pending, Tracker
from udptracker.net.sockets import since_boot
from udptracker.service.batcher import Request

_READS_PER_TURN: Final = 64
"""Datagrams read before other callbacks get a turn: about half a millisecond of work."""

_SPARSE: Final = 25_000
_RARE: Final = 500_000
"""Nanoseconds between datagrams, on average, from which and up to which a socket keeps a pace. More often, and there
are several to read each time anyway; more seldom, and there is nothing to gather."""

_WINDOW: Final = 10_000_000
"""Nanoseconds over which that average is taken."""

_RECEIVE_BYTES: Final = 16 + 20 * 128
"""More than fits an Ethernet frame; what a longer datagram loses is options, or whole info hashes of a scrape."""

_STALE: Final = 15_000_000_000
"""Nanoseconds after which a BEP 15 client asks again ("Time outs"), so that to drop what is older costs it nothing."""

_MOST_STALE: Final = 1_000_000
"""Datagrams dropped at once: more than a socket's buffer holds."""

_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_CONTROL_BYTES: Final = socket.CMSG_SPACE(20)
_WILDCARDS: Final = ("0.0.0.0", "::")


class Pace:
    """Decides whether a socket is read at a pace instead of whenever something arrives.

    It is while datagrams come all the time but far apart: to be woken for each of them costs several times what it
    costs to answer it.

    Args:
        seconds: between two turns; 0 for no pace.
        now: by `since_boot`, as all times here.
    """

    def __init__(self, seconds: float, now: int) -> None:
        self.seconds = seconds
        self._since = now
        self._count = 0
        self._sparse = False

    def is_kept(self, received: int, now: int) -> bool:
        """Whether the next turn comes at the pace, after one at `now` that received so many datagrams."""
        self._count += received
        elapsed = now - self._since
        if elapsed > _WINDOW:
            self._sparse = self._count * _SPARSE < elapsed < self._count * _RARE
            self._count, self._since = 0, now
        return self._sparse and 0 < received < _READS_PER_TURN and self.seconds > 0


class DatagramSocket(asyncio.DatagramTransport):
    """A transport over a bound, non-blocking UDP socket.

    A reply that the kernel has no room for is dropped and reported to the protocol, not kept: a BEP 15 client asks
    again, and the process must not grow. `beat` is to be called every few seconds.

    Args:
        pace: seconds between two turns, where a `Pace` is kept.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: UdpEndpoint, pace: float
    ) -> None:
        super().__init__({"socket": sock, "sockname": sock.getsockname()})
        self._loop = loop
        self._socket = sock
        self._protocol = protocol
        self._awake_at = since_boot()
        self._pace = Pace(pace, self._awake_at)
        self._closing = False
        self._paced: asyncio.TimerHandle | None = None
        protocol.connection_made(self)
        loop.add_reader(sock, self._read)

    def beat(self, now: int) -> None:
        """Note that the process runs at `now`, by `since_boot`. If it has not for so long that clients have asked
        again, drop what waits."""
        asleep, self._awake_at = now - self._awake_at, now
        if asleep > _STALE and not self._closing:
            self._drop_stale()

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send now or drop; a failure goes to `error_received`."""
        try:
            self._socket.sendto(data, addr)
        except OSError as error:
            self._protocol.error_received(error)

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

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def _drop_stale(self) -> None:
        dropped = 0
        with contextlib.suppress(OSError):  # nothing left, or what the next read would say, too
            while dropped < _MOST_STALE:
                self._socket.recv(1)
                dropped += 1
        self._protocol.stale_dropped(dropped)

    def _read(self) -> None:
        """One turn: because something has arrived, or at its own pace while a little arrives all the time."""
        now = since_boot()
        self.beat(now)
        self._protocol.turn_begins()
        received = self._receive()
        if self._closing:
            return
        if self._pace.is_kept(received, now):
            if self._paced is None:
                self._loop.remove_reader(self._socket)
            self._paced = self._loop.call_later(self._pace.seconds, self._read)
        elif self._paced is not None:
            self._paced = None
            self._loop.add_reader(self._socket, self._read)

    def _receive(self) -> int:
        """Hand what has arrived, up to a bound, to the protocol; how many datagrams."""
        receive, received = self._socket.recvfrom, self._protocol.datagram_received
        count = 0
        try:
            while count < _READS_PER_TURN:
                received(*receive(_RECEIVE_BYTES))
                count += 1
        except BlockingIOError:
            pass
        except OSError as error:
            self._protocol.error_received(error)
        return count


class WildcardDatagramSocket(DatagramSocket):
    """The transport of a wildcard address: a reply leaves from the address that was asked.

    The address given to the protocol carries the packet info as its last item, and `sendto` takes it off again.
    It costs a little more a request than a socket bound to one address.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: UdpEndpoint, pace: float
    ) -> None:
        self._v6 = sock.family == socket.AF_INET6
        if self._v6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        super().__init__(loop, sock, protocol, pace)

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        info = addr[-1]
        if self._v6:
            control = (socket.IPPROTO_IPV6, _IPV6_PKTINFO, info)
        else:  # struct in_pktinfo: interface 0 for "by the routing table", the address to send from, padding
            control = (socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + info[4:8] + bytes(4))
        try:
            self._socket.sendmsg((data,), (control,), 0, addr[:-1])
        except OSError as error:
            self._protocol.error_received(error)

    def _receive(self) -> int:
        receive, received = self._socket.recvmsg, self._protocol.datagram_received
        count = 0
        try:
            while count < _READS_PER_TURN:
                data, control, _, source = receive(_RECEIVE_BYTES, _CONTROL_BYTES)
                received(data, (*source, control[0][2]))
                count += 1
        except BlockingIOError:
            pass
        except OSError as error:
            self._protocol.error_received(error)
        return count


class UdpEndpoint(asyncio.DatagramProtocol):
    """Hands datagrams to the tracker, its questions to `submit`, and replies to the transport.

    Args:
        tracker: decides what every datagram is answered with.
        submit: takes a request for the store; false when there is no room for it.
        counters: bytes, durations and drops are counted here.
        clock: Unix seconds.
    """

    def __init__(
        self,
        tracker: Tracker,
        submit: Callable[[Request], bool],
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._receive = tracker.receive
        self._submit = submit
        self._counters = counters
        self._durations = counters.durations
        self._clock = clock
        self.turn_begins()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._send = transport.sendto

    def turn_begins(self) -> None:
        """Read the clocks: all that is received before the next turn counts as arrived now."""
        self._arrived, self._now = monotonic_ns(), self._clock()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._counters.bytes_in += len(data)
        outcome = self._receive(data, addr[0], self._now)
        if outcome is None:
            return
        if isinstance(outcome, Pending):
            if not self._submit((outcome, self, addr, self._arrived)):
                self._counters.dropped[reasons.QUEUE_FULL] += 1
        else:
            self.reply(outcome, addr, self._arrived)

    def reply(self, data: bytes, addr: tuple[Any, ...], arrived: int) -> None:
        """Send an answer; `arrived` is when its request came, on the monotonic clock in nanoseconds."""
        self._send(data, addr)
        self._counters.bytes_out += len(data)
        self._durations[data[3]].add((monotonic_ns() - arrived) // 1000)

    def stale_dropped(self, count: int) -> None:
        """So many datagrams were dropped unread for their age."""
        self._counters.dropped[reasons.STALE] += count

    def error_received(self, exc: Exception) -> None:
        kind = reasons.REPLY_WOULD_BLOCK if isinstance(exc, BlockingIOError) else reasons.SOCKET_ERROR
        self._counters.dropped[kind] += 1


def listen(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, endpoint: UdpEndpoint, pace: float = 0.0
) -> DatagramSocket:
    """Serve a bound socket with an endpoint, at this pace in seconds (see `Pace`)."""
    wildcard = sock.getsockname()[0] in _WILDCARDS
    return (WildcardDatagramSocket if wildcard else DatagramSocket)(loop, sock, endpoint, pace)
