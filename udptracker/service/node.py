"""One process of the tracker: a store, a tracker over it, sockets in front, a reaper behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from udptracker.access.access import Access, make_parts
from udptracker.access.base import Watcher
from udptracker.access.guard import Guard
from udptracker.core.busiest import BusiestSwarms, BusySwarm
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.executor import Executor
from udptracker.core.policy import Policy
from udptracker.core.swarm import FAMILIES, ScrapeOperation, ScrapeResult, StoreUnavailable
from udptracker.core.tracker import Tracker
from udptracker.net.endpoint import TurnTransport, UdpEndpoint
from udptracker.net.sockets import since_boot
from udptracker.observe import process
from udptracker.observe.logs import refusals
from udptracker.service.batcher import Batcher, Direct
from udptracker.service.chores import Chores
from udptracker.service.keys import FIRST_SECONDS, REFRESH_SECONDS, SharedKeys
from udptracker.service.lag import watch_lag
from udptracker.service.lifecycle import CLOSE_SECONDS, DRAIN_SECONDS, SAVE_SECONDS, within
from udptracker.service.mailboxes import Ends
from udptracker.service.reaper import Reaper
from udptracker.service.sharing import Sharing
from udptracker.service.stores import make_store
from udptracker.storage.base import ImmediateStore

if TYPE_CHECKING:
    from udptracker.config import Settings, StoreSettings

_COLLECT: Final = (5_000, 1, 1_000_000_000)
"""Objects more than at the last collection from which the youngest are looked through, every second time those that
survived once as well, and practically never all (gc.set_threshold)."""
_BEAT_SECONDS: Final = 1.0


class Node:
    """Everything one process runs, on the running event loop.

    Args:
        settings: the whole configuration; each part is given its own section.
        keys: the connection id keys, the first of which issues.
        sockets: bound UDP sockets; the node closes them.
        number: of this process, where it is one of several workers.
        ends: of the mailboxes between it and other workers, where each of them has swarms of its own.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Sequence[bytes],
        sockets: Sequence[socket.socket],
        *,
        number: int = 0,
        ends: Ends | None = None,
    ) -> None:
        self.counters = Counters()
        self.counters.has_share = ends is not None
        process.watch(self.counters)
        self._settings = settings
        self._keys = tuple(keys)
        sharers = 1 if ends is None else len(ends.outboxes)
        made = make_store(settings.storage, random.random, self.counters, sharers=sharers)
        self.store, self._use_in_store, self._keeper = made
        self._number, self._sharers = number, sharers
        self._shared_keys = SharedKeys(self.store)
        udp = settings.udp
        self._tracker = Tracker(
            _connection_ids(settings, keys),
            _policy(settings),
            random.random,
            self.counters,
            refusals(settings.log_peers),
        )
        inner: Executor
        self._sharing: Sharing | None = None
        if isinstance(self.store, ImmediateStore):
            inner = direct = Direct(self.store, self._tracker, self.counters)
            if ends is not None:
                inner = self._sharing = Sharing(
                    direct, self.store, self._tracker, self.counters, number, ends, max_pending=udp.max_pending
                )
        else:
            inner = Batcher(self.store, self._tracker, self.counters, max_pending=udp.max_pending)
        self._inner = inner
        self._executor = Guard(inner, self._tracker, self.counters, max_pending=udp.max_pending)
        # One of them is enough to reap a store that they share.
        reaps = number == 0 or ends is not None
        self._reaper = Reaper(self.store, self.counters, lifetime=self._config.peer_lifetime) if reaps else None
        self._busiest = BusiestSwarms(random.random, time.monotonic())
        self._status_swarms = settings.status_swarms
        parts = make_parts(settings, self.counters, speaks=number == 0)
        self.store.shun(parts.lists.unwanted)
        self._access = Access(parts, self._executor, self._tracker, self._watchers(settings))
        self._sockets = sockets
        self._read_pace = udp.read_pace
        self._transports: list[TurnTransport] = []
        self._serving = False
        self._chores = Chores(self.counters)
        self._changing = asyncio.Lock()
        self._prepared: tuple[Settings, tuple[bytes, ...]] | None = None

    async def start(self) -> None:
        """Open the store and the access control, then read from the sockets."""
        await self.store.open()
        async with self._changing:  # other settings may come before the first are in force
            await self._access.open()
        with contextlib.suppress(TimeoutError):  # before the first request, unless the store takes too long
            async with asyncio.timeout(FIRST_SECONDS):
                await self._refresh_keys()
        loop = asyncio.get_running_loop()
        self.counters.gauges["tasks"] = lambda: len(asyncio.all_tasks(loop))
        # A full collection walks every swarm and would hold requests up for a tenth of a second. Peers are in no
        # reference cycle, so only what is young is looked through, when there is enough of it.
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        for sock in self._sockets:
            endpoint = UdpEndpoint(self._tracker, self._executor, self.counters, time.time)
            self._transports.append(TurnTransport(loop, sock, endpoint, self._read_pace))
        self._chores.start(
            "totals", lambda: self._config.prometheus_reporting_interval, self._watch_totals, at_once=True
        )
        self._chores.start("keys", lambda: REFRESH_SECONDS, self._refresh_keys)
        self._chores.start("beat", lambda: _BEAT_SECONDS, self._beat)
        self._chores.start("lag", lambda: 0.0, partial(watch_lag, self.counters), at_once=True)
        if self._reaper is not None:
            self._chores.start("reaper", lambda: self._config.gc_interval, self._reaper.reap)
        self._serving = True
        if self._keeper is not None:
            self._keeper.start(self._number, self._sharers)

    async def stop(self) -> None:
        """Stop reading, finish what was accepted, close, each within a bound of its own."""
        self._serving, began = False, time.monotonic()
        for transport in self._transports:
            transport.stop_reading()
        await within(DRAIN_SECONDS, self._executor.drain(), "the store did not answer what waited for it")
        await self._chores.stop(CLOSE_SECONDS)
        if self._keeper is not None:
            left = began + SAVE_SECONDS - time.monotonic()
            await within(max(left, CLOSE_SECONDS), self._keeper.stop(), "the peers were not written to the snapshot")
        await within(CLOSE_SECONDS, self._access.close(), "the access control did not close")
        await within(CLOSE_SECONDS, self.store.close(), "the store did not close")
        for sock in self._sockets:
            sock.close()
        for transport in self._transports:
            transport.close()
        if self._sharing is not None:
            self._sharing.close()

    async def prepare(self, settings: Settings, keys: Sequence[bytes]) -> None:
        """Get ready for these, without going by any of them.

        Raises:
            AccessError: see `use`.
        """
        async with self._changing:
            await self._prepare(settings, tuple(keys))

    async def _prepare(self, settings: Settings, keys: tuple[bytes, ...]) -> None:
        self._prepared = None
        await self._access.prepare(settings)
        self._prepared = settings, keys

    async def give_up(self) -> None:
        """Let go of what is prepared."""
        async with self._changing:
            self._prepared = None
            await self._access.give_up()

    async def use(self, settings: Settings, keys: Sequence[bytes]) -> bool:
        """Go on with these from now on, also if they were not prepared; of another store, other addresses and so on
        see `reload.NEEDS_A_RESTART`."""
        async with self._changing:
            if self._prepared != (settings, tuple(keys)):
                await self._prepare(settings, tuple(keys))
            self._take(settings, tuple(keys))
        return True

    def _take(self, settings: Settings, keys: tuple[bytes, ...]) -> None:
        """Go on with what is prepared."""
        before, keys_before = self._settings, self._keys
        self._prepared = None
        self._access.watchers = self._watchers(settings)
        self._access.take()
        self._settings, self._keys = settings, keys
        if (keys_before, _of_ids(before)) != (self._keys, _of_ids(settings)):
            self._tracker.connection_ids = _connection_ids(settings, self._all_keys())
        self._tracker.use(_policy(settings))
        self._tracker.tell_refusal = refusals(settings.log_peers)
        self._executor.max_pending = settings.udp.max_pending
        if isinstance(self._inner, Batcher | Sharing):
            self._inner.max_pending = settings.udp.max_pending
        if self._reaper is not None:
            self._reaper.lifetime = self._config.peer_lifetime
        self._use_in_store(self._config)
        self._chores.hurry()
        self._status_swarms = settings.status_swarms

    def _watchers(self, settings: Settings) -> tuple[Watcher, ...]:
        """Who sees every announce that was let through."""
        return (self._busiest.see,) if settings.status_swarms else ()

    @property
    def _config(self) -> StoreSettings:
        return self._settings.storage.config

    async def save(self, path: str) -> list[str]:
        """See `Service`."""
        why_not = "" if self._keeper is None else await self._keeper.write(path)
        return [why_not] if why_not else []

    def save_at_stop(self, path: str) -> None:
        """See `Service`."""
        if self._keeper is not None:
            self._keeper.write_at_stop(path)

    async def turns(self) -> bool:
        """True, once the store has answered or is known not to; never returns while the path to it is stuck."""
        await self.ready()
        return True

    async def alive(self) -> bool:
        return True

    async def ready(self) -> tuple[bool, str]:
        """Whether requests are served and the store takes announces, and a word on it."""
        if not self._serving:
            return False, "it does not serve"
        try:
            await self.store.ping()
        except StoreUnavailable as error:
            return False, f"the store does not answer: {error}"
        return True, "ready"

    async def snapshots(self) -> dict[str, dict[str, Any]]:
        """Every counter of this process, which is by itself."""
        return {"0": self.counters.snapshot()}

    async def busiest(self) -> list[BusySwarm]:
        """The swarms that announced most to this process in the last minute, as many as `status_swarms` says."""
        found = self._busiest.most(self._status_swarms, time.monotonic())
        info_hashes = [info_hash for info_hash, _ in found]
        seeders, leechers = await self._peers_of(info_hashes)
        return [
            BusySwarm(info_hash.hex(), announces, *peers)
            for (info_hash, announces), *peers in zip(found, seeders, leechers, strict=True)
        ]

    async def _peers_of(self, info_hashes: list[bytes]) -> tuple[list[int], list[int]]:
        """Seeders and leechers of swarms, of both families together; zeros where the store does not say."""
        seeders, leechers = [0] * len(info_hashes), [0] * len(info_hashes)
        if not info_hashes:
            return seeders, leechers
        with contextlib.suppress(StoreUnavailable):
            for result in await self.store.execute([ScrapeOperation(family, info_hashes) for family in FAMILIES]):
                if isinstance(result, ScrapeResult):
                    for place, swarm in enumerate(result.rows()):
                        seeders[place] += swarm.seeders
                        leechers[place] += swarm.leechers
        return seeders, leechers

    def _all_keys(self) -> tuple[bytes, ...]:
        """The configured keys; without any, those that nodes share, and that of this process."""
        return self._keys if self._settings.udp.private_key else (*self._shared_keys.shared, *self._keys)

    async def _refresh_keys(self) -> None:
        if not self._settings.udp.private_key and await self._shared_keys.refresh(self._keys[0]):
            self._tracker.connection_ids.replace_keys(self._all_keys())

    async def _beat(self) -> None:
        """Let the sockets notice whether the process stood still, and a new minute begin."""
        self._busiest.advance(time.monotonic())
        for transport in self._transports:
            transport.beat(since_boot())

    async def _watch_totals(self) -> None:
        """Refresh the gauges of what the store holds; while it is away they keep their last values."""
        with contextlib.suppress(StoreUnavailable):
            self.counters.totals.update(await self.store.totals())


def _policy(settings: Settings) -> Policy:
    udp = settings.udp
    return Policy(
        announce_interval=int(settings.announce_interval),
        interval_jitter=int(settings.interval_jitter),
        default_numwant=udp.default_numwant,
        max_numwant=udp.max_numwant,
        max_scrape_infohashes=udp.max_scrape_infohashes,
        allow_ip_spoofing=udp.allow_ip_spoofing,
        ip_spoofing_networks=udp.ip_spoofing_networks,
        return_own_peer_when_alone=udp.return_own_peer_when_alone,
    )


def _of_ids(settings: Settings) -> tuple[float, float]:
    return settings.udp.connection_id_lifetime, settings.udp.max_clock_skew


def _connection_ids(settings: Settings, keys: Sequence[bytes]) -> ConnectionIds:
    return ConnectionIds(keys, *_of_ids(settings))
