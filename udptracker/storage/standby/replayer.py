"""What a node has heard, written to a store that may know better: in chunks, with pauses, as often as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from udptracker.core.counters import Counters
from udptracker.core.seldom import Seldom
from udptracker.core.swarm import StoreUnavailable
from udptracker.storage.base import Shunned, nothing_shunned
from udptracker.storage.replayable import Pool, ReplayableStore
from udptracker.storage.standby.journal import News, Recent, pool_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK: Final = 100
"""Entries that are planned and written at once: about 2 ms of this process's time."""
_PAUSE: Final = 0.002
"""The most seconds between two chunks: nodes that replay at once do not march in step."""
ROUND_TRIPS: Final = 10
"""The most that `check` and `replay` take, one after the other: a store that is slow answers each in time."""
_POOLS: Final = 500
"""Swarms asked for at once."""
_WITNESSES: Final = 8
"""The most peers asked for of each swarm."""


class Replayer:
    """See the module.

    Args:
        recent: where what has been written is remembered from.
        timeout: seconds an answer may take.
        lifetime: nanoseconds; what was heard longer ago is neither collected nor written.
        steady: this machine's steady clock, nanoseconds.

    Attributes:
        shunned: of which info hashes nothing is collected or written.
    """

    def __init__(
        self,
        primary: ReplayableStore,
        recent: Recent,
        counters: Counters,
        *,
        timeout: float,
        lifetime: int,
        steady: Callable[[], int],
    ) -> None:
        self._primary = primary
        self._recent = recent
        self._counters = counters
        self._timeout = timeout
        self._lifetime = lifetime
        self._steady = steady
        self._seldom = Seldom()
        self.shunned: Shunned = nothing_shunned

    def use(self, *, timeout: float, lifetime: int) -> None:
        """Go on with these from now on."""
        self._timeout = timeout
        self._lifetime = lifetime

    def oldest(self) -> int:
        """When the oldest peers were last heard that are alive now (steady clock)."""
        return self._steady() - self._lifetime

    async def collect(self, since: int) -> News:
        """The newest state of each peer that the store has heard of after `since` (steady clock)."""
        news = News(len(self._recent), counted=True)
        for part in self._recent.since(max(since, self.oldest())):
            for stamp, announces in part:
                for announce in announces:
                    if not self.shunned(announce.info_hash):
                        news.hear(announce, stamp)
            await asyncio.sleep(0)
        return news

    async def write(self, news: News, *, newer: News | None = None, remember: bool = False) -> int:
        """Write what is in `news` and take it out of there; of how many peers it was the newest.

        Nothing is written of a peer of which `newer` knows: that is to be written next. What is to be remembered is, as
        the store may lose it.

        Raises:
            StoreUnavailable: cut off; what is left is still in `news`.
        """
        written = 0
        connections = self._primary.connections
        for chunk in news.chunks(_CHUNK):
            if self._primary.connections != connections:
                raise StoreUnavailable("it was connected to anew")
            oldest, ahead = self.oldest(), self._primary.now() - self._steady()
            alive = [entry for entry in chunk if entry.stamp > oldest and not self.shunned(entry.info_hash)]
            if newer is not None:
                alive = [entry for entry in alive if newer.find(*entry[:3]) is None]
            if alive:
                dated = [entry._replace(stamp=entry.stamp + ahead) for entry in alive]
                outcome = await within(ROUND_TRIPS * self._timeout, self._primary.replay(dated))
                written += outcome.written
                self._counters.replayed += len(dated)
                self._note_broken(outcome.broken)
            news.settle(chunk)
            if remember:
                for entry in alive:
                    self._recent.remember_entry(entry)
            await asyncio.sleep(random.uniform(0, _PAUSE))
        return written

    async def write_missing(self, looked: int) -> int:
        """Write the peers of swarms that the store has lost since it was looked at (steady clock); how many.

        Of such a swarm nobody is there who was heard before that look, even if others have come since: to other nodes,
        or to this one.

        Raises:
            StoreUnavailable: cut off.
        """
        news = await self.collect(self.oldest())
        witnesses: dict[Pool, list[bytes]] = {}
        for chunk in news.chunks(_POOLS):
            for entry in chunk:
                if not entry.stopped:
                    peers = witnesses.setdefault(pool_of(entry), [])
                    if entry.stamp < looked and len(peers) < _WITNESSES:
                        peers.append(entry.peer)
            await asyncio.sleep(0)
        asked = list(witnesses.items())
        missing: set[Pool] = set()
        for at in range(0, len(asked), _POOLS):
            missing.update(await within(self._timeout, self._primary.missing(dict(asked[at : at + _POOLS]))))
            await asyncio.sleep(random.uniform(0, _PAUSE))
        if not missing:
            return 0
        for chunk in news.chunks(_POOLS):
            news.settle([entry for entry in chunk if pool_of(entry) not in missing])
            await asyncio.sleep(0)
        return await self.write(news)

    def _note_broken(self, broken: list[str]) -> None:
        self._counters.replay_broken += len(broken)
        for what in broken:
            if self._seldom.allows(what, self._steady() / 1e9):
                log.warning("a broken value in the store keeps a peer from being written there: %s", what)


async def within(seconds: float, call: Awaitable[T]) -> T:
    """What a call to the store returns.

    Raises:
        StoreUnavailable: it takes longer than this many seconds.
    """
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise StoreUnavailable(f"no answer within {seconds:g} s") from None
