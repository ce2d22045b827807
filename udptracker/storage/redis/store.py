"""The `PeerStore` on Redis or Valkey: plain commands, one pipelined write per batch and round."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.counters import Counters
from udptracker.core.seldom import Seldom
from udptracker.core.swarm import FAMILIES, Operation, Result, Role, StoreError, StoreUnavailable, Totals
from udptracker.redis.comprehending import comprehending
from udptracker.redis.link import Replies
from udptracker.redis.segment import Segment, segment
from udptracker.redis.topology import Topology
from udptracker.storage.base import ReapReport, Shunned, nothing_shunned
from udptracker.storage.redis import keys
from udptracker.storage.redis.clock import StoreClock
from udptracker.storage.redis.errors import is_broken_value
from udptracker.storage.redis.eviction import warn_of_eviction
from udptracker.storage.redis.layout import (
    PING,
    info_hash_counter,
    lost_key,
    parse_count,
    peers_counter,
    sum_changes,
    swarm_key,
)
from udptracker.storage.redis.reap import Walk
from udptracker.storage.redis.registry import Registry
from udptracker.storage.redis.replay import Replay
from udptracker.storage.redis.rounds import Batch
from udptracker.storage.redis.samples import Samples
from udptracker.storage.redis.servers import Servers
from udptracker.storage.redis.witness import Witness
from udptracker.storage.replayable import Entry, Identity, Look, Outcome, Pool, ReplayableStore

log = logging.getLogger(__name__)

_SECOND: Final = 1_000_000_000
_LIFETIME_MILLISECONDS: Final = 1_800_000
_LAST_WORD_SECONDS: Final = 1.0
"""For the changes of the counters when the store is closed: a reaper sets right what does not get there."""


class RedisStore(ReplayableStore):
    """See `storage.base` for the contract and `storage.redis` for the parts.

    Args:
        topology: where the servers are; the store starts and closes it.
        draw: a source of uniform numbers in [0, 1).
        sample_ttl: seconds a sample of a large swarm is used, 0 for never.
        remember_stops: seconds a `stopped` is remembered for nodes that replay what they heard, and that a peer's
            download was counted; 0 for not at all. The lifetime of a peer, for as long as which a jump of the
            server's clock is remembered, too.
        reap_interval: seconds until the next walk, by whichever node, after one that was completed.
        counters: where numbers in the store that no response has room for are counted.
    """

    def __init__(
        self,
        topology: Topology,
        draw: Callable[[], float],
        *,
        sample_ttl: float = 1.0,
        remember_stops: float = 0.0,
        reap_interval: float = 0.0,
        counters: Counters | None = None,
    ) -> None:
        self._topology = topology
        self._draw = draw
        self._sample_ttl = sample_ttl
        self._samples = Samples(int(sample_ttl * _SECOND), draw)
        self._registry = Registry()
        self._reap_interval = reap_interval
        self._warned = False
        self._counters = counters or Counters()
        self._stopped_milliseconds = int(remember_stops * 1000)
        self._server_clock = StoreClock(time.time_ns() - time.monotonic_ns())
        self._servers = Servers(topology)
        self._refusals = Seldom()
        self._witness = Witness(topology, self._server_clock, self._stopped_milliseconds or _LIFETIME_MILLISECONDS)
        self._changes: list[tuple[bytes, int]] = []
        self._shunned: Shunned = nothing_shunned

    def use(self, *, sample_ttl: float, remember_stops: float, reap_interval: float) -> None:
        """Go on with these from now on."""
        self._reap_interval = reap_interval
        if sample_ttl != self._sample_ttl:
            self._sample_ttl = sample_ttl
            self._samples = Samples(int(sample_ttl * _SECOND), self._draw)
        self._stopped_milliseconds = int(remember_stops * 1000)
        self._witness.lifetime = self._stopped_milliseconds or _LIFETIME_MILLISECONDS

    def now(self) -> int:
        """Unix nanoseconds as the server has them, carried on by this machine's steady clock."""
        return time.monotonic_ns() + self._server_clock.offset

    @property
    def connections(self) -> int:
        return self._topology.connections

    async def open(self) -> None:
        """Connect, waiting for the server for as long as it takes.

        Raises:
            StoreError: the server is older than 6.2.
        """
        self._topology.start()
        while True:
            try:
                await self.check()
            except StoreUnavailable:
                await asyncio.sleep(0.1)
            else:
                return

    @comprehending
    async def check(self) -> Identity:
        """The run ids of the servers and the generations of their data, after a try of all that is needed of them.

        Raises:
            StoreUnavailable: one does not answer, or refuses something.
            StoreError: one is older than 6.2.
        """
        servers = await self._servers.identify()
        if not self._warned:
            self._warned = True
            await warn_of_eviction(self._topology)
        return Identity(servers, await self._witness.identify())

    @comprehending
    async def look(self) -> Look:
        return Look(*await self._witness.look())

    @comprehending
    async def raise_doubt(self, since: int) -> None:
        await self._witness.raise_doubt(since)

    @comprehending
    async def missing(self, pools: Mapping[Pool, Sequence[bytes]]) -> list[Pool]:
        segments = []
        for (family, info_hash, role), peers in pools.items():
            key = swarm_key(family, role, info_hash)
            segments.append(segment(key, "HMGET", key, *peers) if len(peers) > 1 else segment(key, "EXISTS", key))
        replies = await self._ask(segments)
        return [pool for pool, found in zip(pools, replies, strict=True) if found == 0 or _nobody(found)]

    @comprehending
    async def replay(self, entries: Sequence[Entry]) -> Outcome:
        replay = Replay(entries, self._stopped_milliseconds)
        questions = replay.questions()
        downloads = replay.read(await self._ask(replay.writes(await self._ask(questions))))
        replay.read_downloads(await self._ask(downloads))
        replay.read_repairs(await self._ask(replay.repairs(await self._ask(questions))))
        self._changes += replay.changes
        return Outcome(replay.written, replay.broken)

    async def _ask(self, segments: Sequence[Segment]) -> Replies:
        """All replies, errors among them only where a value in the store is broken."""
        replies = await self._topology.send(segments)
        for reply in replies:
            if isinstance(reply, ReplyError) and not is_broken_value(reply):
                raise StoreUnavailable(str(reply))
        return replies

    async def close(self) -> None:
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._flush_changes()
        await self._topology.close()

    @comprehending
    async def execute(self, batch: Sequence[Operation]) -> list[Result | StoreError]:
        planned = Batch(
            batch,
            self.now(),
            self._draw,
            self._samples,
            self._registry,
            self._stopped_milliseconds,
            self._topology.one_server,
        )
        segments = planned.first_round()
        segments += self._take_changes()
        segments += self._tell_lost()
        replies = await self._topology.send(segments)
        planned.read_first(replies)
        failed = replies.failed
        try:
            while segments := planned.next_round():
                replies = await self._topology.send(segments)
                planned.read_next(replies)
                failed = failed or replies.failed
        finally:
            self._changes += planned.changes
            self._counters.store_misfits += planned.misfits
        if failed:
            self._say_refusals(planned.results)
            self._look_for_another_server(planned.results)
        return planned.results

    def _say_refusals(self, results: Sequence[Result | StoreError]) -> None:
        """The server's words about single operations; those about all of them are the caller's to say."""
        for result in results:
            if type(result) is StoreError and self._refusals.allows(str(result), time.monotonic()):
                log.warning("Redis refused an operation: %s", result)

    def _look_for_another_server(self, results: Sequence[Result | StoreError]) -> None:
        """Raise for the batch if a server refused it as a whole: what did not fail by then may be done again."""
        for result in results:
            if isinstance(result, StoreUnavailable):
                if str(result).startswith("READONLY"):  # a master no more: the one that is must be looked for
                    self._topology.drop_links("the server became a replica")
                raise result

    def shun(self, shunned: Shunned) -> None:
        self._shunned = shunned

    @comprehending
    async def reap(self, cutoff: int) -> ReapReport:
        cutoff -= await self._witness.jumped()
        walk = Walk(
            self._topology,
            cutoff,
            self._flush_changes,
            now=self.now,
            interval=self._reap_interval,
            shunned=self._shunned,
        )
        return await walk.run()

    @comprehending
    async def totals(self) -> dict[int, Totals]:
        await self._flush_changes()
        names = [
            key
            for family in FAMILIES
            for key in (
                info_hash_counter(family),
                peers_counter(family, Role.SEEDER),
                peers_counter(family, Role.LEECHER),
            )
        ]
        replies = await self._ask([segment(key, "GET", key) for key in names])
        numbers = [max(parse_count(reply), 0) for reply in replies]
        return {family: Totals(*numbers[at : at + 3]) for at, family in zip((0, 3), FAMILIES, strict=True)}

    @comprehending
    async def agree_on_keys(self, proposed: bytes) -> list[bytes]:
        return await keys.agree(self._topology, proposed)

    @comprehending
    async def ping(self) -> None:
        """A write, since a server may answer and still refuse to be written to."""
        await self._ask([segment(PING, "SET", PING, "1", "PX", "1000")])

    def _tell_lost(self) -> list[Segment]:
        """Whichever node walks next is to build these families' hashes anew."""
        lost = [lost_key(family) for family in self._registry.lost]
        self._registry.lost.clear()
        return [segment(key, "SET", key, "1") for key in lost]

    def _take_changes(self) -> list[Segment]:
        if not self._changes:
            return []
        changes, self._changes = self._changes, []
        return [Segment(key, packed, 1) for key, packed in sum_changes(changes)]

    async def _flush_changes(self) -> None:
        segments = self._take_changes()
        if segments:
            await self._topology.send(segments)


def _nobody(found: Any) -> bool:
    """Whether a reply is a list of nothing."""
    return isinstance(found, list) and all(each is None for each in found)
