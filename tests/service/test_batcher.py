"""Both executors over stores in this process, of which one answers when the test lets it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.turns import until
from udptracker.core.counters import Counters
from udptracker.core.swarm import (
    IPV4,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    Role,
    StoreError,
    StoreUnavailable,
    Totals,
)
from udptracker.core.tracker import Pending
from udptracker.core.wire import Action, Event
from udptracker.service.batcher import Batcher, Direct, Request
from udptracker.storage.base import ImmediateStore, PeerStore, ReapReport
from udptracker.storage.memory import MemoryStore

INFO_HASH = bytes(range(20))


class Asker:
    """Who brought a request, and the reply it got."""

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, tuple[Any, ...], int]] = []

    def reply(self, data: bytes, addr: tuple[Any, ...], arrived: int) -> None:
        self.replies.append((data, addr, arrived))


def request(port: int, asker: Asker | None = None) -> Request:
    """An announce of a leecher on this port, which is its transaction id, too, and one less than when it arrived."""
    peer = bytes(20) + port.to_bytes(2, "big") + bytes((127, 0, 0, 1))
    operation = AnnounceOperation(IPV4, INFO_HASH, peer, Role.LEECHER, Event.NONE, 50)
    return Pending(operation, port, Action.ANNOUNCE), asker or Asker(), ("127.0.0.1", port), port + 1


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

    async def reap(self, cutoff: int) -> ReapReport:
        return await self.inner.reap(cutoff)

    async def totals(self) -> dict[int, Totals]:
        return await self.inner.totals()

    async def ping(self) -> None:
        await self.inner.ping()


class Scene:
    """A batcher over a gated store, who asks it, and what results it made replies of: (port, result)."""

    def __init__(self, **bounds: int) -> None:
        self.counters = Counters()
        self.store = GatedStore()
        self.delivered: list[tuple[int, Result | StoreError]] = []
        self.asker = Asker()
        self.batcher = Batcher(self.store, self.respond, self.counters, **bounds)

    def respond(self, pending: Pending, result: Result | StoreError) -> bytes:
        self.delivered.append((pending.transaction_id, result))
        return b"%d" % pending.transaction_id

    def submit(self, *ports: int) -> list[bool]:
        return [self.batcher.submit(request(port, self.asker)) for port in ports]

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
        return [port for port, _ in self.delivered]


class TestBatcher:
    async def test_one_turn_of_the_loop_is_one_batch(self) -> None:
        scene = Scene()
        assert all(scene.submit(1, 2, 3))
        await scene.drain()
        assert scene.store.sizes == [3]
        assert scene.ports == [1, 2, 3]
        assert scene.asker.replies == [(b"%d" % port, ("127.0.0.1", port), port + 1) for port in (1, 2, 3)]
        counts = [result.leechers for _, result in scene.delivered if isinstance(result, AnnounceResult)]
        assert counts == [1, 2, 3]

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

    async def test_when_full_the_newest_is_refused(self) -> None:
        scene = Scene(max_pending=3, max_in_flight=1)
        assert scene.submit(1, 2) == [True, True]
        await scene.until_called(1)
        assert scene.submit(3, 4, 5) == [True, False, False]
        await scene.drain()
        assert scene.ports == [1, 2, 3]
        assert scene.submit(6) == [True]
        await scene.drain()
        assert scene.ports == [1, 2, 3, 6]

    async def test_a_failed_slot_leaves_its_neighbours(self) -> None:
        scene = Scene()
        scene.store.bad_ports = frozenset({2})
        scene.submit(1, 2, 3)
        await scene.drain()
        kinds = [type(result) for _, result in scene.delivered]
        assert kinds == [AnnounceResult, StoreError, AnnounceResult]
        assert +scene.counters.store_errors == {"StoreError": 1}

    async def test_a_store_that_is_away_is_told_to_each(self) -> None:
        scene = Scene()
        scene.store.failure = StoreUnavailable("away")
        scene.submit(1, 2)
        await scene.drain()
        assert scene.delivered == [(1, scene.store.failure), (2, scene.store.failure)]
        assert +scene.counters.store_errors == {"StoreUnavailable": 2}

    async def test_a_bug_in_the_store_leaves_nobody_waiting(self, caplog: pytest.LogCaptureFixture) -> None:
        scene = Scene(max_pending=2)
        scene.store.failure = ZeroDivisionError("a bug")
        scene.submit(1, 2)
        await scene.drain()
        assert scene.ports == [1, 2]
        assert all(isinstance(result, StoreError) for _, result in scene.delivered)
        assert +scene.counters.store_errors == {"ZeroDivisionError": 2}
        assert "ZeroDivisionError: a bug" in caplog.text
        scene.store.failure = None
        assert all(scene.submit(3, 4))
        await scene.drain()
        assert isinstance(scene.delivered[-1][1], AnnounceResult)

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


class BrokenStore(MemoryStore):
    """A memory store of which every operation fails."""

    def apply(self, operation: Operation) -> Result:
        raise StoreError("broken")


class TestDirect:
    def direct(self, store: ImmediateStore, counters: Counters) -> tuple[Direct, list[Result | StoreError]]:
        delivered: list[Result | StoreError] = []

        def respond(pending: Pending, result: Result | StoreError) -> bytes:
            delivered.append(result)
            return b"reply"

        return Direct(store, respond, counters), delivered

    async def test_answers_before_it_returns(self) -> None:
        asker = Asker()
        direct, delivered = self.direct(MemoryStore(random.random), Counters())
        assert direct.submit(request(1, asker))
        assert [type(result) for result in delivered] == [AnnounceResult]
        assert asker.replies == [(b"reply", ("127.0.0.1", 1), 2)]
        await direct.drain()

    def test_a_failure_is_answered_and_counted(self) -> None:
        counters = Counters()
        direct, delivered = self.direct(BrokenStore(random.random), counters)
        assert direct.submit(request(1))
        assert [type(result) for result in delivered] == [StoreError]
        assert +counters.store_errors == {"StoreError": 1}
