"""The lag of the event loop is what somebody else held it up for."""

from __future__ import annotations

import asyncio
import time

from tests.support.nodes import until
from udptracker.core.counters import Counters
from udptracker.service.lag import watch_lag


async def test_a_loop_that_is_held_up_is_late() -> None:
    counters = Counters()
    watching = asyncio.create_task(watch_lag(counters))

    def samples() -> int:
        counters.bytes_in += 1  # somebody asks all the time
        return sum(counters.loop_lag.counts)

    await until(lambda: samples() >= 2)
    before = counters.loop_lag.total
    time.sleep(0.5)  # noqa: ASYNC251  # this is what must not happen, and is to be seen
    await until(lambda: counters.loop_lag.total > before + 300_000)
    watching.cancel()


async def test_while_nobody_asks_it_is_looked_at_seldom() -> None:
    counters = Counters()
    watching = asyncio.create_task(watch_lag(counters))
    await until(lambda: sum(counters.loop_lag.counts) == 1)  # the first, before which nobody knows
    began = time.monotonic()
    await until(lambda: sum(counters.loop_lag.counts) == 2)
    assert time.monotonic() - began > 0.5
    watching.cancel()
