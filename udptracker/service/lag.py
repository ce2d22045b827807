"""How late the event loop is: what everybody who asks has to wait for on top."""

from __future__ import annotations

import asyncio
from typing import Final

from udptracker.core.counters import Counters

_SAMPLE_SECONDS: Final = 0.1
_IDLE_SECONDS: Final = 1.0
"""While nobody asks: to be woken ten times a second would be most of what an idle process costs."""


async def watch_lag(counters: Counters) -> None:
    """Sample for ever into `counters.loop_lag`."""
    loop = asyncio.get_running_loop()
    seen = -1
    while True:
        seconds = _SAMPLE_SECONDS if counters.bytes_in != seen else _IDLE_SECONDS
        seen = counters.bytes_in
        due = loop.time() + seconds
        await asyncio.sleep(seconds)
        counters.loop_lag.add(max(int((loop.time() - due) * 1e6), 0))
