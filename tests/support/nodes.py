"""A store and its stand-in as a tracker node has them, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tests.support.stores import make_redis_store
from tests.support.waiting import PATIENCE
from udptracker.core.counters import Counters
from udptracker.storage.memory import MemoryStore
from udptracker.storage.redis.store import RedisStore
from udptracker.storage.standby.circuit import StandbyStore


class Node:
    """A standby store as a tracker node has it, and what it counts.

    Args:
        make: makes its primary, a store on Redis, from the URL.
        options: what is to be different of the standby store.
    """

    def __init__(self, url: str, make: Callable[..., RedisStore] = make_redis_store, **options: Any) -> None:
        self.counters = Counters()
        self.primary = make(url, remember_stops=60.0)
        self.store = StandbyStore(
            self.primary,
            lambda clock: MemoryStore(random.Random(3).random, clock),
            self.counters,
            **{"timeout": 0.5, "max_peers": 10_000, "replay_window": 10.0, "peer_lifetime": 60.0, "gc_interval": 600.0}
            | options,
        )

    async def is_back(self) -> None:
        """Return when it serves from its primary and has replayed everything."""
        await until(lambda: self.counters.store_up and not self.counters.buffered)


@asynccontextmanager
async def node_on(url: str, make: Callable[..., RedisStore] = make_redis_store, **options: Any) -> AsyncIterator[Node]:
    """An open node, closed at the end."""
    node = Node(url, make, **options)
    await node.store.open()
    try:
        yield node
    finally:
        await node.store.close()


async def until(probe: Callable[[], object], patience: float = PATIENCE) -> None:
    """Return once `probe` returns something true; at most `patience` seconds from now."""
    async with asyncio.timeout(patience):
        while True:
            if probe():
                return
            await asyncio.sleep(0.01)


async def until_answer(ask_again: Callable[[], Awaitable[bool]]) -> None:
    """The same for a question that has to be awaited."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if await ask_again():
                return
            await asyncio.sleep(0.01)


async def left_by(opening: Coroutine[Any, Any, None], close: Callable[[], Awaitable[None]]) -> set[asyncio.Task[Any]]:
    """The tasks that are left of what is told to end while it opens, and does."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(opening)
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await close()
    return asyncio.all_tasks() - before
