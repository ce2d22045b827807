"""Messages between the parent and a worker."""

from __future__ import annotations

import contextlib
import pickle
import socket
import zlib
from typing import Any, Final

_MOST_BYTES: Final = 1 << 18
"""More than the kernel takes as one message unless it is told to (net.core.wmem_max)."""

_LONG: Final = 1 << 15
"""Bytes from which a message is compressed: settings may hold lists as long as their file may be."""
_COMPRESSED: Final = b"z"
_PLAIN: Final = b"p"


class Channel:
    """One end of a pair over which both send whole messages, each of them any value that can be pickled.

    Nothing here ever waits: an end that is not read, since its process stands still, is told so by `send`.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    def fileno(self) -> int:
        """For an event loop to tell when there is something to `receive`."""
        return self._socket.fileno()

    def send(self, message: object) -> bool:
        """Whether it could be sent."""
        data = pickle.dumps(message)
        data = _PLAIN + data if len(data) < _LONG else _COMPRESSED + zlib.compress(data, 1)
        try:
            self._socket.send(data)
        except OSError:
            return False
        return True

    def receive(self) -> Any:
        """The next message.

        Raises:
            BlockingIOError: there is none.
            EOFError: the other end has hung up, and there will be none.
        """
        try:
            data = self._socket.recv(_MOST_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        return pickle.loads(zlib.decompress(data[1:]) if data[:1] == _COMPRESSED else data[1:])

    def hang_up(self) -> None:
        """Send nothing more: the other end is told so. It may still send."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages apart; the first is ours, the second for another process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
