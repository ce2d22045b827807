"""Bound UDP sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
from time import CLOCK_BOOTTIME, clock_gettime_ns
from typing import Final

_MOST_DROPPED: Final = 1_000_000
"""Datagrams dropped at once: more than a socket's buffer holds."""
_MARK: Final = struct.pack("@ll", 6969, 0)
"""A struct timeval, as SO_RCVTIMEO."""


def since_boot() -> int:
    """Nanoseconds on a clock that also runs while the machine is suspended."""
    return clock_gettime_ns(CLOCK_BOOTTIME)


def bind(host: str, port: int, *, share_port: bool, receive_buffer: int, v6_only: bool = True) -> socket.socket:
    """A bound, non-blocking UDP socket.

    Args:
        share_port: with SO_REUSEPORT, so that the workers of one tracker share the port.
        receive_buffer: bytes to ask the kernel for; it grants up to net.core.rmem_max.
        v6_only: false lets an IPv6 socket take IPv4 as well, from IPv4-mapped addresses (RFC 3493, 5.3).

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        if share_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def drop_waiting(sock: socket.socket) -> int:
    """Drop what has arrived on a non-blocking socket and was not read; how many datagrams."""
    dropped = 0
    with contextlib.suppress(OSError):  # nothing left, or what the next read would say, too
        while dropped < _MOST_DROPPED:
            sock.recv(1)
            dropped += 1
    return dropped


def mark(sock: socket.socket) -> None:
    """Put a mark on a non-blocking socket, which it keeps for as long as any process has it open.

    It is in the option SO_RCVTIMEO, which means something to blocking ones only.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _MARK)


def is_marked(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, len(_MARK)) == _MARK
