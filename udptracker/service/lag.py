"""How late the event loop is: what everybody who asks has to wait for on top."""

from __future__ import annotations

import asyncio
from typing import Final

from udptracker.core.counters import Counters

_SAMPLE_SECONDS: Final = 0.1


async def watch_lag(counters: Counters) -> None:
    """Sample for ever into `counters.loop_lag`."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _SAMPLE_SECONDS
        await asyncio.sleep(_SAMPLE_SECONDS)
        counters.loop_lag.add(max(int((loop.time() - due) * 1e6), 0))
