"""Joined sends arrive as the datagrams they were made of."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from udptracker.load.burst import BurstSender
from udptracker.load.options import MAX_BURST as MOST

_SO_NO_CHECK = 11
_UDP_GRO = 104


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected sender and its receiver."""
    host = "::1" if request.param == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(request.param, socket.SOCK_DGRAM) as sender, socket.socket(request.param, 2) as receiver:
        receiver.bind((host, 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.settimeout(10.0)
        sender.connect(receiver.getsockname())
        sender.setblocking(False)
        yield sender, receiver


@pytest.mark.parametrize(("count", "length"), [(1, 98), (2, 98), (MOST, 98), (MOST + 1, 16), (MOST, 1496)])
def test_packets_arrive_one_by_one(pair: tuple[socket.socket, socket.socket], count: int, length: int) -> None:
    sender, receiver = pair
    packets = [bytearray(nth.to_bytes(4, "big") * (length // 4)) + bytes(length % 4) for nth in range(count)]
    BurstSender(sender).send(packets)
    assert [receiver.recv(65535) for _ in packets] == packets


def test_a_socket_that_cannot_join_sends_one_by_one(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    sender.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)  # the kernel refuses to join without checksums
    burst = BurstSender(sender)
    for _ in range(2):
        burst.send([b"one", b"two"])
        assert [receiver.recv(100), receiver.recv(100)] == [b"one", b"two"]


def test_what_shall_not_be_joined_is_not(pair: tuple[socket.socket, socket.socket]) -> None:
    """The kernel tells a receiver that asks (UDP_GRO) whether datagrams came joined."""
    sender, receiver = pair
    receiver.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
    BurstSender(sender).send([b"one", b"two"])
    assert receiver.recv(100) == b"onetwo"
    BurstSender(sender, 1).send([b"one", b"two"])
    assert [receiver.recv(100), receiver.recv(100)] == [b"one", b"two"]


def test_that_nobody_listens_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    receiver.close()
    burst = BurstSender(sender)
    burst.send([b"one", b"two"])
    with pytest.raises(ConnectionRefusedError):  # it hears of the first
        burst.send([b"one", b"two"])
