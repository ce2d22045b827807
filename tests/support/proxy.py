"""A TCP proxy that misbehaves when it is told to."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Final

from tests.support.waiting import free_port

_TIME: Final = re.compile(rb"(\*2\r\n\$10\r\n)(\d{10})(?=\r\n\$\d\r\n\d{1,6}\r\n)")
"""A reply to TIME up to its seconds, which have 10 digits until 2286."""


class Proxy:
    """Forwards connections to a port of 127.0.0.1, until it stalls or cuts.

    Args:
        rewrite: takes what the server says and returns what the client is told instead.
    """

    def __init__(self, target: int, rewrite: Callable[[bytes], bytes] = bytes) -> None:
        self._rewrite = rewrite
        self.port = free_port()
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._cut_after: int | None = None
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._flowing.set()
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def stall(self) -> None:
        """Keep every connection open and forward nothing."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again."""
        self._flowing.set()

    def cut_in_a_reply(self) -> None:
        """Let 7 more bytes of the server's through, in the middle of whatever they are, and end the connection."""
        self._cut_after = 7

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                self._open += (client, server)
                for source, sink, replies in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=(source, sink, replies), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if replies:
                    data = self._rewrite(data)
                if replies and self._cut_after is not None:
                    data, self._cut_after = data[: self._cut_after], None
                    sink.sendall(data)
                    break
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class OtherTime:
    """A `rewrite` that puts the server's clock ahead by `seconds`, none to begin with."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self, data: bytes) -> bytes:
        return _TIME.sub(lambda time: b"%b%d" % (time[1], int(time[2]) + self.seconds), data)
