"""Which UDP sockets the tracker has: the addresses it is told to listen on, as far as this machine has them."""

from __future__ import annotations

import errno
import itertools
import logging
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from udptracker.config import Listen
from udptracker.net.sockets import bind
from udptracker.service.notify import Inherited

log = logging.getLogger(__name__)

_ABSENT: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a kernel says that has no such family, or none of its addresses."""


class Bound(NamedTuple):
    """For each worker its sockets, one for each of the `addresses` that could be had."""

    addresses: list[Listen]
    sockets: list[list[socket.socket]]


def bind_all(addresses: Sequence[Listen], workers: int, receive_buffer: int) -> Bound:
    """A socket for each worker on each address.

    Raises:
        OSError: an address cannot be bound; the message names it.
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
            for sock in itertools.chain.from_iterable(bound.sockets):
                sock.close()
            raise OSError(f"cannot listen on {address.host} port {address.port}: {error.strerror}") from error
        bound.addresses.append(address)
    if absent is not None and not bound.addresses:
        raise absent
    return bound


def take_over(handed: Sequence[Inherited], workers: int) -> Bound:
    """The same of sockets that somebody else has opened, who keeps them while the tracker is restarted.

    Each worker has its own of an address where there is one for each; a single one is shared by all.

    Raises:
        OSError: one is no UDP socket, or there are neither one nor as many as workers for an address; it is named.
    """
    by_address: dict[Listen, list[socket.socket]] = {}
    for name, sock in handed:
        if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
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
    return bound


def _address_of(sock: socket.socket) -> Listen:
    host, port = sock.getsockname()[:2]
    v6 = sock.family == socket.AF_INET6
    both = v6 and host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return Listen(host, port, both, True)


def _bind(address: Listen, share_port: bool, receive_buffer: int) -> socket.socket:
    return bind(
        address.host,
        address.port,
        share_port=share_port,
        receive_buffer=receive_buffer,
        v6_only=not address.both_families,
    )
