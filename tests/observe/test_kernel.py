"""Drops as this kernel counts them, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from udptracker.observe.kernel import socket_drops


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["ipv4", "ipv6"])
def small(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A bound socket with the smallest receive buffer there is."""
    family, host = request.param
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind((host, 0))
        yield sock


def received(sock: socket.socket) -> int:
    """How many datagrams the socket still holds."""
    sock.setblocking(False)
    count = 0
    try:
        while sock.recv(2048):
            count += 1
    except BlockingIOError:
        return count
    raise AssertionError("an empty datagram")


def test_what_did_not_fit_is_counted_and_nothing_else(small: socket.socket) -> None:
    sent = 50
    with (
        socket.socket(small.family, socket.SOCK_DGRAM) as client,
        socket.socket(small.family, socket.SOCK_DGRAM) as idle,
    ):
        idle.bind((small.getsockname()[0], 0))
        assert socket_drops(small) == 0
        for _ in range(sent):
            client.sendto(bytes(500), small.getsockname())
        dropped = socket_drops(small)
        assert dropped > 0
        assert dropped == sent - received(small)
        assert socket_drops(idle) == 0


def test_a_closed_one_counts_nothing(small: socket.socket) -> None:
    small.close()
    assert socket_drops(small) == 0
