"""What workers write to each other: a mailbox for each, which all of them write to and it reads. Each is a pair of Unix
datagram sockets, which nobody else can reach."""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

_SEND_BUFFER: Final = 1 << 20
"""Bytes of messages that nobody has read, if the kernel grants it (net.core.wmem_max)."""


class Ends(NamedTuple):
    """What a worker has of the mailboxes, as inherited file descriptors: its own to read, and everybody's to write."""

    inbox: int
    outboxes: tuple[int, ...]


class Mailboxes:
    """The mailboxes as the parent has them, which hands out their ends and keeps them open: what was sent to a worker
    that died is still there for its successor."""

    def __init__(self, workers: int) -> None:
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(workers)]
        for pair in self._pairs:
            for sock in pair:
                sock.setblocking(False)
            pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def ends(self, number: int) -> Ends:
        """Of the worker with this number, from 0."""
        return Ends(self._pairs[number][0].fileno(), tuple(outbox.fileno() for _, outbox in self._pairs))

    def close(self) -> None:
        for pair in self._pairs:
            for sock in pair:
                sock.close()
