"""Waiting inside an event loop for what other tasks do on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.waiting import PATIENCE, Expired


async def until(probe: Callable[[], bool], what: str) -> None:
    """Give the loop to others, turn by turn, until `probe` is true, for at most `PATIENCE` seconds.

    Args:
        probe: asked once a turn.
        what: names what is waited for, in the failure.

    Raises:
        Expired: it never was.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not probe():
        if loop.time() > deadline:
            raise Expired(f"waited {PATIENCE:.0f} s for {what}")
        await asyncio.sleep(0)
