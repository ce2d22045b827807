"""What expires stale peers, on whatever store."""

from __future__ import annotations

import logging
import time

from udptracker.core.counters import Counters
from udptracker.core.swarm import StoreUnavailable
from udptracker.storage.base import PeerStore

log = logging.getLogger(__name__)


class Reaper:
    """Removes peers that have not announced for `lifetime` seconds.

    It may be cancelled at any point and started again: what it left is found by the next run.
    """

    def __init__(self, store: PeerStore, counters: Counters, *, lifetime: float) -> None:
        self._store = store
        self._counters = counters
        self.lifetime = lifetime

    async def reap(self) -> None:
        """One run, counted; a store that does not answer is left for the next run."""
        counters = self._counters
        try:
            report = await self._store.reap(self._store.now() - int(self.lifetime * 1e9))
        except StoreUnavailable as error:
            counters.reaper_failures += 1
            log.warning("reaping was cut off, the next run goes on: %s", error)
            return
        except Exception:
            counters.reaper_failures += 1
            raise
        if not report.ran:
            counters.reaper_skipped += 1
            return
        counters.reaper_runs += 1
        counters.reaped += report.peers
        counters.broken += report.broken
        counters.reaper_swarms += report.swarms
        counters.reaper_seconds = report.seconds
        counters.reaper_durations.add(int(report.seconds * 1e6))
        counters.reaper_last_success = time.time()
        log.info(
            "reaped %d stale peers, %d emptied swarms, %d broken entries in %.3f s",
            report.peers,
            report.swarms,
            report.broken,
            report.seconds,
        )
