"""The sockets of the configured addresses, on this machine's real interfaces."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.waiting import free_port
from udptracker import config
from udptracker.config import Listen
from udptracker.service.listening import Bound, bind_all, for_metrics, take_over
from udptracker.service.notify import Inherited

BUFFER = 1 << 16


@contextmanager
def bound(workers: int = 1, **udp: Any) -> Iterator[Bound]:
    """What is bound for a `udp:` section, closed at the end."""
    settings = config.from_tree({"udp": udp}, "udptracker", {}).settings
    made = bind_all(settings.udp.addresses(), workers, BUFFER, must_steer=workers > 1)
    try:
        yield made
    finally:
        for sockets in made.sockets:
            for sock in sockets:
                sock.close()


def names(made: Bound) -> list[list[tuple[str, int]]]:
    return [[sock.getsockname()[:2] for sock in sockets] for sockets in made.sockets]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_worker_has_a_socket_on_each_address(workers: int) -> None:
    port = free_port()
    with bound(workers, addr=[f"127.0.0.1:{port}", f"[::1]:{port}"]) as made:
        assert names(made) == [[("127.0.0.1", port), ("::1", port)]] * workers


def test_a_host_left_out_is_both_families() -> None:
    port = free_port()
    with bound(addr=f":{port}") as made:
        assert names(made) == [[("0.0.0.0", port), ("::", port)]]


@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_fails_is_named_and_none_stays_bound(workers: int) -> None:
    free, taken = free_port(), free_port()
    both = [f"127.0.0.1:{free}", f"127.0.0.1:{taken}"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", taken))
        said = rf"^cannot listen on 127\.0\.0\.1 port {taken}: Address already in use$"
        with pytest.raises(OSError, match=said), bound(workers, addr=both):
            pass
    with bound(workers, addr=both):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_beside_one_that_shares_its_port(workers: int) -> None:
    addr = f"127.0.0.1:{free_port()}"
    with bound(2, addr=addr), pytest.raises(OSError, match="in use"), bound(workers, addr=addr):
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_the_ipv6_wildcard_takes_ipv4_as_well(workers: int) -> None:
    port = free_port()
    with bound(workers, addr=f"[::]:{port}") as made:
        assert [address.both_families for address in made.addresses] == [True]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"over IPv4", ("127.0.0.1", port))
        received = []
        for (sock,) in made.sockets:
            try:
                received.append(sock.recv(100))
            except BlockingIOError:
                continue
        assert received == [b"over IPv4"]


@pytest.mark.parametrize(
    "udp",
    [{"addr": ["[::]:{port}"], "ipv6_only": True}, {"addr": ["[::]:{port}", "127.0.0.1:{port}"]}],
    ids=["ipv6_only", "an IPv4 address of that port"],
)
def test_unless_told_otherwise(udp: dict[str, Any]) -> None:
    port = free_port()
    with bound(**udp | {"addr": [text.format(port=port) for text in udp["addr"]]}) as made:
        assert not any(address.both_families for address in made.addresses)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"over IPv4", ("127.0.0.1", port))
        with pytest.raises(BlockingIOError):
            made.sockets[0][0].recv(100)


def test_an_absent_address_that_nobody_named_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    here, absent = Listen("127.0.0.1", port, False, False), Listen("2001:db8::1", port, False, False)
    made = bind_all([here, absent], 1, BUFFER, must_steer=False)
    made.sockets[0][0].close()
    assert made.addresses == [here]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"not listening on [2001:db8::1]:{port}" in record.message


@pytest.mark.parametrize("named", [True, False])
def test_one_that_was_named_or_is_the_only_one_is_an_error(named: bool) -> None:
    with pytest.raises(OSError, match=r"^cannot listen on .*: Cannot assign requested address"):
        bind_all([Listen("2001:db8::1", free_port(), False, named)], 1, BUFFER, must_steer=False)


def test_only_udp_sockets_are_taken_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, pytest.raises(OSError, match=r"'udptracker'.* none of UDP"):
        take_over([Inherited("udptracker", tcp)], 1, must_steer=False)


def test_a_socket_for_metrics_is_told_by_its_name() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        given = [Inherited("udptracker", udp), Inherited("metrics", tcp)]
        assert for_metrics(given) == ([tcp], given[:1])
        with pytest.raises(OSError, match=r"'metrics' .* none that listens for TCP"):
            for_metrics([Inherited("metrics", udp)])


def test_the_wildcard_that_is_taken_over_tells_its_families() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        (address,) = take_over([Inherited("udptracker", sock)], 2, must_steer=False).addresses
        assert address == Listen("::", sock.getsockname()[1], True, True)


def group(members: int) -> list[socket.socket]:
    """Sockets that share a port, as systemd opens those of a unit."""
    opened: list[socket.socket] = []
    address = ("127.0.0.1", 0)
    for _ in range(members):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
        address = sock.getsockname()
        opened.append(sock)
    return opened


def hand_over(opened: list[socket.socket]) -> list[Inherited]:
    """The same to one of the processes that are given them one after the other."""
    return [Inherited("udptracker", sock.dup()) for sock in opened]


def waiting(sock: socket.socket) -> list[int]:
    """The first words of the info hashes of what waits in a socket."""
    found = []
    while True:
        try:
            found.append(int.from_bytes(sock.recv(100)[16:20], "big"))
        except BlockingIOError:
            return found


def test_a_group_that_is_taken_over_is_steered_and_keeps_what_waits_for_the_next_process() -> None:
    opened = group(3)
    words = list(range(300))

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for word in words:
                client.sendto(bytes(16) + word.to_bytes(4, "big"), opened[0].getsockname())

    send()
    first = take_over(hand_over(opened), 3, must_steer=True)
    assert [waiting(sock) for (sock,) in first.sockets] == [[], [], []]  # nobody had steered those
    send()
    for (sock,) in first.sockets:
        sock.close()
    second = take_over(hand_over(opened), 3, must_steer=True)
    assert [waiting(sock) for (sock,) in second.sockets] == [words[place::3] for place in range(3)]
    for sock in (*opened, *(sock for (sock,) in second.sockets)):
        sock.close()


def test_several_workers_on_memory_take_over_a_socket_each() -> None:
    said = "they share a socket: list each address 2 times in the socket unit, with ReusePort=yes"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match=said):
        take_over([Inherited("udptracker", sock)], 2, must_steer=True)
