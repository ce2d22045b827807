"""Which UDP sockets the tracker has: the addresses it is told to listen on, as far as this machine has them.

The sockets of several workers on an address are a group, in which each swarm has one place (see `net.steering`). They
are bound in the order of the workers and stay open while the tracker runs, so the place is always the worker's number.
"""

from __future__ import annotations

import errno
import itertools
import logging
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from udptracker.config import Listen
from udptracker.net.sockets import bind, drop_waiting, is_marked, mark
from udptracker.net.steering import steer
from udptracker.service.notify import Inherited

log = logging.getLogger(__name__)

METRICS: Final = "metrics"
"""What names a socket for HTTP among those that are handed over (FileDescriptorName= in systemd.socket(5))."""

_IP: Final = (socket.AF_INET, socket.AF_INET6)
_ABSENT: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a kernel says that has no such family, or none of its addresses."""


class Bound(NamedTuple):
    """For each worker its sockets, one for each of the `addresses` that could be had."""

    addresses: list[Listen]
    sockets: list[list[socket.socket]]


def bind_all(addresses: Sequence[Listen], workers: int, receive_buffer: int, *, must_steer: bool) -> Bound:
    """A socket for each worker on each address.

    Args:
        must_steer: whether there are workers that can do nothing where each swarm is not given to one of them.

    Raises:
        OSError: an address cannot be bound, and the message names it; or each swarm must have one worker and has not.
    """
    bound = Bound([], [[] for _ in range(workers)])
    absent: OSError | None = None
    for address in addresses:
        try:
            if workers > 1:
                # SO_REUSEPORT alone would let a second tracker in, to take half of the first one's clients.
                _bind(address, False, receive_buffer).close()
            for mine in bound.sockets:
                mine.append(_bind(address, workers > 1, receive_buffer))
        except OSError as error:
            if error.errno in _ABSENT and not address.named:
                log.warning("not listening on %s, which this machine does not have: %s", address, error.strerror)
                absent = error
                continue
            _close(bound)
            raise OSError(f"cannot listen on {address.host} port {address.port}: {error.strerror}") from error
        bound.addresses.append(address)
    if absent is not None and not bound.addresses:
        raise OSError(f"cannot listen on any address: {absent.strerror}") from absent
    reason = _unsteered(bound)
    if reason and must_steer:
        _close(bound)
        raise OSError(f"several workers on memory need to be given whole swarms, but {reason}")
    if reason:
        _warn(reason)
    elif must_steer:
        # What came before may be for another worker. Its sender asks again.
        for sock in itertools.chain.from_iterable(bound.sockets):
            drop_waiting(sock)
    return bound


def for_metrics(handed: Sequence[Inherited]) -> tuple[list[socket.socket], list[Inherited]]:
    """Of what was handed over the sockets for metrics, by the name that their unit gives them, and the rest.

    Raises:
        OSError: one of them is no listening socket of TCP.
    """
    named = [sock for name, sock in handed if name == METRICS]
    for sock in named:
        if sock.family not in _IP or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(f"the socket {METRICS!r} that was handed over is none that listens for TCP")
    return named, [each for each in handed if each.name != METRICS]


def take_over(handed: Sequence[Inherited], workers: int, *, must_steer: bool) -> Bound:
    """The same of sockets that somebody else has opened, who keeps them while the tracker is restarted.

    Each worker has its own of an address where there is one for each; a single one is shared by all. systemd opens and
    hands over those of a unit in the order in which it lists them (sd_listen_fds(3)), so that is their order in their
    group, too.

    Raises:
        OSError: one is no UDP socket, or there are neither one nor as many as workers for an address; it is named. Or
            each swarm must have one worker and has not.
    """
    by_address: dict[Listen, list[socket.socket]] = {}
    for name, sock in handed:
        if sock.type != socket.SOCK_DGRAM or sock.family not in _IP:
            raise OSError(f"the socket {name!r} that was handed over is none of UDP")
        by_address.setdefault(_address_of(sock), []).append(sock)
    bound = Bound(list(by_address), [[] for _ in range(workers)])
    for address, sockets in by_address.items():
        if len(sockets) not in (1, workers):
            raise OSError(
                f"{len(sockets)} sockets were handed over on {address}: expected 1, or {workers} for {workers} workers"
            )
        for number, mine in enumerate(bound.sockets):
            mine.append(sockets[number % len(sockets)])
    reason = _unsteered(bound)
    if reason and must_steer:
        raise OSError(
            f"several workers on memory need to be given whole swarms, but {reason}: list each address {workers} times "
            "in the socket unit, with ReusePort=yes"
        )
    if reason:
        _warn(reason)
    elif must_steer:
        for sock in itertools.chain.from_iterable(bound.sockets):
            # A former process has steered what waits in one that is marked.
            if not is_marked(sock):
                drop_waiting(sock)
                mark(sock)
    return bound


def _address_of(sock: socket.socket) -> Listen:
    host, port = sock.getsockname()[:2]
    v6 = sock.family == socket.AF_INET6
    both = v6 and host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return Listen(host, port, both, True)


def _unsteered(bound: Bound) -> str:
    """Give each swarm one worker; why that cannot be done, nothing if it is."""
    groups = [] if len(bound.sockets) == 1 else list(zip(*bound.sockets, strict=True))
    if any(group[0] is group[1] for group in groups):
        return "they share a socket"
    try:
        for group in groups:
            steer(group[0], len(group))
    except OSError as error:
        return f"the kernel does not steer: {error.strerror}"
    return ""


def _warn(unsteered: str) -> None:
    log.warning("each worker is given a part of every swarm, since %s", unsteered)


def _close(bound: Bound) -> None:
    for sock in itertools.chain.from_iterable(bound.sockets):
        sock.close()


def _bind(address: Listen, share_port: bool, receive_buffer: int) -> socket.socket:
    return bind(
        address.host,
        address.port,
        share_port=share_port,
        receive_buffer=receive_buffer,
        v6_only=not address.both_families,
    )
