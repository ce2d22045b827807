"""From requests to store operations and back: at once for a store in this process, in batches for one that is not.

Both executors have `submit(request) -> bool`, false when there is no room. Whatever happens to an operation, its
request is answered exactly once, from its result or from the error in its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, Protocol

from udptracker.core.counters import Counters
from udptracker.core.swarm import Operation, Result, StoreError, StoreUnavailable
from udptracker.core.tracker import Pending
from udptracker.storage.base import ImmediateStore, PeerStore

log = logging.getLogger(__name__)


class ReplyTo(Protocol):
    """Whoever brought a request: an endpoint."""

    def reply(self, data: bytes, addr: tuple[Any, ...], arrived: int) -> None:
        """Send an answer to where the request came from."""


Request = tuple[Pending, ReplyTo, tuple[Any, ...], int]
"""What to ask the store, who brought it, from where, and when (monotonic nanoseconds)."""

Respond = Callable[[Pending, Result | StoreError], bytes]
"""From a question and what the store said to the reply: `Tracker.respond`."""


class Executor(Protocol):
    """What an endpoint submits requests to."""

    def submit(self, request: Request) -> bool:
        """Take a request; false when there is no room for it."""

    async def drain(self) -> None:
        """Return when everything accepted has been answered."""


class Direct:
    """Executes each request where it stands, on a store in this process."""

    def __init__(self, store: ImmediateStore, respond: Respond, counters: Counters) -> None:
        self._apply = store.apply
        self._respond = respond
        self._counters = counters

    def submit(self, request: Request) -> bool:
        """Executes and answers before it returns; there is always room."""
        pending, asker, addr, arrived = request
        result: Result | StoreError
        try:
            result = self._apply(pending.operation)
        except StoreError as error:
            self._counters.store_errors[type(error).__name__] += 1
            result = error
        asker.reply(self._respond(pending, result), addr, arrived)
        return True

    async def drain(self) -> None:
        """Nothing is ever held back."""


class Batcher:
    """Gathers what one turn of the event loop brought into one batch; several batches may be in flight.

    Once `max_in_flight` batches are, requests wait and the next batch is larger, which is cheaper per request: that
    is how a busy node catches up.

    Args:
        store: executes the batches.
        respond: makes the replies.
        counters: batch sizes, latency and errors are counted here.
        max_pending: requests waiting or in flight, beyond which `submit` refuses.
        max_batch: the most requests in a batch.
        max_in_flight: the most batches on their way at once.
        enough: requests that make a batch worth sending while another is on its way.
    """

    def __init__(
        self,
        store: PeerStore,
        respond: Respond,
        counters: Counters,
        *,
        max_pending: int = 16_384,
        max_batch: int = 512,
        max_in_flight: int = 4,
        enough: int = 32,
    ) -> None:
        self._store = store
        self._respond = respond
        self._counters = counters
        self._max_pending = max_pending
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._enough = enough
        self._waiting: list[Request] = []
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        counters.gauges["queue_depth"] = lambda: self._pending

    def submit(self, request: Request) -> bool:
        if self._pending >= self._max_pending:
            return False
        self._pending += 1
        self._waiting.append(request)
        if not self._scheduled and self._may_go():
            self._scheduled = True
            self._loop.call_soon(self._flush)
        return True

    async def drain(self) -> None:
        while self._pending:
            if self._in_flight:
                await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)

    def _may_go(self) -> bool:
        """Whether a batch is worth its cost now: alone on the way, or large enough and not too many are."""
        in_flight = len(self._in_flight)
        return not in_flight or (in_flight < self._max_in_flight and len(self._waiting) >= self._enough)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting and self._may_go():
            batch = self._waiting[: self._max_batch]
            del self._waiting[: self._max_batch]
            task = self._loop.create_task(self._run(batch))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if self._waiting and not self._scheduled and self._may_go():
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def _run(self, batch: list[Request]) -> None:
        counters = self._counters
        started = monotonic_ns()
        counters.batch_sizes.add(len(batch))
        results = await self._execute([request[0].operation for request in batch])
        counters.store_latency.add((monotonic_ns() - started) // 1000)
        self._pending -= len(batch)
        respond = self._respond
        for (pending, asker, addr, arrived), result in zip(batch, results, strict=True):
            asker.reply(respond(pending, result), addr, arrived)

    async def _execute(self, operations: list[Operation]) -> Sequence[Result | StoreError]:
        try:
            results = await self._store.execute(operations)
        except StoreUnavailable as error:
            self._counters.store_errors[type(error).__name__] += len(operations)
            return [error] * len(operations)
        except Exception as error:  # a bug in a store must not leave its requests unanswered and the queue full
            log.exception("the store failed in an unforeseen way")
            self._counters.store_errors[type(error).__name__] += len(operations)
            return [StoreError(type(error).__name__)] * len(operations)
        for result in results:
            if isinstance(result, StoreError):
                self._counters.store_errors[type(result).__name__] += 1
        return results
