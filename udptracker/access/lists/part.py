"""The lists as a part of the access control: read at the start, kept up to date, and asked by rules."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from udptracker.access.base import AccessError, Prepared, Rule, SlowRule, Watcher
from udptracker.access.lists.files import ListFile
from udptracker.access.lists.rules import ClientRule, NetworkDoor, PasskeyRule, TorrentRule
from udptracker.access.lists.shared import LOOK_SECONDS, SharedLists, where_shared
from udptracker.access.lists.tables import GRACE, Clients, Networks, Passkeys, Table, Torrents, make_table
from udptracker.core.counters import ALLOWED, DENIED, FROM_FILE, Counters
from udptracker.core.listed import CLIENTS, LISTS, NETWORKS, PARSE, PASSKEYS, TORRENTS, split_passkey
from udptracker.core.text import counted
from udptracker.core.tracker import Admit

if TYPE_CHECKING:
    from udptracker.config import Settings
    from udptracker.config.access import AccessSettings

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Table)

TICK_SECONDS: Final = 0.5
"""How often the rules learn what time it is, and files are looked at."""
_SWEEP_SECONDS: Final = 60.0


class Source(Protocol):
    """Where a table came from, and the table as it is now."""

    which: str
    table: Table


class Lists:
    """See the module.

    Args:
        speaks: whether this process says what the lists hold, which is the same in all workers.
    """

    slow_rules: Sequence[SlowRule] = ()
    watchers: Sequence[Watcher] = ()

    def __init__(self, settings: Settings, counters: Counters, *, speaks: bool) -> None:
        self._settings = settings.access
        self._counters = counters
        self._speaks = speaks
        self._torrents = TorrentRule()
        self._clients = ClientRule()
        self._passkeys = PasskeyRule()
        self._networks = NetworkDoor()
        self._inline: list[Source] = []
        self._files: list[ListFile] = []
        self._gone: list[Table] = []
        self._shared = self._make_shared(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._swept = 0.0

    @property
    def doors(self) -> Sequence[Admit]:
        return (self._networks.admit,) if self._may_have(NETWORKS) else ()

    @property
    def rules(self) -> Sequence[Rule]:
        settings = self._settings
        found: list[Rule] = []
        if self._may_have(TORRENTS) or settings.torrents.unlisted == "deny":
            found.append(self._torrents)
        if self._may_have(CLIENTS) or settings.clients.unlisted == "deny":
            found.append(self._clients)
        if self._may_have(PASSKEYS) or settings.passkeys.required:
            found.append(self._passkeys)
        return found

    def unwanted(self, info_hash: bytes) -> bool:
        """Whether the peers of a torrent are not to be kept."""
        return self._torrents.refuses(info_hash)

    async def open(self) -> None:
        self._inline = inline_sources(self._settings)
        self._files = await read_files(self._settings, [])
        if self._shared is not None:
            await self._shared.open()
            self._begin(self._shared.look, LOOK_SECONDS)
            self._begin(self._shared.keep, TICK_SECONDS)
        self._put_in_force()
        if self._speaks and (words := self._describe()):
            log.info("lists: %s", words)
        self._begin(self._look, TICK_SECONDS)

    async def prepare(self, settings: Settings) -> Prepared:
        files, inline = await read_files(settings.access, self._files), inline_sources(settings.access)

        def take() -> None:
            self._gone += [file.table for file in self._files if file not in files]
            self._settings, self._inline, self._files = settings.access, inline, files
            self._put_in_force()

        async def give_up() -> None:
            self._gone += [file.table for file in files if file not in self._files]

        return Prepared(take, give_up)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._shared is not None:
            await self._shared.close()

    def _make_shared(self, settings: Settings) -> SharedLists | None:
        where = where_shared(settings)
        if where is None:
            return None
        from udptracker.redis.topologies import make_topology
        from udptracker.redis.url import parse_broker

        return SharedLists(
            make_topology(parse_broker(where.url), where.timeouts, quiet=True),
            self._counters,
            cache=Path(settings.access.cache) if settings.access.cache else None,
            writes=self._speaks,
            changed=self._put_in_force,
        )

    def _sources(self) -> list[Source]:
        return [*self._inline, *self._files, *(self._shared.sources if self._shared is not None else ())]

    def _may_have(self, which: str) -> bool:
        """Whether there is a source of a list, whatever it holds by now: without one, nobody need be asked."""
        return any(source.which == which for source in self._sources())

    def _put_in_force(self) -> None:
        """Have the rules ask the tables as they are now."""
        settings, now = self._settings, int(time.time())
        torrents = self._tables(TORRENTS, Torrents)
        self._torrents.now = self._clients.now = self._passkeys.now = now
        self._torrents.use(
            [table.allowed for table in torrents if table.allowed.count],
            [table.denied for table in torrents if table.denied.count],
            settings.torrents.unlisted == "deny",
        )
        self._clients.use(self._tables(CLIENTS, Clients), settings.clients.unlisted == "deny")
        self._networks.use(self._tables(NETWORKS, Networks))
        self._passkeys.use(self._tables(PASSKEYS, Passkeys), settings.passkeys.required)
        for which in LISTS:
            allowed, denied = map(sum, zip((0, 0), *self._counts(which), strict=True))
            self._counters.access_entries |= {f"{which} {ALLOWED}": allowed, f"{which} {DENIED}": denied}

    def _tables(self, which: str, kind: type[T]) -> list[T]:
        """The tables of a list that hold anything."""
        tables = [source.table for source in self._sources() if source.which == which]
        return [table for table in tables if isinstance(table, kind) and any(table.counts())]

    def _counts(self, which: str) -> Iterator[tuple[int, int]]:
        return (source.table.counts() for source in self._sources() if source.which == which)

    def _describe(self) -> str:
        """What the lists hold, in words; empty if nothing."""
        words = []
        for which in LISTS:
            for verdict, past in ((ALLOWED, "allowed"), (DENIED, "denied")):
                if count := self._counters.access_entries[f"{which} {verdict}"]:
                    words.append(f"{counted(count, which)} {past}")
        return ", ".join(words)

    def _begin(self, look: Callable[[], Awaitable[object]], interval: float) -> None:
        self._tasks.append(asyncio.create_task(self._keep_up(look, interval), name="lists"))

    @staticmethod
    async def _keep_up(look: Callable[[], Awaitable[object]], interval: float) -> None:
        """Look every so many seconds, for ever."""
        while True:
            await asyncio.sleep(interval)
            try:
                await look()
            except Exception:  # whatever it was, lists that no longer change would go unnoticed
                log.exception("keeping lists up to date failed in an unforeseen way, and goes on")

    async def _look(self) -> None:
        files = self._files
        changed = await asyncio.to_thread(lambda: [file for file in files if file.has_changed()]) if files else []
        for file in changed:
            try:
                before = await file.read()
            except AccessError as error:
                self._counters.access_failures[FROM_FILE] += 1
                log.error("a list is left as it was: %s", error)
                continue
            if self._speaks:
                log.info("lists: %s was read again, %d entries", file.path, sum(file.table.counts()))
            self._put_in_force()
            self._gone.append(before)
        while self._gone:
            await let_go(self._gone.pop())
        now = time.time()
        if now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            for source in self._sources():
                for _ in source.table.sweep(int(now) - GRACE):
                    await asyncio.sleep(0)
        self._put_in_force()


async def let_go(table: Table) -> None:
    """Free a table that nobody asks any more, in slices: to free a million entries at once would be felt."""
    for _ in table.clear():
        await asyncio.sleep(0)


class _Inline:
    """The entries of one list in the configuration itself."""

    def __init__(self, which: str, allowed: Sequence[str], denied: Sequence[str]) -> None:
        self.which = which
        self.table = make_table(which)
        for entries, is_denied in ((allowed, False), (denied, True)):
            for text in entries:
                entry, user = split_passkey(text) if which == PASSKEYS else (text, "")
                self.table.put(PARSE[which](entry), is_denied, 0, user)


def inline_sources(settings: AccessSettings) -> list[Source]:
    """The lists in the configuration itself that hold anything."""
    found: list[Source] = [
        _Inline(TORRENTS, settings.torrents.allow, settings.torrents.deny),
        _Inline(CLIENTS, settings.clients.allow, settings.clients.deny),
        _Inline(NETWORKS, settings.networks.allow, settings.networks.deny),
        _Inline(PASSKEYS, [entry.get_secret_value() for entry in settings.passkeys.allow], ()),
    ]
    return [source for source in found if any(source.table.counts())]


async def read_files(settings: AccessSettings, known: Sequence[ListFile]) -> list[ListFile]:
    """The files that are configured, read; of those that are known and have not changed, as they are.

    Raises:
        AccessError: one cannot be read, or has a bad line.
    """
    current = {(file.path, file.which, file.denied): file for file in known if file.is_good and not file.has_changed()}
    files = []
    for which in LISTS:
        part = getattr(settings, which)
        for path, denied in ((part.allow_from, False), (getattr(part, "deny_from", ""), True)):
            if path:
                file = current.get((path, which, denied))
                if file is None:
                    file = ListFile(path, which, denied=denied)
                    await file.read()
                files.append(file)
    return files
