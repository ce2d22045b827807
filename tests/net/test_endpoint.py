"""Real sockets on loopback, over a tracker on memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from tests.net.served import (
    CONNECT,
    INFO_HASH,
    NOW,
    Client,
    Clients,
    Served,
    announce,
)
from tests.support.transport import RecordingTransport
from tests.support.turns import until
from udptracker.core import wire
from udptracker.core.executor import Asker, Executor
from udptracker.core.reasons import (
    REPLY_WOULD_BLOCK,
    SOCKET_ERROR,
    UNANSWERABLE,
    UNFORESEEN,
)
from udptracker.core.tracker import Datagram, Turn
from udptracker.core.wire import AnnounceResponse, ConnectResponse, ScrapeResponse
from udptracker.net.endpoint import UdpEndpoint
from udptracker.net.pace import Pace


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
        """No key breaks the connects, which need one, and not who has an id that was issued before."""
        endpoint = UdpEndpoint(served.tracker, served.executor, served.counters, lambda: NOW)
        transport = RecordingTransport()
        endpoint.connection_made(transport)
        proven = announce(served.ids.issue(bytes((127, 0, 0, 1)), NOW))
        turn: list[Datagram] = [
            (data, bytes((127, 0, 0, 1)), ("127.0.0.1", n)) for n, data in enumerate((proven, CONNECT, proven))
        ]
        served.ids._macs.clear()
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
