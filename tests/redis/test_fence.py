"""A connection that was given up delivers nothing more, whatever its kernel or a proxy still holds of it."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import ssl
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from tests.support.servers import StoreServer
from tests.support.stores import SHORT, topology_of, until_connected
from tests.support.tls import Authority, Certificate
from tests.support.waiting import PATIENCE
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.greeting import connect
from udptracker.redis.link import Link, Timeouts
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


class TestTheKernelDeliversNothingOfAConnectionGivenUp:
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


class Relay:
    """Forwards connections, and holds what comes over those that it is told to, until it is told to go on."""

    def __init__(self, upstream: str | int) -> None:
        self._upstream = upstream
        self._held = asyncio.Event()
        self._flowing: list[asyncio.Event] = []
        self._copies: set[asyncio.Task[None]] = set()

    def hold(self) -> None:
        """Keep what comes over the connections that there are."""
        for flowing in self._flowing:
            flowing.clear()

    async def until_held(self) -> None:
        """Return when there is something to hold."""
        await asyncio.wait_for(self._held.wait(), PATIENCE)

    async def release(self) -> None:
        """Deliver what was held, and return when that is done or has failed."""
        waiting = [copy for copy in self._copies if copy.get_name() == "0"]
        self._flowing[0].set()
        await asyncio.wait(waiting, timeout=PATIENCE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._upstream, int):
            answers, sink = await asyncio.open_connection("127.0.0.1", self._upstream)
        else:
            answers, sink = await asyncio.open_unix_connection(self._upstream)
        flowing = asyncio.Event()
        flowing.set()
        name = str(len(self._flowing))
        self._flowing.append(flowing)
        for source, target in ((reader, sink), (answers, writer)):
            self._copies.add(asyncio.create_task(self._copy(source, target, flowing), name=name))

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if not flowing.is_set():
                    self._held.set()
                await flowing.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def relay_to(server: StoreServer, path: Path | None) -> AsyncIterator[tuple[Relay, str]]:
    """A relay to a server and its URL, over unix sockets on both sides if there is a path for its own."""
    relay = Relay(server.port if path is None else str(server.socket_path))
    if path is None:
        listener = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    else:
        listener = await asyncio.start_unix_server(relay.serve, path)
        url = f"unix://{path}"
    try:
        yield relay, url
    finally:
        listener.close()


class TestAProxyDeliversNothingOnceThereIsANewConnection:
    @pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
    async def test_of_the_former(self, store_server: StoreServer, tmp_path: Path, unix: bool) -> None:
        async with relay_to(store_server, tmp_path / "socket" if unix else None) as (relay, url):
            topology = topology_of(url, Timeouts(2.0, 0.3, 2.0))
            topology.start()
            await until_connected(topology, 1)
            relay.hold()
            late = asyncio.create_task(topology.call(b"peer", "SET", "peer", "late"))
            await relay.until_held()
            with pytest.raises(StoreUnavailable):
                await late
            await until_connected(topology, 2)
            await topology.call(b"peer", "SET", "peer", "new")
            await relay.release()
            assert await topology.call(b"peer", "GET", "peer") == b"new"
            await topology.close()

    async def test_and_a_server_that_does_not_permit_that_is_warned_of_once(
        self, store_server: StoreServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with store_server.client() as client:
            client.acl_setuser("meek", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all", "-@dangerous"])
            client.acl_setuser("meek", enabled=True, commands=["-client"])
        with caplog.at_level(logging.WARNING):
            topology = topology_of(f"redis://meek:pw@127.0.0.1:{store_server.port}")
            topology.start()
            for times in (1, 2, 3):
                await until_connected(topology, times)
                assert await topology.call(b"x", "SET", "x", "1") == b"OK"
                topology.drop_links("cut by the test")
            await topology.close()
        with store_server.client() as client:
            client.acl_deluser("meek")
        refusals = [record.message for record in caplog.records if "refuses to end it" in record.message]
        assert len(refusals) == 1
        assert "NOPERM" in refusals[0]
