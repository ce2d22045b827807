"""Turns of datagrams: many in one system call where the C of `_burst.c` was compiled, one by one where it was not.

Both have the same interface, and tests hold both to it:

- `receive()` gives what has arrived, up to `TURN` datagrams: (data, packed source address, handle). What is longer than
  `RECEIVE_BYTES` is cut. A datagram from port 0, which nobody can answer, is left out and counted in `unanswerable`.
  Raises OSError for what the socket reports in place of a datagram.
- `send(replies)` sends (data, handle) one after the other: (how many the kernel had no room for, how many it refused).
  One that is refused is passed over; once there is no room, the rest is dropped: a BEP 15 client asks again.

A source is 4 bytes, also for an IPv4-mapped address, or 16. A handle says where to answer, and on a socket with packet
info from which of our addresses (ip(7), ipv6(7)); only whoever made it can read it.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

from udptracker.core.tracker import Datagram, Reply

TURN: Final = 64
"""Datagrams read before other callbacks get a turn: about half a millisecond of work, interpreted."""

RECEIVE_BYTES: Final = 16 + 20 * 128
"""More than fits an Ethernet frame; what a longer datagram loses is options, or whole info hashes of a scrape."""

_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_CONTROL_BYTES: Final = socket.CMSG_SPACE(20)
_MAPPED: Final = "::ffff:"
_WILDCARDS: Final = ("0.0.0.0", "::")


class Burst(Protocol):
    """See the module."""

    @property
    def unanswerable(self) -> int: ...

    def receive(self) -> list[Datagram]: ...

    def send(self, replies: list[Reply]) -> tuple[int, int]: ...


def make_burst(sock: socket.socket) -> Burst:
    """For a bound, non-blocking UDP socket, which must outlive it. On a wildcard address replies leave from the address
    that was asked."""
    is_v6 = sock.family == socket.AF_INET6
    packet_info = sock.getsockname()[0] in _WILDCARDS
    if packet_info and is_v6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    elif packet_info:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    try:
        from udptracker.net._burst import Burst as CompiledBurst
    except ImportError:
        return PlainBurst(sock, is_v6, packet_info)
    return CompiledBurst(sock.fileno(), is_v6, packet_info)


def packed_source(host: str) -> bytes:
    """The packed address of a socket's host: 4 bytes, also for an IPv4-mapped one, or 16; a zone is cut off."""
    if ":" not in host:
        return socket.inet_aton(host)
    if host.startswith(_MAPPED) and "." in host:
        return socket.inet_aton(host[len(_MAPPED) :])
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])


class PlainBurst:
    """The twin in Python. A handle is the address for `sendmsg` and its control messages."""

    def __init__(self, sock: socket.socket, is_v6: bool, packet_info: bool) -> None:
        self.unanswerable = 0
        self._socket = sock
        self._is_v6 = is_v6
        self._packet_info = packet_info

    def receive(self) -> list[Datagram]:
        turn: list[Datagram] = []
        receive, control_bytes = self._socket.recvmsg, _CONTROL_BYTES if self._packet_info else 0
        for _ in range(TURN):
            try:
                data, control, _, address = receive(RECEIVE_BYTES, control_bytes)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                if turn:
                    break  # the next turn begins with it, if it is still true
                raise
            if address[1] == 0:
                self.unanswerable += 1
            else:
                info = self._answering(control[0][2]) if control else ()
                turn.append((data, packed_source(address[0]), (address, info)))
        return turn

    def send(self, replies: list[Reply]) -> tuple[int, int]:
        send, failed = self._socket.sendmsg, 0
        for at, (data, handle) in enumerate(replies):
            assert isinstance(handle, tuple)  # made by `receive`
            address, info = handle
            try:
                send((data,), info, 0, address)
            except BlockingIOError:
                return len(replies) - at, failed
            except OSError:
                failed += 1
        return 0, failed

    def _answering(self, info: bytes) -> tuple[tuple[int, int, bytes], ...]:
        """The control message with which a reply leaves from the address in the packet info of its request."""
        if self._is_v6:
            return ((socket.IPPROTO_IPV6, _IPV6_PKTINFO, info),)
        # struct in_pktinfo: interface 0 for "by the routing table", the address to send from, padding
        return ((socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + info[4:8] + bytes(4)),)
