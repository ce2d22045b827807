"""When a transport reads: at its pace, after it stood still, and no more once it is to stop."""

from __future__ import annotations

import asyncio

import pytest

from tests.net.served import (
    CONNECT,
    Clients,
    Served,
    announce,
)
from tests.support.turns import until
from udptracker.core.executor import Asker
from udptracker.core.tracker import Turn
from udptracker.core.wire import AnnounceResponse
from udptracker.net.pace import Pace
from udptracker.net.sockets import since_boot

SECOND = 1_000_000_000


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
