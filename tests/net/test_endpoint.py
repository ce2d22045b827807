"""Real sockets on loopback, over a tracker on memory."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from math import nan
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from tests.support.transport import RecordingTransport
from tests.support.turns import until
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.executor import Asker, Executor
from udptracker.core.policy import Policy
from udptracker.core.reasons import (
    REPLY_WOULD_BLOCK,
    SOCKET_ERROR,
    UNANSWERABLE,
    UNFORESEEN,
)
from udptracker.core.tracker import Datagram, Tracker, Turn
from udptracker.core.wire import AnnounceResponse, ConnectResponse, Event, ScrapeResponse
from udptracker.net.endpoint import TurnTransport, UdpEndpoint
from udptracker.net.pace import Pace
from udptracker.net.sockets import bind, since_boot
from udptracker.service.batcher import Direct
from udptracker.storage.memory import MemoryStore

BUFFER = 1 << 18
NOW = 1_700_000_000.0
SECOND = 1_000_000_000
INFO_HASH = bytes(range(20))
CONNECT = wire.encode_connect_request(7)


class Served:
    """A tracker on memory that serves sockets of this loop."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.ids = ConnectionIds([b"secret"])
        self.tracker = Tracker(self.ids, Policy(), random.random, self.counters)
        self.executor: Executor = Direct(MemoryStore(random.random), self.tracker, self.counters)
        self.transports: list[TurnTransport] = []

    def endpoint(self) -> UdpEndpoint:
        return UdpEndpoint(self.tracker, self.executor, self.counters, lambda: NOW)

    def dropped(self) -> dict[str, int]:
        """Datagrams left unanswered, by those reasons that occurred."""
        return {reason: count for reason, count in self.counters.dropped.items() if count}

    def on(self, host: str, port: int = 0, pace: float = 0.001) -> int:
        """Serve an address; its port."""
        sock = bind(host, port, share_port=False, receive_buffer=BUFFER)
        self.transports.append(TurnTransport(asyncio.get_running_loop(), sock, self.endpoint(), pace))
        bound: int = sock.getsockname()[1]
        return bound

    def close(self) -> None:
        for transport in self.transports:
            transport.close()


class Client:
    """A socket that takes answers from wherever they come and says from where."""

    def __init__(self, host: str, port: int, source: str = "") -> None:
        self.to = (host, port)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        if source:
            self.socket.bind((source, 0))

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self.to)

    async def answer(self) -> tuple[wire.Response, str]:
        """The next response, and the address it came from."""
        received: list[Any] = []

        def arrived() -> bool:
            try:
                received.extend(self.socket.recvfrom(65535))
            except BlockingIOError:
                return False
            return True

        await until(arrived, "an answer")
        data, source = received
        return wire.decode_response(data), source[0]

    async def connect(self) -> bytes:
        self.send(CONNECT)
        response, _ = await self.answer()
        assert isinstance(response, ConnectResponse)
        return response.connection_id


Clients = Callable[..., Client]


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    yield served
    served.close()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Clients]:
    """Makes clients that are closed with the test."""
    made: list[Client] = []

    def make(*args: Any, **options: Any) -> Client:
        made.append(Client(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


def announce(connection_id: bytes, options: bytes = b"") -> bytes:
    request = wire.AnnounceRequest(INFO_HASH, bytes(20), 0, 1, 0, Event.STARTED, bytes(4), 0, -1, 6881, options)
    return wire.encode_announce_request(connection_id, 9, request)


class TestReplies:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    async def test_from_one_address(self, served: Served, client: Clients, host: str) -> None:
        asking = client(host, served.on(host))
        asking.send(announce(await asking.connect()))
        response, source = await asking.answer()
        assert isinstance(response, AnnounceResponse)
        assert (response.leechers, source) == (1, host)

    @pytest.mark.parametrize(
        ("wildcard", "asked"), [("0.0.0.0", f"127.0.0.{number}") for number in (1, 2, 9)] + [("::", "::1")]
    )
    async def test_from_the_address_that_was_asked(
        self, served: Served, client: Clients, wildcard: str, asked: str
    ) -> None:
        asking = client(asked, served.on(wildcard))
        asking.send(announce(await asking.connect()))
        response, source = await asking.answer()
        assert isinstance(response, AnnounceResponse)
        assert source == asked
        packed = socket.inet_pton(asking.socket.family, asked if ":" in asked else "127.0.0.1")
        assert response.peers.endswith((6881).to_bytes(2, "big"))
        assert len(response.peers) == len(packed) + 2

    async def test_each_to_its_own_client(self, served: Served, client: Clients) -> None:
        port = served.on("0.0.0.0")
        clients = [client(f"127.0.0.{number}", port, f"127.0.1.{number}") for number in range(1, 9)]
        for asking in clients:
            asking.send(CONNECT)
        for asking in clients:
            response, source = await asking.answer()
            packed = socket.inet_aton(asking.socket.getsockname()[0])
            assert response == ConnectResponse(7, served.ids.issue(packed, NOW))
            assert source == asking.to[0]


class TestFamilies:
    async def test_both_wildcards_share_a_port(self, served: Served, client: Clients) -> None:
        port = served.on("::")
        served.on("0.0.0.0", port)
        for asked in ("127.0.0.1", "::1"):
            assert await client(asked, port).connect()
        assert served.counters.requests[:2] == [1, 1]

    async def test_an_ipv6_wildcard_takes_no_ipv4(self, served: Served, client: Clients) -> None:
        asking = client("127.0.0.1", served.on("::"))
        asking.socket.connect(asking.to)
        asking.socket.settimeout(5.0)
        asking.socket.send(CONNECT)
        with pytest.raises(ConnectionRefusedError):
            asking.socket.recv(64)


class TestDatagrams:
    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_one_longer_than_is_read_loses_its_end(self, served: Served, client: Clients, host: str) -> None:
        asking = client("127.0.0.1", served.on(host))
        connection_id = await asking.connect()
        asking.send(announce(connection_id, options=bytes(60_000)))
        response, _ = await asking.answer()
        assert isinstance(response, AnnounceResponse)
        asking.send(wire.encode_scrape_request(connection_id, 9, [INFO_HASH] * 3000))
        scraped, _ = await asking.answer()
        assert isinstance(scraped, ScrapeResponse)
        assert len(scraped.swarms) == 74

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_an_empty_one_and_noise_stop_nothing(self, served: Served, client: Clients, host: str) -> None:
        asking = client("127.0.0.1", served.on(host))
        noise = (b"", b"x", bytes(16), b"\xff" * 20)
        for data in noise:
            asking.send(data)
        assert await asking.connect()
        assert served.dropped() == {"short packet": 2, "connect without magic": 1, "bad connection ID": 1}
        assert served.counters.bytes_in == sum(map(len, noise)) + len(CONNECT)

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_a_flood_leaves_others_their_turn(self, served: Served, client: Clients, host: str) -> None:
        """More is waiting than one turn reads: a callback that was due runs before all of it is answered."""
        asking = client("127.0.0.1", served.on(host))
        for _ in range(200):
            asking.send(CONNECT)
        seen: list[int] = []
        asyncio.get_running_loop().call_later(0, lambda: seen.append(served.counters.requests[0]))
        await until(lambda: served.counters.requests[0] == 200, "200 connects")
        assert seen
        assert seen[0] < 200
        assert sum(sum(each.counts) for each in served.counters.durations[:4]) == 200
        assert served.counters.bytes_out == 200 * 16


class TestPace:
    """Datagrams that come one by one, but fast, are read at a pace of the endpoint's own."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_all_are_answered(self, served: Served, client: Clients, host: str) -> None:
        asking = client("127.0.0.1", served.on(host))
        for waiting in (0.0, 0.0005, 0.003):
            for _ in range(20):
                await asking.connect()
                await asyncio.sleep(waiting)
        assert served.counters.requests[0] == 60

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_many_are_read_in_few_turns(
        self, served: Served, client: Clients, host: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is sent between two turns waits for the next one, and without anything to read none is due."""
        monkeypatch.setattr(Pace, "is_kept", lambda pace, received, now: received > 0)
        asking = client("127.0.0.1", served.on(host, pace=0.05))
        for _ in range(2):
            await asking.connect()
        for _ in range(20):
            asking.send(CONNECT)
            await asyncio.sleep(0)
        assert served.counters.requests[0] == 2
        for _ in range(20):
            await asking.answer()
        await asyncio.sleep(0.12)
        assert await asking.connect()

    async def test_the_end_comes_between_two_turns(self, served: Served, client: Clients) -> None:
        asking = client("127.0.0.1", served.on("127.0.0.1"))
        for _ in range(10):
            await asking.connect()
        served.transports[0].stop_reading()
        asking.send(CONNECT)
        await asyncio.sleep(0.02)
        assert served.counters.requests[0] == 10


class TestStandingStill:
    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_what_came_meanwhile_is_dropped(self, served: Served, client: Clients, host: str) -> None:
        asking = client("127.0.0.1", served.on(host))
        for _ in range(3):
            asking.send(CONNECT)
        transport = served.transports[0]
        transport.beat(since_boot() + 16 * SECOND)
        assert served.dropped() == {"stale": 3}
        assert await asking.connect(), "what comes afterwards is answered"
        assert served.counters.requests[0] == 1

    async def test_not_after_a_moment(self, served: Served, client: Clients) -> None:
        asking = client("127.0.0.1", served.on("127.0.0.1"))
        asking.send(CONNECT)
        served.transports[0].beat(since_boot() + 14 * SECOND)
        assert (await asking.answer())[0]
        assert not served.dropped()

    async def test_not_before_a_closed_socket(self, served: Served) -> None:
        served.on("127.0.0.1")
        served.close()
        served.transports[0].beat(since_boot() + 16 * SECOND)
        assert not served.dropped()


class TestWhatCannotBeSent:
    async def test_what_the_kernel_refuses_or_has_no_room_for_is_counted(self, served: Served) -> None:
        served.endpoint().replies_dropped(2, 3)
        served.endpoint().error_received(ConnectionRefusedError())
        assert served.dropped() == {REPLY_WOULD_BLOCK: 2, SOCKET_ERROR: 4}

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_a_client_at_port_0_stops_nothing(self, served: Served, client: Clients, host: str) -> None:
        """No answer can be sent there. Only a raw socket can send from there, so the counting is shown in the open."""
        asking = client("127.0.0.1", served.on(host))
        served.endpoint().unanswerable_dropped(1)
        assert served.dropped() == {UNANSWERABLE: 1}
        assert await asking.connect()


class Unforeseen(Exception):
    """What nobody expects."""


class BuggyExecutor:
    """Answers announces as `inner` does, but for the first, which meets a bug of ours."""

    def __init__(self, inner: Executor) -> None:
        self.inner = inner
        self.met = False

    def submit(self, turn: Turn, asker: Asker) -> None:
        if not self.met:
            self.met = True
            raise Unforeseen("a bug")
        self.inner.submit(turn, asker)

    async def drain(self) -> None:
        await self.inner.drain()


class TestUnforeseenErrors:
    @pytest.mark.parametrize("paced", [False, True])
    async def test_the_socket_goes_on(
        self,
        served: Served,
        client: Clients,
        paced: bool,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if paced:
            monkeypatch.setattr(Pace, "is_kept", lambda pace, received, now: received > 0)
        served.executor = BuggyExecutor(served.executor)
        asking = client("127.0.0.1", served.on("127.0.0.1", pace=0.01))
        connection_id = await asking.connect()
        asking.send(announce(connection_id))
        await until(lambda: "a bug" in caplog.text, "the bug on the log")
        asking.send(announce(connection_id))
        response, _ = await asking.answer()
        assert isinstance(response, AnnounceResponse)
        assert served.dropped() == {UNFORESEEN: 1}

    async def test_one_datagram_of_a_turn_is_lost_its_neighbours_are_answered(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A clock that tells no time breaks the connects, which need one, and nothing else."""
        endpoint = UdpEndpoint(served.tracker, served.executor, served.counters, lambda: nan)
        transport = RecordingTransport()
        endpoint.connection_made(transport)
        proven = announce(served.ids.issue(bytes((127, 0, 0, 1)), NOW))
        turn: list[Datagram] = [
            (data, bytes((127, 0, 0, 1)), ("127.0.0.1", n)) for n, data in enumerate((proven, CONNECT, proven))
        ]
        endpoint.turn_received(turn)
        endpoint.turn_received([turn[1]])
        assert [handle for _, handle in transport.sent] == [("127.0.0.1", 0), ("127.0.0.1", 2)]
        assert served.dropped() == {UNFORESEEN: 2}
        assert caplog.text.count("unforeseen") == 1, "the second one is not said within ten seconds"


class TestOtherTransports:
    """The endpoint is a protocol like any other: asyncio's and uvloop's own transports bring turns of one."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def test_announce_and_scrape(self, new_loop: Callable[[], asyncio.AbstractEventLoop], host: str) -> None:
        async def converse() -> None:
            served = Served()
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                served.endpoint, local_addr=(host, 0)
            )
            asking = Client(host, transport.get_extra_info("sockname")[1])
            try:
                connection_id = await asking.connect()
                asking.send(announce(connection_id))
                announced, source = await asking.answer()
                asking.send(wire.encode_scrape_request(connection_id, 9, [INFO_HASH]))
                scraped, _ = await asking.answer()
                assert isinstance(announced, AnnounceResponse)
                assert (announced.leechers, source) == (1, host)
                assert scraped == ScrapeResponse(9, (wire.SwarmStats(0, 0, 1),))
            finally:
                asking.socket.close()
                transport.close()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(converse())

    def test_port_0_is_counted(self) -> None:
        served = Served()
        served.endpoint().datagram_received(CONNECT, ("127.0.0.1", 0))
        assert served.dropped() == {UNANSWERABLE: 1}


class HeldExecutor:
    """Keeps the turns it is given."""

    def __init__(self) -> None:
        self.turns: list[tuple[Turn, Asker]] = []

    def submit(self, turn: Turn, asker: Asker) -> None:
        self.turns.append((turn.take_questions(64), asker))

    async def drain(self) -> None:
        """Nothing is answered by itself."""


class TestStopping:
    async def test_what_arrives_later_stays_unread_and_replies_still_go_out(
        self, served: Served, client: Clients
    ) -> None:
        held = HeldExecutor()
        direct, served.executor = served.executor, held
        asking = client("127.0.0.1", served.on("127.0.0.1"))
        asking.send(announce(await asking.connect()))
        await until(lambda: bool(held.turns), "the announce")
        served.transports[0].stop_reading()
        asking.send(CONNECT)
        for turn, asker in held.turns:
            direct.submit(turn, asker)
            asker.answer(turn)
        assert isinstance((await asking.answer())[0], AnnounceResponse)
        assert served.counters.requests[:3] == [1, 0, 1]

    async def test_twice_is_as_good_as_once(self, served: Served) -> None:
        served.on("127.0.0.1")
        transport = served.transports[0]
        for _ in range(2):
            transport.stop_reading()
            transport.close()
