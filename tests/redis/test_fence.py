"""A connection that was given up delivers nothing more, whatever its kernel or a proxy still holds of it."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from tests.support.stores import SHORT
from tests.support.tls import Authority, Certificate
from tests.support.waiting import PATIENCE
from udptracker.redis.link import Link, Timeouts, connect
from udptracker.redis.url import parse_broker
from udptracker.storage.redis.layout import command

_WRITES = 200
_WRITE = command(b"ECHO", bytes(50_000))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def event_loop_of(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of either kind: their transports close in their own ways."""
    loop = request.param()
    yield loop
    loop.close()


class Deaf:
    """A server that answers a greeting and then reads nothing until it is asked for what came; over TLS with one."""

    def __init__(self, certificate: Certificate | None) -> None:
        self._certificate = certificate
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # the rest waits at the sender
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._peer = socket.socket()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def greet(self, commands: int) -> None:
        """Take a connection and answer its first commands."""
        self._peer, _ = self._listener.accept()
        self._peer.settimeout(PATIENCE)
        if self._certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._certificate.certificate, self._certificate.key)
            self._peer = context.wrap_socket(self._peer, server_side=True)
        for _ in range(commands):
            self._peer.recv(4096)
            self._peer.sendall(b"+PONG\r\n")

    def half_close(self) -> None:
        """Say that nothing more will be sent, which ends the connection for a client of Redis."""
        self._peer.shutdown(socket.SHUT_WR)

    def held(self) -> int:
        """Bytes that have reached its kernel and were not read."""
        (number,) = struct.unpack("i", fcntl.ioctl(self._peer, termios.FIONREAD, bytes(4)))
        return int(number)

    def rest(self) -> int:
        """Read until the connection is over; how many bytes that brought."""
        count = 0
        try:
            while data := self._peer.recv(65536):
                count += len(data)
        except (ConnectionResetError, ssl.SSLEOFError):
            pass
        return count

    def close(self) -> None:
        self._peer.close()
        self._listener.close()


@contextmanager
def deaf_server(certificate: Certificate | None = None) -> Iterator[Deaf]:
    server = Deaf(certificate)
    try:
        yield server
    finally:
        server.close()


async def _linked(server: Deaf, timeouts: Timeouts = SHORT, query: str = "") -> Link:
    greeting = asyncio.ensure_future(asyncio.to_thread(server.greet, 1))
    broker = parse_broker(f"{'rediss' if query else 'redis'}://127.0.0.1:{server.port}{query}")
    link = await connect(broker, *broker.hosts[0], timeouts)
    await greeting
    return link


class TestNothingIsDeliveredOnceAConnectionWasGivenUp:
    def test_by_us(self, event_loop_of: asyncio.AbstractEventLoop) -> None:
        async def give_up(server: Deaf) -> None:
            link = await _linked(server)
            for _ in range(_WRITES):
                link.send(_WRITE, 1).cancel()
            await asyncio.sleep(0.1)
            link.abort("given up by the test")
            await link.lost

        with deaf_server() as server:
            event_loop_of.run_until_complete(give_up(server))
            held = server.held()
            assert 0 < server.rest() <= held

    def test_by_a_timeout(self, event_loop_of: asyncio.AbstractEventLoop) -> None:
        async def time_out(server: Deaf) -> None:
            link = await _linked(server, Timeouts(2.0, 0.2, 2.0))
            for _ in range(_WRITES):
                link.send(_WRITE, 1).cancel()
            await link.lost

        with deaf_server() as server:
            event_loop_of.run_until_complete(time_out(server))
            held = server.held()
            assert 0 < server.rest() <= held

    def test_by_the_server(self, event_loop_of: asyncio.AbstractEventLoop) -> None:
        """It sends no more and reads on: what the transport holds must not follow."""

        async def be_closed(server: Deaf) -> None:
            link = await _linked(server)
            for _ in range(_WRITES):
                link.send(_WRITE, 1).cancel()
            server.half_close()
            await asyncio.wait_for(link.lost, 1.0)

        with deaf_server() as server:
            event_loop_of.run_until_complete(be_closed(server))
            held = server.held()
            assert 0 < server.rest() <= held

    def test_over_tls(self, event_loop_of: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
        authority = Authority(tmp_path / "authority")
        certificate = authority.issue("server")

        async def give_up(server: Deaf) -> None:
            link = await _linked(server, query=f"?ssl_ca_certs={authority.path}")
            for _ in range(_WRITES):
                link.send(_WRITE, 1).cancel()
            await asyncio.sleep(0.1)
            link.abort("given up by the test")
            await link.lost

        with deaf_server(certificate) as server:
            event_loop_of.run_until_complete(give_up(server))
            held = server.held()
            assert 0 < server.rest() <= held
