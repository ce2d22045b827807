"""Both executors over stores in this process, of which one answers when the test lets it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.support.turns import until
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.reasons import QUEUE_FULL
from udptracker.core.swarm import (
    IPV4,
    AnnounceOperation,
    Operation,
    Result,
    Role,
    StoreError,
    StoreUnavailable,
    Totals,
)
from udptracker.core.tracker import Question, Tracker, Turn
from udptracker.core.wire import Action, AnnounceResponse, ErrorResponse, Event
from udptracker.service.batcher import Batcher, Direct
from udptracker.storage.base import ImmediateStore, PeerStore, ReapReport, Shunned
from udptracker.storage.memory import MemoryStore

INFO_HASH = bytes(range(20))


IDS = ConnectionIds([b"secret"])


class Asker:
    """Who brought turns, and the replies they got: (transaction id, handle, when their requests arrived)."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, object, int]] = []
        self.kinds: list[type[wire.Response]] = []
        self.broken = 0
        """The port whose answer fails."""

    def answer(self, turn: Turn) -> None:
        if any(handle == self.broken for _, handle in turn.replies):
            raise ZeroDivisionError("a bug")
        assert not turn.questions
        for data, handle in turn.replies:
            response = wire.decode_response(data)
            self.kinds.append(type(response))
            self.replies.append((response.transaction_id, handle, turn.arrived))
        assert sum(turn.answered) == len(turn.replies)

    @property
    def ports(self) -> list[int]:
        return [port for port, _, _ in self.replies]


def turn_of(*ports: int, arrived: int = 7) -> Turn:
    """Announces of leechers on these ports, which are their transaction ids and handles, too."""
    turn = Turn(arrived)
    for port in ports:
        peer = bytes(20) + port.to_bytes(2, "big") + bytes((127, 0, 0, 1))
        operation = AnnounceOperation(IPV4, INFO_HASH, peer, Role.LEECHER, Event.NONE, 50)
        data = bytes(8) + wire.response_head(Action.ANNOUNCE, port)
        turn.questions.append(Question(operation, data, bytes(4), port))
    return turn


class GatedStore(PeerStore):
    """A memory store behind a gate: a batch waits until the gate is open, and then may fail."""

    def __init__(self) -> None:
        self.inner = MemoryStore(random.Random(1).random)
        self.gate = asyncio.Event()
        self.sizes: list[int] = []
        self.failure: Exception | None = None
        self.bad_ports: frozenset[int] = frozenset()

    def now(self) -> int:
        return self.inner.now()

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def execute(self, batch: Sequence[Operation]) -> list[Result | StoreError]:
        self.sizes.append(len(batch))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        results = await self.inner.execute(batch)
        for at, operation in enumerate(batch):
            assert isinstance(operation, AnnounceOperation)
            if int.from_bytes(operation.peer[20:22], "big") in self.bad_ports:
                results[at] = StoreError("a broken swarm")
        return results

    def shun(self, shunned: Shunned) -> None:
        self.inner.shun(shunned)

    async def reap(self, cutoff: int) -> ReapReport:
        return await self.inner.reap(cutoff)

    async def totals(self) -> dict[int, Totals]:
        return await self.inner.totals()

    async def ping(self) -> None:
        await self.inner.ping()


class Scene:
    """A batcher over a gated store, and who asks it."""

    def __init__(self, **bounds: int) -> None:
        self.counters = Counters()
        self.store = GatedStore()
        self.asker = Asker()
        tracker = Tracker(IDS, Policy(), random.random, self.counters)
        self.batcher = Batcher(self.store, tracker, self.counters, **bounds)

    def submit(self, *ports: int) -> None:
        """A turn of its own for each port."""
        for port in ports:
            self.batcher.submit(turn_of(port, arrived=port + 1), self.asker)

    async def until_called(self, times: int) -> None:
        """Return when the store has been given this many batches; what else was due has run by then."""
        await until(lambda: len(self.store.sizes) >= times, f"batch {times}")

    async def drain(self) -> None:
        """Open the gate and wait for everything."""
        self.store.gate.set()
        async with asyncio.timeout(5.0):
            await self.batcher.drain()

    @property
    def ports(self) -> list[int]:
        return self.asker.ports


class TestBatcher:
    async def test_one_turn_of_the_loop_is_one_batch(self) -> None:
        scene = Scene()
        scene.submit(1, 2, 3)
        await scene.drain()
        assert scene.store.sizes == [3]
        assert scene.asker.replies == [(port, port, port + 1) for port in (1, 2, 3)]

    async def test_a_turn_stays_together(self) -> None:
        scene = Scene(max_batch=4)
        first, second = turn_of(1, 2, 3), turn_of(4, 5)
        first.replies.append((wire.response_head(Action.CONNECT, 9) + bytes(8), "at once"))
        for turn in (first, second, turn_of(6)):
            scene.batcher.submit(turn, scene.asker)
        assert [handle for _, handle in first.replies] == ["at once"]
        assert first.questions == second.questions == []
        await scene.drain()
        assert scene.store.sizes == [5, 1]
        assert scene.ports == [1, 2, 3, 4, 5, 6]

    async def test_batches_are_bounded(self) -> None:
        scene = Scene(max_batch=4)
        scene.submit(*range(1, 11))
        await scene.drain()
        assert scene.store.sizes == [4, 4, 2]
        assert sorted(scene.ports) == list(range(1, 11))

    async def test_behind_slow_ones_the_next_is_larger(self) -> None:
        scene = Scene(max_in_flight=2, enough=1)
        for port in (1, 2):
            scene.submit(port)
            await scene.until_called(port)
        for port in (3, 4, 5):
            scene.submit(port)
            await asyncio.sleep(0)
        assert scene.store.sizes == [1, 1]
        await scene.drain()
        assert scene.store.sizes == [1, 1, 3]
        assert sorted(scene.ports) == [1, 2, 3, 4, 5]

    async def test_while_one_is_on_its_way_a_few_requests_wait_for_it(self) -> None:
        scene = Scene(enough=3)
        scene.submit(1)
        await scene.until_called(1)
        scene.submit(2, 3)
        for _ in range(5):
            await asyncio.sleep(0)
        assert scene.store.sizes == [1]
        scene.submit(4)
        await scene.until_called(2)
        assert scene.store.sizes == [1, 3]
        await scene.drain()
        assert scene.ports == [1, 2, 3, 4]

    async def test_no_more_batches_than_allowed_are_on_their_way(self) -> None:
        scene = Scene(max_batch=1, max_in_flight=2, enough=1)
        scene.submit(1, 2, 3)
        await scene.until_called(2)
        await asyncio.sleep(0)
        assert scene.store.sizes == [1, 1]
        await scene.drain()
        assert sorted(scene.ports) == [1, 2, 3]

    async def test_when_full_the_newest_is_dropped(self) -> None:
        scene = Scene(max_pending=3, max_in_flight=1)
        scene.submit(1, 2)
        await scene.until_called(1)
        scene.batcher.submit(turn_of(3, 4, 5), scene.asker)
        scene.submit(6)
        assert scene.counters.dropped[QUEUE_FULL] == 3
        await scene.drain()
        assert scene.ports == [1, 2, 3]
        scene.submit(7)
        await scene.drain()
        assert scene.ports == [1, 2, 3, 7]

    async def test_a_failed_slot_leaves_its_neighbours(self) -> None:
        scene = Scene()
        scene.store.bad_ports = frozenset({2})
        scene.submit(1, 2, 3)
        await scene.drain()
        assert scene.asker.kinds == [AnnounceResponse, ErrorResponse, AnnounceResponse]
        assert +scene.counters.store_errors == {"StoreError": 1}

    async def test_a_store_that_is_away_is_told_to_each(self) -> None:
        scene = Scene()
        scene.store.failure = StoreUnavailable("away")
        scene.submit(1, 2)
        await scene.drain()
        assert scene.ports == [1, 2]
        assert scene.asker.kinds == [ErrorResponse, ErrorResponse]
        assert +scene.counters.store_errors == {"StoreUnavailable": 2}

    async def test_a_bug_in_the_store_leaves_nobody_waiting(self, caplog: pytest.LogCaptureFixture) -> None:
        scene = Scene(max_pending=2)
        scene.store.failure = ZeroDivisionError("a bug")
        scene.submit(1, 2)
        await scene.drain()
        assert scene.ports == [1, 2]
        assert scene.asker.kinds == [ErrorResponse, ErrorResponse]
        assert +scene.counters.store_errors == {"ZeroDivisionError": 2}
        assert "ZeroDivisionError: a bug" in caplog.text
        scene.store.failure = None
        scene.submit(3, 4)
        await scene.drain()
        assert scene.asker.kinds[2:] == [AnnounceResponse, AnnounceResponse]

    async def test_a_bug_in_one_answer_leaves_nobody_else_waiting(self, caplog: pytest.LogCaptureFixture) -> None:
        scene = Scene()
        scene.asker.broken = 2
        scene.submit(1, 2, 3)
        await scene.drain()
        assert scene.ports == [1, 3]
        assert "ZeroDivisionError: a bug" in caplog.text

    async def test_draining_waits_for_what_is_in_flight(self) -> None:
        scene = Scene()
        scene.submit(1)
        draining = asyncio.create_task(scene.batcher.drain())
        await scene.until_called(1)
        assert not draining.done()
        scene.store.gate.set()
        await asyncio.wait_for(draining, 5.0)
        assert scene.ports == [1]

    async def test_draining_of_nothing_returns(self) -> None:
        await asyncio.wait_for(Scene().batcher.drain(), 5.0)

    async def test_the_queue_is_counted_before_any_batch_is_made(self) -> None:
        scene = Scene(max_pending=100)
        scene.submit(*range(1, 101))
        assert scene.counters.snapshot()["queue_depth"] == 100
        await scene.drain()

    async def test_counts(self) -> None:
        scene = Scene(max_batch=4, enough=1)
        scene.submit(*range(1, 6))
        await scene.until_called(2)
        assert scene.counters.snapshot()["queue_depth"] == 5
        await scene.drain()
        assert scene.counters.batch_sizes.total == 5
        assert sum(scene.counters.batch_sizes.counts) == sum(scene.counters.store_latency.counts) == 2
        assert scene.counters.snapshot()["queue_depth"] == 0


class BrokenStore(ImmediateStore):
    """A store of which every operation fails."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def now(self) -> int:
        return 0

    def begin(self) -> None:
        """Nothing happens here."""

    def apply(self, operation: Operation) -> Result:
        raise self.failure

    def shun(self, shunned: Shunned) -> None:
        """Nothing is kept here."""

    async def reap(self, cutoff: int) -> ReapReport:
        return ReapReport(True)

    async def totals(self) -> dict[int, Totals]:
        return {}


class TestDirect:
    async def test_answers_before_it_returns(self) -> None:
        counters = Counters()
        direct = Direct(MemoryStore(random.random), Tracker(IDS, Policy(), random.random, counters), counters)
        turn = turn_of(11, 12)
        direct.submit(turn, Asker())
        assert (turn.questions, turn.faults) == ([], [])
        assert [wire.decode_response(data) for data, _ in turn.replies] == [
            AnnounceResponse(11, 1800, 1, 0, bytes((127, 0, 0, 1, 0, 11))),
            AnnounceResponse(12, 1800, 2, 0, bytes((127, 0, 0, 1, 0, 11))),
        ]
        assert [handle for _, handle in turn.replies] == [11, 12]
        assert turn.answered == [0, 2, 0, 0]
        await direct.drain()

    @pytest.mark.parametrize(("failure", "kind"), [(StoreError("broken"), "StoreError"), (ZeroDivisionError(), None)])
    def test_a_failure_is_answered_and_counted(self, failure: Exception, kind: str | None) -> None:
        counters = Counters()
        direct = Direct(BrokenStore(failure), Tracker(IDS, Policy(), random.random, counters), counters)
        turn = turn_of(1)
        direct.submit(turn, Asker())
        assert wire.decode_response(turn.replies[0][0]) == ErrorResponse(1, "internal error")
        assert turn.faults == ([] if kind else [failure])
        assert counters.store_errors["StoreError"] == (1 if kind else 0)
