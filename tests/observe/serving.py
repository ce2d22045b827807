"""An HTTP server of a daemon's pages, and plain connections to it."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError

from udptracker.core.counters import Counters
from udptracker.observe.http import HttpServer
from udptracker.observe.metrics import exposition
from udptracker.observe.pages import pages

PATIENCE = 60.0
"""Seconds after which a test gives up on what should take a fraction of one."""
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: tracker\r\n"
"""A request that wants its empty line."""


def render(accept: str = "") -> tuple[bytes, str]:
    return exposition({"0": Counters().snapshot()}, 0, accept)


def server_of(host: str = "127.0.0.1", port: int = 0, *, request_timeout: float = 10.0, **made: Any) -> HttpServer:
    """A server of the daemon's pages, some of them made otherwise."""
    sources: dict[str, Any] = {
        "metrics": render,
        "stats": dict,
        "alive": lambda: True,
        "ready": lambda: (True, "ready"),
    }
    return HttpServer(host, port, pages=pages(**(sources | made)), request_timeout=request_timeout)


@contextmanager
def serving(*given: Any, **options: Any) -> Iterator[HttpServer]:
    with started(server_of(*given, **options)) as server:
        yield server


@contextmanager
def started(server: HttpServer) -> Iterator[HttpServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(
    server: HttpServer, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"http://{host}:{server.port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def read_to_end(sock: socket.socket) -> bytes:
    """All that comes until the server ends the connection, however it does."""
    received = bytearray()
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionError:
        pass
    return bytes(received)
