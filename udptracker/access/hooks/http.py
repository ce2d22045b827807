"""An HTTP client for one URL: bounded in time and bytes, connections kept for what is asked next.

It follows no redirection by itself, takes no proxy, and checks certificates by what the system trusts (OpenSSL's
SSL_CERT_FILE says otherwise).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple, final
from urllib.parse import urlsplit

import h11

from udptracker import __version__
from udptracker.access.hooks.api import HookFailure
from udptracker.core.text import printable

_MOST_HEAD_BYTES: Final = 16_384
_READ_BYTES: Final = 65_536
_MOST_IDLE: Final = 4
_PORTS: Final = {"http": 80, "https": 443}


class HttpError(HookFailure):
    """There is no answer; the text is for an operator, without what the URL has behind its host."""


class Response(NamedTuple):
    """`location` is where a redirection leads; empty if it is none."""

    status: int
    body: bytes
    location: str


@final
class HttpClient:
    """See the module.

    Args:
        url: as `is_url` has it.
        seconds: for a whole request, connecting included.
        most_bytes: of the body of an answer.
        headers: sent with each request, besides those that every one has.
    """

    def __init__(self, url: str, *, seconds: float, most_bytes: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._is_tls = parts.scheme == "https"
        self._headers = (("Host", parts.netloc), ("User-Agent", f"udptracker/{__version__}"), *headers)
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._trust: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []

    async def request(self, method: str, body: bytes = b"", content_type: str = "") -> Response:
        """Ask once.

        Raises:
            HttpError: there is no answer.
        """
        headers = list(self._headers)
        if content_type:
            headers += [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        try:
            request = h11.Request(method=method, target=self._target, headers=headers)
            async with asyncio.timeout(self._seconds):
                return await self._request(request, body)
        except TimeoutError:
            raise HttpError(f"{self._host} gave no answer within {self._seconds:g} s") from None
        except h11.ProtocolError:
            raise HttpError(f"{self._host}: no whole answer of HTTP") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise HttpError(printable(f"{self._host}: {reason}")) from None

    async def close(self) -> None:
        """Let go of connections that are kept."""
        while self._idle:
            self._idle.pop().close()

    async def _request(self, request: h11.Request, body: bytes) -> Response:
        while self._idle:
            try:
                return await self._over(self._idle.pop(), request, body)
            except (OSError, h11.RemoteProtocolError):
                continue  # the other end may have closed it while it was idle
        if self._is_tls and self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context)  # reads files
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._trust, limit=_READ_BYTES)
        return await self._over(_Connection(reader, writer), request, body)

    async def _over(self, connection: _Connection, request: h11.Request, body: bytes) -> Response:
        is_kept = False
        try:
            response = await connection.exchange(request, body, self._most_bytes)
            is_kept = connection.is_reusable() and len(self._idle) < _MOST_IDLE
        finally:
            if not is_kept:
                connection.close()
        if is_kept:
            self._idle.append(connection)
        return response


@final
class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)

    async def exchange(self, request: h11.Request, body: bytes, most_bytes: int) -> Response:
        """Raises:
        OSError, h11.ProtocolError: there is no whole answer.
        ValueError: it is too long.
        """
        data = self._http.send(request) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        self._writer.write(data + (self._http.send(h11.EndOfMessage()) or b""))
        await self._writer.drain()
        status, location, received = 0, "", bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
                location = next((value.decode("latin-1") for name, value in event.headers if name == b"location"), "")
            elif isinstance(event, h11.Data):
                received += event.data
                if len(received) > most_bytes:
                    raise ValueError(f"an answer of more than {most_bytes} bytes")
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed | h11.PAUSED):
                break
        return Response(status, bytes(received), location)

    def is_reusable(self) -> bool:
        """Whether another request may follow; if so, it may now."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        self._writer.transport.abort()
