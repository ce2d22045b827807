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


def _bind(address: Listen, share_port: bool, receive_buffer: int) -> socket.socket:
    return bind(
        address.host,
        address.port,
        share_port=share_port,
        receive_buffer=receive_buffer,
        v6_only=not address.both_families,
    )
