"""Trackers with hooks in front, for tests of what hooks do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from tests.access.support import Gate, use
from tests.config.support import settings
from udptracker.access.access import Access
from udptracker.access.hooks.part import Hooks


class Hooked:
    """A tracker with hooks. What it serves may be changed while it runs, as by a reload."""

    def __init__(self) -> None:
        self.gate = Gate(max_pending=10_000)
        self.access: Access | None = None

    async def use(self, *prehooks: dict[str, Any], posthooks: Sequence[dict[str, Any]] = (), **body: Any) -> None:
        given = settings(prehooks=list(prehooks), posthooks=list(posthooks), **body)
        if self.access is None:
            self.access = Access([Hooks(given, self.gate.counters)], self.gate.guard, self.gate.tracker)
            await self.access.open()
        else:
            await use(self.access, given)

    async def close(self) -> None:
        if self.access is not None:
            await self.access.close()

    async def refusals(self, *numbers: int) -> list[str | None]:
        """What came of requests, once it has."""
        await self.gate.guard.drain()
        return [self.gate.refusal(number) for number in numbers]


async def until(probe: Callable[[], Any], what: str) -> None:
    """Wait, letting the loop go on."""
    for _ in range(2000):
        if probe():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited for {what}")
