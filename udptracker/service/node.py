"""One process of the tracker: a store, a tracker over it, sockets in front, a reaper behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

from udptracker.config import Settings
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.swarm import StoreUnavailable
from udptracker.core.tracker import Tracker
from udptracker.net.endpoint import DatagramSocket, UdpEndpoint, listen, since_boot
from udptracker.observe.kernel import socket_drops
from udptracker.service.batcher import Batcher, Direct, Executor
from udptracker.service.lag import watch_lag
from udptracker.service.reaper import Reaper
from udptracker.service.stores import make_store
from udptracker.storage.base import ImmediateStore, PeerStore

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 5.0
"""The most that a stopping node waits for the store to answer what was accepted."""
_COLLECT_SECONDS: Final = 0.05
_BEAT_SECONDS: Final = 1.0


class Node:
    """Everything one process runs, on the running event loop.

    Args:
        settings: the whole configuration; each part is given its own section.
        keys: the connection id keys, the first of which issues.
        sockets: bound UDP sockets; the node closes them.
        reaps: whether this node expires stale peers.
    """

    def __init__(
        self, settings: Settings, keys: Sequence[bytes], sockets: Sequence[socket.socket], *, reaps: bool = True
    ) -> None:
        self.counters = Counters()
        self._report_interval = settings.storage.config.prometheus_reporting_interval
        self._inodes = [os.fstat(sock.fileno()).st_ino for sock in sockets]
        self.store: PeerStore = make_store(settings.storage, random.random, self.counters)
        udp = settings.udp
        policy = Policy(
            announce_interval=int(settings.announce_interval),
            interval_jitter=int(settings.interval_jitter),
            default_numwant=udp.default_numwant,
            max_numwant=udp.max_numwant,
            max_scrape_infohashes=udp.max_scrape_infohashes,
            allow_ip_spoofing=udp.allow_ip_spoofing,
            return_own_peer_when_alone=udp.return_own_peer_when_alone,
        )
        ids = ConnectionIds(keys, udp.connection_id_lifetime, udp.max_clock_skew)
        self._tracker = Tracker(ids, policy, random.random, self.counters)
        self._executor: Executor
        if isinstance(self.store, ImmediateStore):
            self._executor = Direct(self.store, self._tracker.respond, self.counters)
        else:
            self._executor = Batcher(self.store, self._tracker.respond, self.counters, max_pending=udp.max_pending)
        config = settings.storage.config
        self._reaper = Reaper(self.store, self.counters, interval=config.gc_interval, lifetime=config.peer_lifetime)
        self._reaps = reaps
        self._sockets = sockets
        self._read_pace = udp.read_pace
        self._transports: list[DatagramSocket] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the store, then read from the sockets."""
        await self.store.open()
        loop = asyncio.get_running_loop()
        # A full collection walks every swarm and would hold requests up for a tenth of a second. Peers are in no
        # reference cycle, so only what is young is looked through, in `_collect_young`.
        gc.freeze()
        gc.disable()
        for sock in self._sockets:
            endpoint = UdpEndpoint(self._tracker, self._executor.submit, self.counters, time.time)
            self._transports.append(listen(loop, sock, endpoint, self._read_pace))
        chores = [self._watch_totals(), self._beat(), _collect_young(), watch_lag(self.counters)]
        chores += [self._reaper.run()] if self._reaps else []
        self._tasks = [loop.create_task(chore) for chore in chores]

    async def stop(self) -> None:
        """Stop reading, finish what was accepted within `DRAIN_SECONDS`, close."""
        for transport in self._transports:
            transport.stop_reading()
        try:
            await asyncio.wait_for(self._executor.drain(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("the store did not answer within %.0f s: what waited for it is dropped", DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await asyncio.wait_for(self.store.close(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("the store did not close within %.0f s", DRAIN_SECONDS)
        for sock in self._sockets:
            sock.close()
        for transport in self._transports:
            transport.close()

    async def ready(self) -> tuple[bool, str]:
        """Whether the store takes announces, and a word on it."""
        try:
            await self.store.ping()
        except StoreUnavailable as error:
            return False, f"the store does not answer: {error}"
        return True, "ready"

    def snapshot(self) -> dict[str, Any]:
        """Every counter of this process, with the datagrams the kernel dropped for its sockets."""
        return {**self.counters.snapshot(), "kernel_drops": socket_drops(self._inodes)}

    async def _beat(self) -> None:
        """Let the sockets notice whether the process stood still."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            for transport in self._transports:
                transport.beat(since_boot())

    async def _watch_totals(self) -> None:
        """Refresh the gauges of what the store holds; while it is away they keep their last values."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                self.counters.totals.update(await self.store.totals())
            await asyncio.sleep(self._report_interval)


async def _collect_young() -> None:
    """Free the cycles that exceptions and tasks leave behind, while they are young and few."""
    while True:
        await asyncio.sleep(_COLLECT_SECONDS)
        gc.collect(1)


async def until_told_to_stop() -> None:
    """Return at the first SIGTERM or SIGINT; from then on the next one ends the process at once."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
