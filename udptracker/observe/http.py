"""A small HTTP server for what operators look at, in a thread beside the event loop of the tracker.

It has an event loop of its own, so that a thousand connections cost one thread, and a thread for each page that was
ever asked for, so that a page that waits (for a worker that stands still, say) holds up no other: `/healthz` answers
whatever `/metrics` does. Whoever asks for a page that is being made is given that one.

A client gets one answer per connection and a fixed time for the whole of it, however slowly it sends or reads: past
that the connection is cut. Beyond a limit, or when the process has no more open files, the longest open connection of
whoever has most of them makes room for a new one. So no client can use up the tracker's threads, memory or files, nor
keep others from being answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import queue
import re
import resource
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import h11

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64
"""The most connections at a time; fewer where a quarter of the files that the process may open is."""

TEXT: Final = "text/plain; charset=utf-8"

_BACKLOG: Final = 512
"""Connections that may wait in the kernel, where they cost us no file."""
_MAX_HEAD_BYTES: Final = 16_384
_LEAST_GZIPPED_BYTES: Final = 1024
_GZIP_WBITS: Final = 31
"""A gzip header, and the largest window."""

_PAUSE_SECONDS: Final = 0.5
"""How long nothing is accepted when there is no file for it and no connection to give up."""
_QUIET_SECONDS: Final = 60.0
"""Between two lines in the log that say so."""

_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ABSENT: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_WILDCARDS: Final = ("", "::")


class Answer(NamedTuple):
    """What a page comes to. `headers` are beside Content-Type and those that every answer has."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[str], Answer]
"""From the Accept header of a request (empty without one) to the answer; called in the page's own thread."""


class Chore(NamedTuple):
    """Something to do at the start and every so many seconds, in the thread of a page."""

    path: str
    seconds: float
    run: Callable[[], None]


class HttpServer:
    """Serves from `start` to `stop`.

    Args:
        host, port: where to listen: a name is every address it has, no name and `::` are all addresses of both
            families. Port 0 takes a free one.
        listeners: sockets that somebody else opened for it, in their place; it closes them.
        pages: by path. If one raises, that is logged and the client gets a bare 500.
        chores: what is done beside.
        request_timeout: seconds a client has to send its request and to read the answer.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pages: Mapping[str, Page],
        listeners: Sequence[socket.socket] = (),
        chores: tuple[Chore, ...] = (),
        request_timeout: float = 10.0,
    ) -> None:
        self._listeners = list(listeners) or _listen(host, port)
        self.port: Final[int] = self._listeners[0].getsockname()[1]
        """The port listened on."""
        self._loop = asyncio.SelectorEventLoop()
        self._desks = {path: _Desk(path, page, self._loop) for path, page in pages.items()}
        self._chores = chores
        self._timeout = request_timeout
        self._connections: set[_Connection] = set()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._limit = max(min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4), 1)
        self._said = -_QUIET_SECONDS
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the listeners and cut what is open; returns at once, whatever clients do."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        for listener in self._listeners:
            listener.close()
        self._loop.close()

    def _run(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)
        for chore in self._chores:
            self._do(chore)
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())

    async def _end(self) -> None:
        await asyncio.gather(*self._arriving, return_exceptions=True)
        for connection in self._connections:
            connection.cut()
        await asyncio.sleep(0)  # in which what was cut is closed

    def _do(self, chore: Chore) -> None:
        self._desks[chore.path].do(chore.run)
        self._loop.call_later(chore.seconds, self._do, chore)

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection; if more wait, the loop calls again."""
        if len(self._connections) >= self._limit:
            self._make_room()
        try:
            sock, (source, *_) = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM and not self._make_room():
                self._pause(listener, error)
            return
        sock.setblocking(False)
        connection = _Connection(source, self._connections.discard, self._desks, self._loop, self._timeout)
        self._connections.add(connection)
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: connection, sock))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _make_room(self) -> bool:
        """Cut a connection, which is closed before the next `_accept`; false if there is none."""
        held = Counter(connection.source for connection in self._connections)
        chosen = max(self._connections, key=lambda one: (one.is_done(), held[one.source], -one.since), default=None)
        if chosen is not None:
            chosen.cut()
        return chosen is not None

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        if self._loop.time() - self._said >= _QUIET_SECONDS:
            self._said = self._loop.time()
            log.warning("no HTTP connection can be accepted for now: %s", error.strerror)
        self._loop.remove_reader(listener)
        self._loop.call_later(_PAUSE_SECONDS, self._loop.add_reader, listener, self._accept, listener)


class _Desk:
    """One page, and the thread that makes it for whoever has asked since the last."""

    def __init__(self, path: str, page: Page, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._page = page
        self._loop = loop
        self._asked: dict[str, asyncio.Future[Answer]] = {}
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, accept: str) -> asyncio.Future[Answer]:
        """The page in a form that the client accepts; on the loop."""
        answer = self._asked.get(accept)
        if answer is None:
            answer = self._loop.create_future()
            if len(self._asked) >= MAX_CONNECTIONS:  # of clients that have left since
                answer.set_result(_plain(HTTPStatus.SERVICE_UNAVAILABLE))
                return answer
            self._asked[accept] = answer
            self.do(lambda: self._make(accept))
        return answer

    def do(self, work: Callable[[], None]) -> None:
        """Have this page's thread do something, in its turn."""
        self._work.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._path, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            work = self._work.get()
            try:
                work()
            except Exception:  # the thread must go on
                log.exception("%s failed", self._path)

    def _make(self, accept: str) -> None:
        try:
            answer = self._page(accept)
        except Exception:  # the cause is the operator's to read, not the client's
            log.exception("%s failed", self._path)
            answer = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        with contextlib.suppress(RuntimeError):  # the server has stopped
            self._loop.call_soon_threadsafe(lambda: self._asked.pop(accept).set_result(answer))


class _Connection(asyncio.Protocol):
    """One client, from its first byte to the end of the only answer it gets."""

    def __init__(
        self,
        source: str,
        lost: Callable[[_Connection], None],
        desks: Mapping[str, _Desk],
        loop: asyncio.AbstractEventLoop,
        timeout: float,
    ) -> None:
        self.source = source
        self.since = loop.time()
        self._lost = lost
        self._desks = desks
        self._transport: asyncio.Transport | None = None
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._asked = self._answered = self._ended = False
        self._wants_body, self._accepts_gzip = True, False
        self._deadline = loop.call_later(timeout, self.cut)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        if self._asked:  # more than one request, or a body: read, so that the end of the connection is an orderly one
            return
        self._http.receive_data(data)
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._asked = True
            self._send(_plain(HTTPStatus(error.error_status_hint)))
            return
        if isinstance(event, h11.Request):
            self._asked = True
            self._route(event)

    def eof_received(self) -> bool:
        self._ended = True
        return self._asked and not self._answered  # whoever sends no more may still read

    def is_done(self) -> bool:
        """Whether all is sent, and only the client's end of the connection is open."""
        return self._answered and self._transport is not None and not self._transport.get_write_buffer_size()

    def cut(self) -> None:
        """End it here and now, if it has begun."""
        if self._transport is not None:
            self._transport.abort()

    def _route(self, request: h11.Request) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        self._wants_body = request.method != b"HEAD"
        self._accepts_gzip = _accepts_gzip(headers.get("accept-encoding", ""))
        path, _, _ = request.target.decode("latin-1").partition("?")
        desk = self._desks.get(path)
        if desk is None:
            self._send(_plain(HTTPStatus.NOT_FOUND))
        elif request.method not in (b"GET", b"HEAD"):
            self._send(_plain(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD")))
        else:
            desk.ask(headers.get("accept", "")).add_done_callback(lambda answer: self._send(answer.result()))

    def _send(self, answer: Answer) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        body = answer.body
        headers = [
            *answer.headers,
            ("Content-Type", answer.content_type),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Vary", "Accept, Accept-Encoding"),
            ("Connection", "close"),
        ]
        if self._accepts_gzip and len(body) >= _LEAST_GZIPPED_BYTES:
            body = zlib.compress(body, 1, _GZIP_WBITS)
            headers.append(("Content-Encoding", "gzip"))
        headers.append(("Content-Length", str(len(body))))
        response = h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase.encode())
        self._transport.write(self._http.send(response) or b"")
        if self._wants_body:
            self._transport.write(body)
        self._answered = True
        if self._ended:
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client is gone
            self._transport.abort()


def _plain(status: HTTPStatus, *headers: tuple[str, str]) -> Answer:
    """An answer that says no more than its status."""
    return Answer(status, TEXT, f"{status.phrase.lower()}\n".encode(), headers)


def _accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110 §12.5.3): by name or `*`, with a weight above 0."""
    for item in header.lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        if coding in ("gzip", "x-gzip", "*"):
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", parameter) for parameter in parameters)
    return False


def _listen(host: str, port: int) -> list[socket.socket]:
    """A listener on each address of a host, all on one port. An address that this machine does not have is left out
    if there is another.

    Raises:
        OSError: an address is taken, or there is none.
    """
    places = socket.getaddrinfo(
        None if host in _WILDCARDS else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, _, _, _, (at, _, *rest) in places:
            try:
                listeners.append(_bound(family, (at, port, *rest)))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
                continue
            port = int(listeners[0].getsockname()[1])
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    if absent is not None:
        if not listeners:
            raise absent
        log.warning("HTTP is served on %s only: %s", listeners[0].getsockname()[0], absent.strerror)
    return listeners


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    """A listener that takes no client but its own family's. Without SO_REUSEPORT: two trackers on one metrics port are
    a mistake that must be heard."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
