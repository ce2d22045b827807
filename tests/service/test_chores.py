"""Chores that work, fail, and do not want to end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.support.turns import until
from udptracker.core.counters import Counters
from udptracker.service.chores import Chores


class Calls:
    """A chore that counts its calls and raises what it is told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.count = 0
        self._error = error

    async def __call__(self) -> None:
        self.count += 1
        if self._error is not None:
            raise self._error


async def test_one_is_done_again_and_again() -> None:
    counters, calls = Counters(), Calls()
    chores = Chores(counters)
    chores.start("dishes", lambda: 0.001, calls)
    await until(lambda: calls.count >= 3, "a third call")
    await chores.stop(1.0)
    done = calls.count
    await asyncio.sleep(0.01)
    assert calls.count == done
    assert counters.chore_failures == {"dishes": 0}


async def test_at_once_or_after_its_interval() -> None:
    chores, now, later = Chores(Counters()), Calls(), Calls()
    chores.start("now", lambda: 60.0, now, at_once=True)
    chores.start("later", lambda: 60.0, later)
    await until(lambda: now.count == 1, "the first call")
    assert later.count == 0
    await chores.stop(1.0)


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), asyncio.CancelledError()])
async def test_one_that_fails_is_logged_counted_and_goes_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    counters, calls = Counters(), Calls(error)
    chores = Chores(counters)
    chores.start("dishes", lambda: 0.001, calls)
    await until(lambda: calls.count >= 2, "a second call")
    await chores.stop(1.0)
    assert counters.chore_failures["dishes"] >= 2
    assert "the dishes chore failed in an unforeseen way" in caplog.text
    assert type(error).__name__ in caplog.text


async def test_one_that_swallows_its_cancellation_ends_all_the_same() -> None:
    """As `finally: await store.release()` does when the store is away and its error takes the cancellation's place."""
    begun = asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            raise ConnectionError("the store is away") from None

    counters = Counters()
    chores = Chores(counters)
    chores.start("stubborn", lambda: 60.0, stubborn, at_once=True)
    await begun.wait()
    await asyncio.wait_for(chores.stop(30.0), 20.0)
    assert counters.chore_failures["stubborn"] == 0


async def test_one_that_does_not_end_is_named_and_left(caplog: pytest.LogCaptureFixture) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def stuck() -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    chores = Chores(Counters())
    chores.start("stuck", lambda: 60.0, stuck, at_once=True)
    await begun.wait()
    await asyncio.wait_for(chores.stop(0.01), 10.0)
    (record,) = caplog.records
    assert (record.levelno, record.message) == (
        logging.WARNING,
        "the stuck chore did not end within 0.01 s and is left",
    )
    release.set()


async def test_an_interval_that_becomes_shorter_is_noticed() -> None:
    chores, calls, interval = Chores(Counters()), Calls(), [3600.0]
    chores.start("dishes", lambda: interval[0], calls)
    await asyncio.sleep(0)
    interval[0] = 0.001
    chores.hurry()
    await until(lambda: calls.count > 0, "the first call")
    await chores.stop(1.0)
