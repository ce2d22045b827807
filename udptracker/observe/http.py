"""Metrics and health over HTTP, in a thread beside the event loop: a scrape costs announces next to nothing.

`/metrics` is for Prometheus, `/healthz` says whether the process lives, `/readyz` whether it can serve. A
client gets one answer per connection and a fixed time for the whole of it, however slowly it sends or reads:
past that the connection is cut. Connections above a limit are closed at once. So no client can use up the
threads or sockets of the tracker.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from udptracker.observe.metrics import CONTENT_TYPE

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 32
"""The most connections at a time; further ones are closed unanswered."""

_POLL_SECONDS: Final = 0.1
_TEXT: Final = "text/plain; charset=utf-8"

_Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


class MetricsServer:
    """Serves from `start` to `stop`.

    Args:
        host, port: where to listen, IPv4 or IPv6; port 0 takes a free one.
        metrics: the body of `/metrics`.
        alive: whether `/healthz` says 200 or 503.
        ready: whether `/readyz` says 200 or 503, and the text it says it with.
        request_timeout: seconds a client has to send its request and to read the answer.

    The three are called in threads of this server. If one raises, that is logged and the client gets a bare
    500.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        metrics: Callable[[], bytes],
        alive: Callable[[], bool],
        ready: Callable[[], tuple[bool, str]],
        request_timeout: float = 10.0,
    ) -> None:
        self._pages: dict[str, Callable[[], _Answer]] = {
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE, metrics()),
            "/healthz": lambda: _verdict(*((True, "alive") if alive() else (False, "not alive"))),
            "/readyz": lambda: _verdict(*ready()),
        }
        self._server = _Server(host, port, request_timeout)
        self._server.set_app(self._application)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True
        )

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.server_port

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the listener and cut what is open; returns at once, whatever clients do."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.cut(math.inf)

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        status, content_type, body = self._answer(method, environ["PATH_INFO"])
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if method == "HEAD" else [body]

    def _answer(self, method: str, path: str) -> _Answer:
        page = self._pages.get(path)
        if page is None:
            return HTTPStatus.NOT_FOUND, _TEXT, b"not found\n"
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"method not allowed\n"
        try:
            return page()
        except Exception:  # the thread must answer, and the cause is the operator's, not the client's, to read
            log.exception("%s failed", path)
            return HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, b"internal error\n"


def _verdict(good: bool, text: str) -> _Answer:
    return (HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE), _TEXT, f"{text}\n".encode()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread per connection, each connection with a deadline."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS
    # Two trackers on one metrics port are a mistake that must be heard, whatever the library's default is.
    allow_reuse_port = False

    def __init__(self, host: str, port: int, request_timeout: float) -> None:
        self._request_timeout = request_timeout
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        super().__init__((str(address[0]), int(address[1])), _QuietHandler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that asks the resolver for the name of the address, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def cut(self, now: float) -> None:
        """End the connections whose deadline is `now` (monotonic seconds) or before."""
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if deadline <= now:
                    # Its thread wakes up from whatever it waits for, and closes it.
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def service_actions(self) -> None:
        self.cut(time.monotonic())

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return len(self._deadlines) < MAX_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._deadlines[request] = time.monotonic() + self._request_timeout
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exception(), OSError):
            log.debug("a client of the metrics server broke off", exc_info=True)
        else:
            log.exception("the metrics server failed")
