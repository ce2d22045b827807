"""Workers on memory that ask each other, all on one loop, over the sockets that workers have."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack

import pytest
import pytest_asyncio

from tests.support.turns import until
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.reasons import QUEUE_FULL
from udptracker.core.swarm import IPV4, IPV6, AnnounceOperation, Operation, Role, ScrapeOperation, place_of
from udptracker.core.tracker import Question, Tracker, Turn
from udptracker.core.wire import Event
from udptracker.service.batcher import Direct
from udptracker.service.mailboxes import Ends, Mailboxes
from udptracker.service.sharing import Sharing
from udptracker.storage.memory import MemoryStore

WORKERS = 3


def swarm(worker: int, nth: int = 0) -> bytes:
    """An info hash of a worker."""
    return (WORKERS * nth + worker).to_bytes(4, "big") + bytes(16)


class Asker:
    """Who brought turns: the leechers of each answer, by transaction id."""

    def __init__(self) -> None:
        self.leechers: dict[int, list[int]] = {}

    def answer(self, turn: Turn) -> None:
        assert not turn.questions
        assert sum(turn.answered) == len(turn.replies)
        for data, _ in turn.replies:
            response = wire.decode_response(data)
            assert response.transaction_id not in self.leechers, "answered twice"
            if isinstance(response, wire.AnnounceResponse):
                self.leechers[response.transaction_id] = [response.leechers]
            else:
                assert isinstance(response, wire.ScrapeResponse)
                self.leechers[response.transaction_id] = [row.leechers for row in response.swarms]
        turn.replies = []


class Worker:
    """What a worker has behind its sockets, and who asks there."""

    def __init__(self, number: int, ends: Ends, max_pending: int) -> None:
        self.counters = Counters()
        self.store = MemoryStore(random.Random(number).random)
        tracker = Tracker(ConnectionIds([b"secret"]), Policy(), random.random, self.counters)
        direct = Direct(self.store, tracker, self.counters)
        ends = Ends(os.dup(ends.inbox), tuple(map(os.dup, ends.outboxes)))  # as a process inherits them
        self.sharing = Sharing(direct, self.store, tracker, self.counters, number, ends, max_pending=max_pending)
        self.asker = Asker()
        self._asked = 0
        self._ended = False

    def end(self) -> None:
        """As its process does, however often."""
        if not self._ended:
            self._ended = True
            self.sharing.close()

    def ask(self, *operations: Operation) -> list[int]:
        """A turn; the transaction ids of its questions."""
        turn = Turn(0)
        ids = []
        for operation in operations:
            self._asked += 1
            ids.append(self._asked)
            data = bytes(12) + self._asked.to_bytes(4, "big")
            kind = b"\0\0\0\1" if isinstance(operation, AnnounceOperation) else b"\0\0\0\2"
            turn.questions.append(Question(operation, data[:8] + kind + data[12:], bytes(4), None))
        self.sharing.submit(turn, self.asker)
        self.asker.answer(turn)
        return ids

    def scrape(self, *info_hashes: bytes, family: int = IPV4) -> int:
        (asked,) = self.ask(ScrapeOperation(family, list(info_hashes)))
        return asked

    def announce(self, info_hash: bytes, port: int = 1, family: int = IPV4) -> int:
        peer = bytes(20) + port.to_bytes(2, "big") + bytes(4 if family == IPV4 else 16)
        (asked,) = self.ask(AnnounceOperation(family, info_hash, peer, Role.LEECHER, Event.STARTED, 0))
        return asked

    async def answer(self, asked: int) -> list[int]:
        await until(lambda: asked in self.asker.leechers, "an answer")
        return self.asker.leechers[asked]


Start = Callable[..., Worker]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Starts one of three workers, as in `start(0)`, or its successor."""
    mailboxes = Mailboxes(WORKERS)
    with ExitStack() as stack:
        stack.callback(mailboxes.close)

        def make(number: int, max_pending: int = 10_000) -> Worker:
            worker = Worker(number, mailboxes.ends(number), max_pending)
            stack.callback(worker.end)
            return worker

        yield make


@pytest_asyncio.fixture
async def workers(start: Start) -> list[Worker]:
    return [start(number) for number in range(WORKERS)]


async def announced(workers: Sequence[Worker]) -> None:
    """One peer in a swarm of the first, two in one of the second, three in one of the third."""
    for number, worker in enumerate(workers):
        for port in range(number + 1):
            worker.announce(swarm(number), port + 1)


def test_swarms_are_of_their_workers() -> None:
    assert [place_of(swarm(number, 5), WORKERS) for number in range(WORKERS)] == [0, 1, 2]


async def test_what_is_ones_own_is_answered_at_once(workers: list[Worker]) -> None:
    mine = workers[1]
    asked = [mine.announce(swarm(1)), mine.scrape(swarm(1), swarm(1, 7), swarm(1))]
    assert [mine.asker.leechers[each] for each in asked] == [[1], [1, 0, 1]]


@pytest.mark.parametrize("number", range(WORKERS))
async def test_a_scrape_has_rows_of_all(workers: list[Worker], number: int) -> None:
    """In its order, repeats repeated, unknown ones zeros, also where none of them is one's own."""
    await announced(workers)
    everything = [swarm(2), swarm(0), swarm(1), swarm(1, 9), swarm(2), swarm(0, 3)]
    assert await workers[number].answer(workers[number].scrape(*everything)) == [3, 1, 2, 0, 3, 0]
    others = [each for each in everything if place_of(each, WORKERS) != number]
    rows = {swarm(0): 1, swarm(1): 2, swarm(2): 3}
    asked = workers[number].scrape(*others)
    assert await workers[number].answer(asked) == [rows.get(each, 0) for each in others]
    assert all(worker.counters.rows_missing == 0 for worker in workers)


async def test_families_do_not_mix_within_a_turn(workers: list[Worker]) -> None:
    workers[1].announce(swarm(1), family=IPV6)
    hashes = [swarm(0), swarm(1)]
    ids = workers[0].ask(ScrapeOperation(IPV4, hashes), ScrapeOperation(IPV6, hashes))
    assert [await workers[0].answer(each) for each in ids] == [[0, 0], [0, 1]]


async def test_turns_of_any_size(workers: list[Worker]) -> None:
    """More than fits a message: the largest turn of the longest scrapes, all of one sibling's swarms."""
    hashes = [swarm(2, nth) for nth in range(64 * 120)]
    for info_hash in hashes[::7]:
        workers[2].announce(info_hash)
    ids = workers[0].ask(*(ScrapeOperation(IPV4, hashes[at : at + 120]) for at in range(0, len(hashes), 120)))
    rows = [row for each in ids for row in await workers[0].answer(each)]
    assert rows == [int(nth % 7 == 0) for nth in range(len(hashes))]


async def test_the_newest_beyond_the_bound_are_dropped(start: Start) -> None:
    first, second = start(0, max_pending=2), start(1)
    scrape = ScrapeOperation(IPV4, [swarm(0), swarm(1)])
    ids = first.ask(scrape, scrape, scrape)
    assert first.counters.gauges["queue_depth"]() == 2
    await first.sharing.drain()
    assert sorted(first.asker.leechers) == ids[:2]
    assert first.counters.dropped[QUEUE_FULL] == 1
    assert first.counters.gauges["queue_depth"]() == 0
    assert second.counters.dropped[QUEUE_FULL] == 0


async def test_one_that_does_not_answer_is_zeros_and_then_not_waited_for(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = start(0), start(1)
    await announced([first, second])
    scrape = swarm(1), swarm(2), swarm(0), swarm(2, 1)
    began = asyncio.get_running_loop().time()
    assert await first.answer(first.scrape(*scrape)) == [2, 0, 1, 0]
    assert asyncio.get_running_loop().time() - began >= 1.0
    assert first.counters.rows_missing == 2
    assert [record.message for record in caplog.records] == [
        "worker 2 does not answer: scrapes show its swarms without peers"
    ]
    assert first.scrape(swarm(2)) in first.asker.leechers, "it was waited for"
    assert first.counters.rows_missing == 3


async def test_its_successor_is_heard_of(start: Start) -> None:
    first, second = start(0), start(1)
    third = start(2)
    third.announce(swarm(2))
    third.end()
    lost = first.scrape(swarm(2))
    assert await first.answer(lost) == [0]
    missing = first.counters.rows_missing
    third = start(2)
    third.announce(swarm(2, 4))
    await until(lambda: len(first.sharing._silent) == 0, "its word")
    assert await first.answer(first.scrape(swarm(2), swarm(2, 4), swarm(1))) == [0, 1, 0]
    assert await second.answer(second.scrape(swarm(2), swarm(2, 4))) == [0, 1]
    assert first.counters.rows_missing == missing


async def test_an_answer_to_a_predecessor_is_not_taken_for_ones_own(start: Start) -> None:
    first, second = start(0), start(1)
    for port in range(1, 6):
        second.announce(swarm(1, 1), port)
    first.scrape(swarm(1, 1))
    first.end()
    again = start(0)
    asked = again.scrape(swarm(1, 2))
    assert await again.answer(asked) == [0]
    assert again.asker.leechers == {asked: [0]}


async def test_a_full_mailbox_is_not_waited_for(start: Start) -> None:
    first = start(0)
    asked = [first.scrape(*(swarm(2, nth) for nth in range(120))) for _ in range(1000)]
    at_once = [each for each in asked if each in first.asker.leechers]
    assert at_once
    assert first.counters.rows_missing == 120 * len(at_once)
    assert first.counters.gauges["queue_depth"]() == len(asked) - len(at_once)
