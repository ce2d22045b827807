"""What has snapshots written: every so often and at the stop, by whoever holds the peers, and then puts them in place.

It is in the process that the operator started. That one alone may replace the file, so the parts of several workers
become one snapshot or none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from udptracker.aside import aside
from udptracker.config import Settings
from udptracker.service.claim import Claim
from udptracker.storage.snapshot import SnapshotError

log = logging.getLogger(__name__)

_NEVER: Final = 365 * 86_400.0
_PATIENCE: Final = 60.0
"""Seconds after which nobody is waited for: far longer than the largest store takes on a busy machine."""


class Saver:
    """See the module.

    Args:
        settings: says where, and how often.
        parts: of a snapshot, one for each process that holds peers.

    Attributes:
        figures: `time`, when the last snapshot was in place, Unix seconds, or 0; `seconds` that it took, `peers` in it,
            and `failures` so far.

    Raises:
        ConfigError: a snapshot cannot be written there.
    """

    def __init__(self, settings: Settings, parts: int) -> None:
        self._parts = parts
        self._claimed: dict[str, Claim] = {}
        self._file: Claim | None = None
        self._interval = 0.0
        self._stops_since: float | None = None
        self._publishing = asyncio.Lock()
        self.figures: dict[str, float] = {"time": 0, "seconds": 0, "peers": 0, "failures": 0}
        self.prepare(settings)
        self.use(settings)

    def prepare(self, settings: Settings) -> None:
        """Make sure that these can be used; those in use are not touched. It may wait for a disk.

        Raises:
            ConfigError: they cannot.
        """
        path, _ = settings.storage.snapshot()
        if path and path not in self._claimed:
            self._claimed[path] = Claim.of(path)

    def use(self, settings: Settings) -> None:
        """Write snapshots where these say, and no more where others did: what is there stays."""
        path, self._interval = settings.storage.snapshot()
        self._file = self._claimed.get(path)
        for other in self._claimed.keys() - {path}:
            self._claimed.pop(other).release()

    def interval(self) -> float:
        """Seconds between two snapshots."""
        return self._interval or _NEVER

    async def save(self, write: Callable[[str], Awaitable[list[str]]]) -> None:
        """One snapshot.

        Args:
            write: has every process write its part beside a path, and says what kept any of them from it.
        """
        file = self._file
        if file is None or self._interval == 0 or self._stops():
            return
        began = time.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE):
                why_not = await write(str(file.path))
        except TimeoutError:
            why_not = [f"not every process has written its part within {_PATIENCE:g} s"]
        if self._stops():
            return
        if why_not:
            self._failed(file, "; ".join(why_not))
            await aside(file.clear, self._parts)
        else:
            await self._publish(file, began)

    def _stops(self) -> bool:
        return self._stops_since is not None

    def stopping(self, write_at_stop: Callable[[str], None]) -> None:
        """From now on there is only the last snapshot, for which everybody writes a part while stopping."""
        self._stops_since = time.monotonic()
        if self._file is not None:
            write_at_stop(str(self._file.path))

    def stopped_for(self) -> float:
        """Seconds since `stopping`, 0 before."""
        return 0.0 if self._stops_since is None else time.monotonic() - self._stops_since

    async def finish(self) -> None:
        """Put the last snapshot in place, after everybody has stopped."""
        if self._file is not None and self._stops_since is not None:
            await self._publish(self._file, self._stops_since)

    async def _publish(self, file: Claim, began: float) -> None:
        try:
            async with self._publishing:
                written = await aside(file.publish, self._parts)
        except SnapshotError as error:
            self._failed(file, str(error))
        except OSError as error:
            self._failed(file, error.strerror or str(error))
        else:
            seconds = time.monotonic() - began
            self.figures |= {"time": time.time(), "seconds": seconds, "peers": written.peers}
            log.info("wrote %d peers to %s, %d bytes, in %.3f s", written.peers, file.path, written.size, seconds)

    def _failed(self, file: Claim, why: str) -> None:
        self.figures["failures"] += 1
        log.error("no snapshot was written, and %s is as it was before: %s", file.path, why)
