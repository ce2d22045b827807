"""The reaper over a real memory store whose clock the test holds, and over stores that fail."""

from __future__ import annotations

import logging
import random
import time

import pytest

from udptracker.core.counters import Counters
from udptracker.core.swarm import IPV4, AnnounceOperation, Operation, Result, Role, StoreUnavailable, Totals
from udptracker.core.wire import Event
from udptracker.service.reaper import Reaper
from udptracker.storage.base import ImmediateStore, ReapReport, Shunned
from udptracker.storage.memory import MemoryStore

SECOND = 1_000_000_000
LIFETIME = 100.0


class Clock:
    """Nanoseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


class Scene:
    """A reaper over a memory store with this clock."""

    def __init__(self, store: ImmediateStore | None = None) -> None:
        self.clock = Clock()
        self.counters = Counters()
        self.store = store or MemoryStore(random.Random(1).random, self.clock)
        self.reaper = Reaper(self.store, self.counters, lifetime=LIFETIME)

    def announce(self, port: int) -> None:
        peer = bytes(20) + port.to_bytes(2, "big") + bytes((127, 0, 0, 1))
        self.store.begin()
        self.store.apply(AnnounceOperation(IPV4, bytes(20), peer, Role.LEECHER, Event.NONE, 0))

    async def peers(self) -> int:
        return (await self.store.totals())[IPV4].leechers


async def test_removes_who_has_been_silent_for_a_lifetime() -> None:
    scene = Scene()
    scene.announce(1)
    scene.clock.now += 60 * SECOND
    scene.announce(2)
    scene.clock.now += 60 * SECOND
    await scene.reaper.reap()
    assert await scene.peers() == 1
    scene.clock.now += 60 * SECOND
    await scene.reaper.reap()
    assert await scene.peers() == 0


async def test_counts_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()
    for port in (1, 2, 3):
        scene.announce(port)
    scene.clock.now += 200 * SECOND
    before = time.time()
    await scene.reaper.reap()
    await scene.reaper.reap()
    counters = scene.counters
    assert (counters.reaper_runs, counters.reaped, counters.reaper_swarms, counters.broken) == (2, 3, 1, 0)
    assert before <= counters.reaper_last_success <= time.time()
    assert counters.reaper_seconds >= 0
    assert "reaped 3 stale peers, 1 emptied swarms" in caplog.text


class RefusingStore(ImmediateStore):
    """A memory store whose reaper run ends as the test says: it raises, or reports."""

    def __init__(self, outcome: Exception | ReapReport) -> None:
        self.inner = MemoryStore(random.random)
        self.outcome = outcome

    def now(self) -> int:
        return self.inner.now()

    def begin(self) -> None:
        self.inner.begin()

    def apply(self, operation: Operation) -> Result:
        return self.inner.apply(operation)

    async def totals(self) -> dict[int, Totals]:
        return await self.inner.totals()

    def shun(self, shunned: Shunned) -> None:
        self.inner.shun(shunned)

    async def reap(self, cutoff: int) -> ReapReport:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def test_a_store_that_is_away_is_counted_and_left_for_the_next_run(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(RefusingStore(StoreUnavailable("away")))
    await scene.reaper.reap()
    await scene.reaper.reap()
    assert "reaping was cut off, the next run goes on: away" in caplog.text
    counters = scene.counters
    assert (counters.reaper_failures, counters.reaper_runs, counters.reaper_last_success) == (2, 0, 0.0)


async def test_what_nobody_foresaw_is_counted_and_left_to_whoever_runs_it() -> None:
    scene = Scene(RefusingStore(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        await scene.reaper.reap()
    assert (scene.counters.reaper_failures, scene.counters.reaper_runs) == (1, 0)


async def test_a_lease_of_another_node_is_no_run() -> None:
    scene = Scene(RefusingStore(ReapReport(ran=False)))
    await scene.reaper.reap()
    assert (scene.counters.reaper_skipped, scene.counters.reaper_runs) == (1, 0)
    assert scene.counters.reaper_last_success == 0.0
