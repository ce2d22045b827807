"""How a node follows the lists that all nodes share: it has all of them, and looks several times a second for changes.

What it knows stays in force whatever becomes of Redis. It is read as a whole at the start, when too much has changed at
once, and when the lists were begun anew; meanwhile the old ones decide. A Redis that has lost its lists is no reason to
let everybody in: what was known before holds, and is said, until somebody makes them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from udptracker.access.lists.cache import BadCache, read_cache, write_cache
from udptracker.access.lists.changes import DENY, REMOVE, unpack_changes
from udptracker.access.lists.ledger import Gap, Ledger, Version
from udptracker.access.lists.tables import Table, make_table
from udptracker.core.counters import FROM_CACHE, FROM_STORE, Counters
from udptracker.core.listed import LISTS
from udptracker.core.seldom import Seldom
from udptracker.core.swarm import StoreError

if TYPE_CHECKING:
    from udptracker.config import Settings
    from udptracker.redis.link import Timeouts
    from udptracker.redis.topology import Topology

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.3
"""Between two looks."""
_FIRST_SECONDS: Final = 1.0
"""How long a start waits for the first word of Redis."""
_CHANGES_AT_ONCE: Final = 8
_TRIES: Final = 3
_SLICE: Final = 200
"""Entries taken in between two pauses."""
_KEEP_SECONDS: Final = 10.0
"""Between two writes of the file."""
_QUIET_SECONDS: Final = 600.0
_TIMEOUT_SECONDS: Final = 5.0
"""Of a Redis that is not that of the peers, which has timeouts of its own."""


class Where(NamedTuple):
    """The Redis of the shared lists: its URL, and how long it may take."""

    url: str
    timeouts: Timeouts


def where_shared(settings: Settings) -> Where | None:
    """Where the shared lists are; None if there are none."""
    said = settings.access.shared.get_secret_value()
    config: Any = settings.storage.config
    is_storages = said == "storage"
    if said in ("", "off") or (is_storages and settings.storage.name != "redis"):
        return None
    from udptracker.redis.link import Timeouts  # which loads what a node on memory has no use for

    if not is_storages:
        return Where(said, Timeouts(_TIMEOUT_SECONDS, _TIMEOUT_SECONDS, _TIMEOUT_SECONDS))
    timeouts = Timeouts(config.redis_connect_timeout, config.redis_read_timeout, config.redis_write_timeout)
    return Where(config.redis_broker.get_secret_value(), timeouts)


class SharedTable:
    """One of the shared lists."""

    def __init__(self, which: str) -> None:
        self.which = which
        self.table = make_table(which)


class SharedLists:
    """See the module.

    Args:
        topology: of the Redis they are in; started and closed here.
        cache: the file that they are kept in, None for none.
        writes: whether this process writes that file, which is read by all workers.
        changed: called when a table is another, or holds more or less than before.
    """

    def __init__(
        self,
        topology: Topology,
        counters: Counters,
        *,
        cache: Path | None,
        writes: bool,
        changed: Callable[[], None],
    ) -> None:
        self._topology = topology
        self._ledger = Ledger(topology)
        self._counters = counters
        self._cache = cache
        self._writes = writes and cache is not None
        self._changed = changed
        self._version: Version | None = None
        self._last = b""
        """The change that led to that version; empty if it is not known."""
        self._is_sure = False
        """Whether Redis has answered ever since that was compared."""
        self._kept: Version | None = None
        self._kept_at = -_KEEP_SECONDS
        self._keeping = asyncio.Lock()
        self._seldom = Seldom(_QUIET_SECONDS)
        self._is_away = False
        self.sources = [SharedTable(which) for which in LISTS]

    async def open(self) -> None:
        """Have the lists: of Redis, or if it does not answer at once of the file, or none for as long as it is away."""
        self._topology.start()
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._first_word()
        except TimeoutError:
            await self._read_cache()
        else:
            if not await self.look():
                await self._read_cache()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._topology.close()

    async def look(self) -> bool:
        """Take in what has changed; whether Redis answered."""
        try:
            version = await self._ledger.version()
            if version is not None:
                if self._is_sure or await self._is_of_our_line():
                    await self._follow(version)
                else:
                    await self._read_all(version)
            elif self._version is not None:
                raise StoreError("it has lost them")
        except StoreError as error:
            self._counters.access_failures[FROM_STORE] += not self._is_away
            self._is_away, self._is_sure = True, False
            if self._seldom.allows(str(error), time.monotonic()):
                log.warning("the shared lists cannot be read, what was known of them holds: %s", error)
            return False
        self._is_sure = True
        if self._is_away:
            self._is_away = False
            log.info("the shared lists are up to date again")
        self._counters.access_refreshed = time.time()
        return True

    async def keep(self) -> None:
        """Write the file if there is news, not too often."""
        version, now = self._version, time.monotonic()
        if not self._writes or version in (None, self._kept) or now - self._kept_at < _KEEP_SECONDS:
            return
        assert self._cache is not None
        assert version is not None
        self._kept_at = now
        try:
            async with self._keeping:
                await write_cache(self._cache, version, {source.which: source.table for source in self.sources})
        except OSError as error:
            self._counters.access_failures[FROM_CACHE] += 1
            if self._seldom.allows(str(error), now):
                log.warning("the shared lists cannot be kept in %s: %s", self._cache, error.strerror)
        else:
            self._kept = version

    async def _first_word(self) -> None:
        """Return when Redis has answered."""
        while True:
            try:
                await self._ledger.version()
            except StoreError:
                await asyncio.sleep(0.05)
            else:
                return

    async def _is_of_our_line(self) -> bool:
        """Whether the lists that are known led to those that are there. A server that takes over may lack the latest
        changes, and be at the same number by others before anybody looks."""
        if self._version is None:
            return True
        return bool(self._last) and await self._change_at(self._version.number) == self._last

    async def _change_at(self, number: int) -> bytes:
        """The content of a change; empty if it is not there."""
        try:
            ((_, data),) = await self._ledger.changes(number - 1, 1)
        except Gap:
            return b""
        return data

    async def _follow(self, version: Version) -> None:
        """Get from the version that is known to that one, or a later one."""
        while self._version != version:
            known = self._version
            if known is None or known.epoch != version.epoch or known.number > version.number:
                await self._read_all(version)
                return
            try:
                changes = await self._ledger.changes(known.number, _CHANGES_AT_ONCE)
            except Gap:
                await self._read_all(version)
                return
            for number, data in changes:
                await self._apply(data, {source.which: source.table for source in self.sources})
                self._version, self._last = Version(known.epoch, number), data
            self._changed()
            if changes[-1][0] >= version.number:
                return

    async def _read_all(self, version: Version) -> None:
        """Read all of it into new tables, and then what has changed meanwhile; these take the place of the old ones."""
        for _ in range(_TRIES):
            tables = {which: make_table(which) for which in LISTS}
            for which, table in tables.items():
                async for part in self._ledger.entries(which):
                    for at in range(0, len(part), _SLICE):
                        for known in part[at : at + _SLICE]:
                            table.put(known.entry, known.denied, known.expires, known.user())
                        await asyncio.sleep(0)
            with contextlib.suppress(Gap):  # too much has changed meanwhile
                reached = await self._catch_up(version, tables)
                await self._put_in_place(reached, await self._change_at(reached.number), tables)
                return
            version = await self._ledger.version() or version
        raise StoreError("they change faster than they can be read")

    async def _catch_up(self, version: Version, tables: dict[str, Table]) -> Version:
        """Take in what has changed since a version; the version it is then.

        Raises:
            Gap: not all changes since are there.
        """
        while True:
            now = await self._ledger.version()
            if now is None or now.epoch != version.epoch:
                raise Gap
            if now.number <= version.number:
                return version
            for number, data in await self._ledger.changes(version.number, _CHANGES_AT_ONCE):
                await self._apply(data, tables)
                version = Version(version.epoch, number)

    async def _put_in_place(self, version: Version, last: bytes, tables: dict[str, Table]) -> None:
        before = [source.table for source in self.sources]
        for source in self.sources:
            source.table = tables[source.which]
        self._version, self._last = version, last
        self._changed()
        async with self._keeping:  # what is being written is written as it was
            for table in before:
                for _ in table.clear():
                    await asyncio.sleep(0)

    async def _apply(self, data: bytes, tables: dict[str, Table]) -> None:
        """Take in the content of a change."""
        try:
            for part in unpack_changes(data, _SLICE):
                for which, what, entry, expires, user in part:
                    if what == REMOVE:
                        tables[which].remove(entry)
                    else:
                        tables[which].put(entry, what == DENY, expires, user)
                await asyncio.sleep(0)
        except ValueError as error:
            raise StoreError(f"a change cannot be read: {error}") from None

    async def _read_cache(self) -> None:
        """Have what the file says, if it can be read."""
        if self._cache is None:
            log.warning("the shared lists are not known as long as Redis is away: it does not answer")
            return
        try:
            kept_at = self._cache.stat().st_mtime
            version, tables = await read_cache(self._cache)
        except (OSError, BadCache) as error:
            self._counters.access_failures[FROM_CACHE] += 1
            why = getattr(error, "strerror", None) or error
            log.warning("the shared lists are not known as long as Redis is away, nor from %s: %s", self._cache, why)
            return
        self._kept = version
        self._counters.access_refreshed = kept_at
        await self._put_in_place(version, b"", tables)
        log.warning("Redis does not answer: the shared lists are those that were kept in %s", self._cache)
