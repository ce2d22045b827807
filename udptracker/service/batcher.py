"""From the questions of a turn to store operations and back: at once for a store in this process, in batches for one
that is not.

Both executors have `submit(turn, asker)`. What is answered at once is among the turn's replies when it returns; the
rest comes later, by `asker.answer`. Whatever happens to an operation, its question is answered exactly once, from its
result or from the error in its place, or it is dropped and counted because the queue is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from time import monotonic_ns
from typing import final

from udptracker.core.counters import Counters
from udptracker.core.executor import Asker
from udptracker.core.reasons import QUEUE_FULL
from udptracker.core.swarm import Operation, Result, StoreError, StoreUnavailable
from udptracker.core.tracker import Tracker, Turn
from udptracker.storage.base import ImmediateStore, PeerStore

log = logging.getLogger(__name__)


@final
class Direct:
    """Executes each question where it stands, on a store in this process."""

    def __init__(self, store: ImmediateStore, tracker: Tracker, counters: Counters) -> None:
        self._store = store
        self._tracker = tracker
        self._counters = counters

    def submit(self, turn: Turn, asker: Asker) -> None:
        """All replies are in the turn when it returns; there is always room."""
        store, tracker = self._store, self._tracker
        store.begin()
        for question in turn.questions:
            result: Result | StoreError
            try:
                result = store.apply(question.operation)
            except StoreError as failure:
                self._counters.store_errors[type(failure).__name__] += 1
                result = failure
            except Exception as error:  # a bug in a store costs one answer
                turn.faults.append(error)
                result = StoreError(type(error).__name__)
            tracker.respond(question, result, turn)
        turn.questions = []

    async def drain(self) -> None:
        """Nothing is ever held back."""


@final
class Batcher:
    """Gathers the turns that come while it waits into one batch; several batches may be in flight.

    Once `max_in_flight` batches are, turns wait and the next batch is larger, which is cheaper per request: that is
    how a busy node catches up.

    Args:
        store: executes the batches.
        tracker: makes the replies.
        counters: batch sizes, latency and errors are counted here.
        max_pending: questions waiting or in flight, beyond which the newest are dropped.
        max_batch: questions in a batch, beyond which it takes no further turn.
        max_in_flight: the most batches on their way at once.
        enough: questions that make a batch worth sending while another is on its way.
    """

    def __init__(
        self,
        store: PeerStore,
        tracker: Tracker,
        counters: Counters,
        *,
        max_pending: int = 16_384,
        max_batch: int = 512,
        max_in_flight: int = 4,
        enough: int = 32,
    ) -> None:
        self._store = store
        self._tracker = tracker
        self._counters = counters
        self.max_pending = max_pending
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._enough = enough
        self._waiting: deque[tuple[Turn, Asker]] = deque()
        self._waiting_count = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        counters.gauges["queue_depth"] = self._depth

    def submit(self, turn: Turn, asker: Asker) -> None:
        count = len(turn.questions)
        room = self.max_pending - self._pending
        if count > room:
            self._counters.dropped[QUEUE_FULL] += count - room
            count = room
        if count <= 0:
            turn.questions = []
            return
        self._pending += count
        self._waiting_count += count
        self._waiting.append((turn.take_questions(count), asker))
        self._schedule()

    async def drain(self) -> None:
        while self._pending:
            if self._in_flight:
                await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)

    def _depth(self) -> int:
        return self._pending

    def _may_go(self) -> bool:
        """Whether a batch is worth its cost now: alone on the way, or large enough and not too many are."""
        in_flight = len(self._in_flight)
        return not in_flight or (in_flight < self._max_in_flight and self._waiting_count >= self._enough)

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting and self._may_go():
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting and self._may_go():
            batch: list[tuple[Turn, Asker]] = []
            count = 0
            while self._waiting and count < self._max_batch:
                turn, asker = self._waiting.popleft()
                batch.append((turn, asker))
                count += len(turn.questions)
            self._waiting_count -= count
            task = self._loop.create_task(self._run(batch, count))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._schedule()

    async def _run(self, batch: list[tuple[Turn, Asker]], count: int) -> None:
        counters, tracker = self._counters, self._tracker
        started = monotonic_ns()
        counters.batch_sizes.add(count)
        results = await self._execute([question.operation for turn, _ in batch for question in turn.questions])
        counters.store_latency.add((monotonic_ns() - started) // 1000)
        self._pending -= count
        at = 0
        for turn, asker in batch:
            for question in turn.questions:
                tracker.respond(question, results[at], turn)
                at += 1
            turn.questions = []
            try:
                asker.answer(turn)
            except Exception:  # a bug in one must not leave the other turns of the batch unanswered
                log.exception("a turn could not be answered")

    async def _execute(self, operations: list[Operation]) -> Sequence[Result | StoreError]:
        try:
            results = await self._store.execute(operations)
        except StoreUnavailable as away:
            self._counters.store_errors[type(away).__name__] += len(operations)
            return [away] * len(operations)
        except Exception as error:  # a bug in a store must not leave its requests unanswered and the queue full
            log.exception("the store failed in an unforeseen way")
            self._counters.store_errors[type(error).__name__] += len(operations)
            return [StoreError(type(error).__name__)] * len(operations)
        for result in results:
            if isinstance(result, StoreError):
                self._counters.store_errors[type(result).__name__] += 1
        return results
