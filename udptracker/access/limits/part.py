"""The limits as a part of the access control: their settings, and what they say in the log.

With several workers each judges what it is given. Connects are spread at random, and announces and scrapes by their
info hash where the kernel steers, so each worker grants its share of a rate, and of the bound on peers in all; a burst
is granted by each as a whole, since a few requests need not be spread evenly. A swarm has one worker, and so the bound
in one swarm is exact there. Nodes know nothing of each other's sources.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from udptracker.access.base import Prepared, Rule, SlowRule, Watcher
from udptracker.access.limits.door import Door, Limit
from udptracker.access.limits.offenders import Offenders, shown
from udptracker.access.limits.peers import PeersRule
from udptracker.core.counters import LIMIT_NAMES, MODE_NAMES, Counters
from udptracker.core.networks import NetworkSet
from udptracker.core.reasons import ANNOUNCE_LIMIT, BAD_ID_LIMIT, CONNECT_LIMIT, SCRAPE_LIMIT
from udptracker.core.tracker import Admit

if TYPE_CHECKING:
    from udptracker.config import Settings

log = logging.getLogger(__name__)

_REPORT_SECONDS: Final = 60.0
_WORST: Final = 3
_MINUTE: Final = 60.0
_V6_BYTES: Final = {64: 8, 56: 7, 48: 6}


async def _nothing() -> None:
    """There is nothing to let go of."""


def _place(name: str) -> int:
    """Of a limit that is watched, in `Counters.limited`."""
    return len(MODE_NAMES) * LIMIT_NAMES.index(name)


class Limits:
    """A `Part`. In mode `off` it has neither doors nor rules; what it knows of sources outlives a change of settings.

    Args:
        settings: the whole configuration.
        counters: what is over a limit is counted here.
    """

    slow_rules: Sequence[SlowRule] = ()
    watchers: Sequence[Watcher] = ()

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self._counters = counters
        self._offenders = Offenders()
        self._connects = Limit(_place("connects"), CONNECT_LIMIT, is_proven=False, is_first=True)
        self._announces = Limit(_place("announces"), ANNOUNCE_LIMIT, is_proven=True, is_first=True)
        self._scrapes = Limit(_place("scrapes"), SCRAPE_LIMIT, is_proven=True, is_first=False)
        self._bad_ids = Limit(_place("bad_ids"), BAD_ID_LIMIT, is_proven=False, is_first=False)
        self._door = Door(
            (self._connects, self._announces, self._scrapes, self._bad_ids), counters.limited, self._offenders
        )
        places = _place("peers_in_swarm"), _place("peers")
        self._peers = PeersRule(places, counters.limited, self._offenders, time.monotonic)
        self._said = list(counters.limited)
        self._reporting: asyncio.Task[None] | None = None
        self._use(settings)

    @property
    def doors(self) -> Sequence[Admit]:
        return (self._door.admit,) if self._is_on else ()

    @property
    def rules(self) -> Sequence[Rule]:
        return (self._peers,) if self._is_on and self._bounds_peers else ()

    async def open(self) -> None:
        self._reporting = asyncio.get_running_loop().create_task(self._report())

    async def prepare(self, settings: Settings) -> Prepared:
        return Prepared(partial(self._use, settings), _nothing)

    async def close(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.wait({self._reporting})

    def _use(self, settings: Settings) -> None:
        limits = settings.access.limits
        workers = settings.workers or 1
        self._is_on = limits.mode != "off"
        self._bounds_peers = bool(limits.max_peers_in_swarm or limits.max_peers_in_all)
        self._log_peers = settings.log_peers
        for limit, per_minute, burst in (
            (self._connects, limits.connects_per_minute, limits.connect_burst),
            (self._announces, limits.announces_per_minute, limits.announce_burst),
            (self._scrapes, limits.scrapes_per_minute, limits.scrape_burst),
            (self._bad_ids, limits.bad_ids_per_minute, limits.bad_id_burst),
        ):
            limit.use(_MINUTE * workers / per_minute if per_minute else 0.0, burst)
        enforced = limits.mode == "enforce"
        exempt = NetworkSet(limits.exempt) if limits.exempt else None
        v6_bytes = [_V6_BYTES[bits] for bits in limits.v6_prefixes]
        self._door.use(enforced=enforced, exempt=exempt, v6_bytes=v6_bytes, most=limits.max_addresses)
        self._peers.use(
            enforced=enforced,
            exempt=exempt,
            v6_bytes=max(v6_bytes),
            in_swarm=limits.max_peers_in_swarm,
            in_all=-(-limits.max_peers_in_all // workers),
            lifetime=settings.storage.config.peer_lifetime,
            most=limits.max_tracked_peers,
        )

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            said = self.report()
            if said:
                log.info("%s", said)

    def report(self) -> str:
        """A line on what was over a limit since the last one, with addresses only if `log_peers`; empty if nothing."""
        before, self._said = self._said, list(self._counters.limited)
        gains = [now - then for then, now in zip(before, self._said, strict=True)]
        if not any(gains):
            return ""
        modes = len(MODE_NAMES)
        over = ", ".join(
            f"{sum(gains[modes * place : modes * (place + 1)])} {name.replace('_', ' ')}"
            for place, name in enumerate(LIMIT_NAMES)
            if any(gains[modes * place : modes * (place + 1)])
        )
        sources = len(self._offenders)
        worst = self._offenders.take(_WORST)
        most = ", ".join(f"{shown(source)} {times}" if self._log_peers else str(times) for source, times in worst)
        done = "refused or dropped" if any(gains[1::modes]) else "only counted"
        return f"over the limits in the last minute, and {done}: {over}; by source, of {sources}: {most}"
