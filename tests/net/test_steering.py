"""Steered groups of real sockets: what reaches which of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from random import Random
from typing import NamedTuple

import pytest

from udptracker.core.swarm import place_of
from udptracker.net.sockets import bind
from udptracker.net.steering import steer

RECEIVE_BUFFER = 1 << 20
HEADER = bytes(16)
"""Of an announce or a scrape: connection id, action, transaction id."""


class Address(NamedTuple):
    """Where a group is bound, and the address of it that a client sends to."""

    bound: str
    asked: str
    v6_only: bool = True


ADDRESSES = [
    Address("127.0.0.1", "127.0.0.1"),
    Address("0.0.0.0", "127.0.0.1"),
    Address("::1", "::1"),
    Address("::", "::1"),
    Address("::", "::1", v6_only=False),
    Address("::", "127.0.0.1", v6_only=False),
]


@contextmanager
def group(address: Address, places: int) -> Iterator[list[socket.socket]]:
    """So many steered sockets on a free port."""
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        for _ in range(places):
            port = sockets[0].getsockname()[1] if sockets else 0
            sock = bind(address.bound, port, share_port=True, receive_buffer=RECEIVE_BUFFER, v6_only=address.v6_only)
            sockets.append(stack.enter_context(sock))
        steer(sockets[-1], places)
        yield sockets


def send(sockets: Sequence[socket.socket], host: str, data: bytes) -> None:
    """From a port that nobody has used before, for all that matters."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(data, (host, sockets[0].getsockname()[1]))


def received(sock: socket.socket) -> list[bytes]:
    """All that waits on it. On loopback what was sent has arrived."""
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 16))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("address", ADDRESSES, ids=str)
@pytest.mark.parametrize("places", [2, 3, 7])
def test_a_swarm_has_one_place(address: Address, places: int) -> None:
    random = Random(places)
    info_hashes = [random.randbytes(20) for _ in range(100)] + [bytes(20), b"\xff" * 20, b"\x7f" + b"\xff" * 19]
    with group(address, places) as sockets:
        for info_hash in info_hashes:
            send(sockets, address.asked, HEADER + info_hash + bytes(62))
            send(sockets, address.asked, HEADER + info_hash + random.randbytes(20))
        reached = [[data[16:36] for data in received(sock)] for sock in sockets]
    expected = [
        [each for each in info_hashes if place_of(each, places) == place for _ in "as"] for place in range(places)
    ]
    assert reached == expected
    assert all(reached), "a place was never reached"


@pytest.mark.parametrize("size", [0, 15, 16, 19])
def test_what_has_no_info_hash_goes_anywhere(size: int) -> None:
    """From one port, as connects of one client: the kernel by itself would send all to one place."""
    address, count = ADDRESSES[0], 200
    with group(address, 4) as sockets, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(count):
            client.sendto(b"\xff" * size, (address.asked, sockets[0].getsockname()[1]))
        reached = [len(received(sock)) for sock in sockets]
    assert sum(reached) == count
    assert all(reached), "a place was never reached"


def test_the_word_is_whole_at_twenty_bytes() -> None:
    with group(ADDRESSES[0], 5) as sockets:
        for place in range(5):
            for _ in range(10):
                send(sockets, "127.0.0.1", HEADER + (0xFFFF_FFF0 + place).to_bytes(4, "big"))
        reached = [{int.from_bytes(data[16:], "big") for data in received(sock)} for sock in sockets]
    for place, words in enumerate(reached):
        assert [word % 5 for word in words] == [place]


def test_a_fragmented_datagram_is_seen_whole() -> None:
    """Longer than the loopback's MTU."""
    size = 65_507
    info_hash = (7).to_bytes(4, "big") + bytes(16)
    with group(ADDRESSES[0], 5) as sockets:
        for _ in range(5):
            send(sockets, "127.0.0.1", (HEADER + info_hash).ljust(size, b"\0"))
        reached = [len(received(sock)) for sock in sockets]
    assert reached == [0, 0, 5, 0, 0]


def test_a_group_by_itself_for_each_address() -> None:
    info_hash = bytes(20)
    with group(Address("127.0.0.1", "127.0.0.1"), 2) as first, group(Address("127.0.0.2", "127.0.0.2"), 3) as second:
        send(first, "127.0.0.1", HEADER + info_hash)
        send(second, "127.0.0.2", HEADER + info_hash)
        assert [len(received(sock)) for sock in first] == [1, 0]
        assert [len(received(sock)) for sock in second] == [1, 0, 0]


def test_a_kernel_that_refuses_says_so() -> None:
    """It does where a socket shares its port with nobody."""
    with bind("127.0.0.1", 0, share_port=False, receive_buffer=RECEIVE_BUFFER) as alone, pytest.raises(OSError):
        steer(alone, 2)
