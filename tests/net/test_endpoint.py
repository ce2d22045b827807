"""Real sockets on loopback, over a tracker on memory."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.support.turns import until
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.tracker import Tracker
from udptracker.core.wire import AnnounceResponse, ConnectResponse, Event, ScrapeResponse
from udptracker.net.endpoint import DatagramSocket, Pace, UdpEndpoint, WildcardDatagramSocket, listen
from udptracker.net.sockets import bind, since_boot
from udptracker.service.batcher import Direct, Request
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
        self.executor = Direct(MemoryStore(random.random), self.tracker.respond, self.counters)
        self.full = False
        self.transports: list[DatagramSocket] = []

    def submit(self, request: Request) -> bool:
        return not self.full and self.executor.submit(request)

    def on(self, host: str, port: int = 0, pace: float = 0.001) -> int:
        """Serve an address; its port."""
        sock = bind(host, port, share_port=False, receive_buffer=BUFFER)
        endpoint = UdpEndpoint(self.tracker, self.submit, self.counters, lambda: NOW)
        self.transports.append(listen(asyncio.get_running_loop(), sock, endpoint, pace))
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
        assert type(served.transports[0]) is DatagramSocket
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
        assert type(served.transports[0]) is WildcardDatagramSocket
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
        assert +served.counters.dropped == {"short packet": 2, "connect without magic": 1, "bad connection ID": 1}
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


def turns(pace: Pace, datagrams: int, apart: int, count: int, start: int = 0) -> list[bool]:
    """What a pace says after each of so many turns of `datagrams`, nanoseconds apart."""
    return [pace.is_kept(datagrams, start + apart * number) for number in range(1, count + 1)]


class TestWhenAPaceIsKept:
    def test_while_datagrams_come_far_apart(self) -> None:
        assert turns(Pace(0.001, 0), 1, 200_000, 100)[-10:] == [True] * 10

    def test_not_at_first_sight(self) -> None:
        assert turns(Pace(0.001, 0), 1, 200_000, 50) == [False] * 50

    def test_not_while_they_are_rare(self) -> None:
        assert not any(turns(Pace(0.001, 0), 1, 600_000, 100))

    def test_not_while_they_are_many(self) -> None:
        assert not any(turns(Pace(0.001, 0), 10, 200_000, 200))

    def test_a_pace_that_gathers_many_is_given_up(self) -> None:
        pace = Pace(0.001, 0)
        turns(pace, 1, 200_000, 100)
        assert turns(pace, 60, 1_100_000, 20, start=20_000_000)[-10:] == [False] * 10

    @pytest.mark.parametrize("received", [0, 64])
    def test_not_after_a_turn_that_found_nothing_or_left_some(self, received: int) -> None:
        pace = Pace(0.001, 0)
        turns(pace, 1, 200_000, 100)
        assert pace.is_kept(received, 20_100_000) is False
        assert pace.is_kept(1, 20_200_000) is True

    def test_never_without_one(self) -> None:
        assert not any(turns(Pace(0.0, 0), 1, 200_000, 200))


class TestStandingStill:
    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_what_came_meanwhile_is_dropped(self, served: Served, client: Clients, host: str) -> None:
        asking = client("127.0.0.1", served.on(host))
        for _ in range(3):
            asking.send(CONNECT)
        transport = served.transports[0]
        transport.beat(since_boot() + 16 * SECOND)
        assert +served.counters.dropped == {"stale": 3}
        assert await asking.connect(), "what comes afterwards is answered"
        assert served.counters.requests[0] == 1

    async def test_not_after_a_moment(self, served: Served, client: Clients) -> None:
        asking = client("127.0.0.1", served.on("127.0.0.1"))
        asking.send(CONNECT)
        served.transports[0].beat(since_boot() + 14 * SECOND)
        assert (await asking.answer())[0]
        assert not +served.counters.dropped

    async def test_not_before_a_closed_socket(self, served: Served) -> None:
        served.on("127.0.0.1")
        served.close()
        served.transports[0].beat(since_boot() + 16 * SECOND)
        assert not +served.counters.dropped


class TestWhatCannotBeSent:
    async def test_a_full_queue_drops_and_counts(self, served: Served, client: Clients) -> None:
        asking = client("127.0.0.1", served.on("127.0.0.1"))
        connection_id = await asking.connect()
        served.full = True
        asking.send(announce(connection_id))
        assert await asking.connect(), "connects need no store"
        assert +served.counters.dropped == {"queue full": 1}

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_a_client_at_port_0_stops_nothing(self, served: Served, client: Clients, host: str) -> None:
        """No answer can be sent there: the kernel says so, and it is counted."""
        asking = client("127.0.0.1", served.on(host))
        transport = served.transports[0]
        here = bytes(4) + socket.inet_aton("127.0.0.1") * 2
        transport.sendto(b"x", ("127.0.0.1", 0, here) if host == "0.0.0.0" else ("127.0.0.1", 0))
        assert +served.counters.dropped == {"socket error": 1}
        assert await asking.connect()

    async def test_what_the_kernel_has_no_room_for_is_counted_apart(self, served: Served) -> None:
        endpoint = UdpEndpoint(served.tracker, served.submit, served.counters, lambda: NOW)
        endpoint.error_received(BlockingIOError())
        endpoint.error_received(ConnectionRefusedError())
        assert +served.counters.dropped == {"reply would block": 1, "socket error": 1}


class TestStopping:
    async def test_what_arrives_later_stays_unread_and_replies_still_go_out(
        self, served: Served, client: Clients
    ) -> None:
        asking = client("127.0.0.1", served.on("127.0.0.1"))
        await asking.connect()
        transport = served.transports[0]
        transport.stop_reading()
        assert transport.is_closing()
        asking.send(CONNECT)
        transport.sendto(wire.encode_connect_response(8, bytes(8)), asking.socket.getsockname())
        assert (await asking.answer())[0] == ConnectResponse(8, bytes(8))
        assert served.counters.requests[0] == 1

    async def test_twice_is_as_good_as_once(self, served: Served) -> None:
        served.on("127.0.0.1")
        transport = served.transports[0]
        for _ in range(2):
            transport.stop_reading()
            transport.close()
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"


class TestBind:
    def test_an_address_in_use(self) -> None:
        with bind("127.0.0.1", 0, share_port=False, receive_buffer=BUFFER) as first:
            with pytest.raises(OSError, match="in use"):
                bind(*first.getsockname(), share_port=False, receive_buffer=BUFFER)
            with pytest.raises(OSError, match="in use"):
                bind(*first.getsockname(), share_port=True, receive_buffer=BUFFER)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_a_shared_port(self, host: str) -> None:
        with bind(host, 0, share_port=True, receive_buffer=BUFFER) as first:
            port = first.getsockname()[1]
            with bind(host, port, share_port=True, receive_buffer=BUFFER) as second:
                assert second.getsockname()[1] == port

    def test_the_receive_buffer_is_asked_for(self) -> None:
        sizes = []
        for asked in (8192, 65536):
            with bind("127.0.0.1", 0, share_port=False, receive_buffer=asked) as sock:
                sizes.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
                assert sock.getblocking() is False
        assert sizes[0] < sizes[1]

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(OSError, match="assign"):
            bind("192.0.2.1", 0, share_port=False, receive_buffer=BUFFER)
