"""The walk that expires peers on Redis, in slices, beside the announces of this node and of others.

It goes through the names in a family's hash with HSCAN, and through each swarm hash with HSCAN, a few at a time, and
pauses after each slice. A stale peer is removed only if its value is at that instant still the one that was seen.
What the walk finds is counted, and the family's counters are set right by it at the end. Nothing is kept between
slices but sums, so it may end anywhere and be run again.

Only one node walks at a time: the holder of a lease that runs out if the holder does not renew it. Once the walk is
done the lease stays until the next one is due, so that nodes do not walk one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.swarm import FAMILIES, PEER_KEY_BYTES, Role, StoreUnavailable
from udptracker.redis.segment import Segment, segment
from udptracker.redis.topology import Topology
from udptracker.storage.base import ReapReport, Shunned, nothing_shunned
from udptracker.storage.redis import scripts
from udptracker.storage.redis.downloads import Leftovers
from udptracker.storage.redis.index import is_lost, rebuild, size_of_index
from udptracker.storage.redis.layout import (
    REAPER_LEASE,
    STAMP_DIGITS,
    group,
    info_hash_counter,
    names_key,
    parse_count,
    parse_swarm_key,
    peers_counter,
)

log = logging.getLogger(__name__)

_NAMES_AT_ONCE: Final = 16
_FIELDS_AT_ONCE: Final = 100
_SECOND: Final = 1_000_000_000
_PAUSE_SECONDS: Final = 0.001
_EVER: Final = 10**STAMP_DIGITS
"""Nanoseconds after all that can be written."""
_LEASE_SECONDS: Final = 30.0
_RENEW_SECONDS: Final = 5.0
_RELEASE_SECONDS: Final = 1.0


class Walk:
    """One run over all families.

    Args:
        cutoff: nanoseconds; peers last heard of then or before are removed.
        flush: writes the store's own changes to the counters, so that they can be compared.
        now: nanoseconds on the store's clock.
        interval: seconds from the start of this walk to that of the next; 0 for whenever somebody wants.
        shunned: of which info hashes every peer is removed.
    """

    def __init__(
        self,
        topology: Topology,
        cutoff: int,
        flush: Callable[[], Awaitable[None]],
        *,
        now: Callable[[], int],
        interval: float,
        shunned: Shunned = nothing_shunned,
    ) -> None:
        self._topology = topology
        self._cutoff = cutoff
        self._flush = flush
        self._now = now
        self._second = now() // _SECOND
        self._interval = interval
        self._shunned = shunned
        self._token = secrets.token_hex(16).encode()
        self._renewed = 0.0
        self._leftovers = {family: Leftovers(topology, family, self._second) for family in FAMILIES}
        self._peers = self._broken = self._swarms = 0

    async def run(self) -> ReapReport:
        """Walk, if no other node does.

        Raises:
            StoreUnavailable: cut off.
        """
        started = time.monotonic()
        lease = str(int(_LEASE_SECONDS * 1000))
        if await self._call(REAPER_LEASE, "SET", REAPER_LEASE, self._token, "NX", "PX", lease) is None:
            return ReapReport(False)
        self._renewed = started
        try:
            for family in FAMILIES:
                await self._walk_family(family)
        except BaseException:
            await self._give_up_lease()
            raise
        elapsed = time.monotonic() - started
        await self._keep_lease(self._interval - elapsed)
        return ReapReport(True, self._peers, self._broken, self._swarms, elapsed)

    async def _keep_lease(self, seconds: float) -> None:
        """Nobody is to walk for so long."""
        milliseconds = int(seconds * 1000)
        if milliseconds > 0:
            await self._topology.send([scripts.renew_lease(REAPER_LEASE, self._token, milliseconds)])
        else:
            await self._give_up_lease()

    async def _give_up_lease(self) -> None:
        """Soon or not at all: a store that stands still must not hold up who was told to stop, and the lease ends."""
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._topology.send([scripts.release_lease(REAPER_LEASE, self._token)])

    async def _walk_family(self, family: int) -> None:
        counters = (
            peers_counter(family, Role.SEEDER),
            peers_counter(family, Role.LEECHER),
            info_hash_counter(family),
        )
        if not await self._prepare_index(family):
            return
        before = await self._read_counters(counters)
        found, removed = [0, 0, 0], [0, 0, 0]
        cursor = b"0"
        while True:
            cursor, flat = await self._call(group(family), "HSCAN", group(family), cursor, "COUNT", str(_NAMES_AT_ONCE))
            names = flat[::2]
            for at in range(0, len(names), _NAMES_AT_ONCE):
                await self._walk_swarms(family, names[at : at + _NAMES_AT_ONCE], found, removed)
                await self._breathe()
            if cursor == b"0":
                break
        await self._set_right(counters, before, found, removed)
        leftovers = self._leftovers[family]
        await leftovers.sweep()
        await leftovers.forget()
        size = await self._call(group(family), "HLEN", group(family))
        await self._call(names_key(family), "SET", names_key(family), str(size))

    async def _prepare_index(self, family: int) -> bool:
        """See that the family's hash has all names; false if there is something else in its place."""
        try:
            size = await size_of_index(self._topology, family)
            if await is_lost(self._topology, family, size):
                await rebuild(self._topology, family, self._now, self._breathe)
        except ReplyError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise StoreUnavailable(str(error)) from error
            log.warning("nothing is reaped of IPv%d: a key of its registry is not what it should be: %s", family, error)
            self._broken += 1
            return False
        return True

    async def _walk_swarms(self, family: int, names: list[bytes], found: list[int], removed: list[int]) -> None:
        """One slice: the peers of some swarm hashes, `found` and `removed` by seeders, leechers, info hashes."""
        roles: dict[bytes, Role] = {}
        cutoffs: dict[bytes, int] = {}
        for name in names:
            parsed = parse_swarm_key(name)
            if parsed is None or parsed[0] != family:
                await self._forget_broken(family, name)
            else:
                roles[name] = parsed[1]
                cutoffs[name] = _EVER if self._shunned(parsed[2]) else self._cutoff
        cursors = dict.fromkeys(roles, b"0")
        while cursors:
            scans = [
                segment(name, "HSCAN", name, cursor, "COUNT", str(_FIELDS_AT_ONCE)) for name, cursor in cursors.items()
            ]
            replies = await self._topology.send(scans)
            stale: list[tuple[bytes, list[bytes]]] = []
            for name, reply in zip(list(cursors), replies, strict=True):
                if isinstance(reply, ReplyError):
                    if not str(reply).startswith("WRONGTYPE"):
                        raise StoreUnavailable(str(reply))
                    await self._forget_broken(family, name)
                    del cursors[name], roles[name]
                    continue
                cursors[name], flat = reply
                entries = self._stale(family, flat, cutoffs[name])
                if entries:
                    stale.append((name, entries))
                if cursors[name] == b"0":
                    del cursors[name]
            if stale:
                dropped = await self._topology.send([scripts.drop_unchanged(*entry) for entry in stale])
                for (name, _), count in zip(stale, dropped, strict=True):
                    removed[roles[name]] += _number(count)
                    self._peers += _number(count)
            if cursors:
                await self._breathe()
        await self._count(family, roles, found, removed)

    def _stale(self, family: int, flat: list[bytes], cutoff: int) -> list[bytes]:
        """Fields and values, in turn, of what is stale or broken in a slice of a swarm hash."""
        entries: list[bytes] = []
        width = PEER_KEY_BYTES[family]
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            broken = len(field) != width or len(value) != STAMP_DIGITS or not value.isdigit()
            if broken or int(value) <= cutoff:
                entries += (field, value)
                self._broken += broken
                self._peers -= broken  # what is removed counts as a peer, which this was not
        return entries

    async def _count(self, family: int, roles: dict[bytes, Role], found: list[int], removed: list[int]) -> None:
        """Count what is left in some swarm hashes, and take the empty ones out of the family's hash."""
        sizes = await self._topology.send([segment(name, "HLEN", name) for name in roles])
        empty: list[bytes] = []
        for (name, role), size in zip(roles.items(), sizes, strict=True):
            if _number(size):
                found[role] += size
                found[2] += role is Role.SEEDER
            else:
                empty.append(name)
        if not empty:
            return
        if self._topology.one_server:
            replies = await self._topology.send([scripts.forget_empty(name, group(family)) for name in empty])
            gone = list(map(_number, replies))
        else:
            gone = await self._forget_apart(family, empty)
        await self._leftovers[family].note([bytes.fromhex(name[7:].decode()) for name in empty])
        for name, count in zip(empty, gone, strict=True):
            self._swarms += count
            if roles[name] is Role.SEEDER:
                removed[2] += count
                found[2] += not count

    async def _forget_apart(self, family: int, empty: list[bytes]) -> list[int]:
        """The same where the family's hash is on another server: take the names out, and put back those of swarms
        that came alive in between. An announce that finds its name gone by then has put it back itself."""
        key = group(family)
        gone = [_number(reply) for reply in await self._topology.send([segment(key, "HDEL", key, n) for n in empty])]
        sizes = await self._topology.send([segment(name, "HLEN", name) for name in empty])
        back = [at for at, size in enumerate(sizes) if gone[at] and _number(size)]
        if back:
            stamp = str(self._now())
            await self._topology.send([segment(key, "HSET", key, empty[at], stamp) for at in back])
            for at in back:
                gone[at] = 0
        return gone

    async def _forget_broken(self, family: int, name: bytes) -> None:
        await self._call(group(family), "HDEL", group(family), name)
        self._broken += 1

    async def _read_counters(self, counters: tuple[bytes, ...]) -> list[int]:
        await self._flush()
        replies = await self._topology.send([segment(key, "GET", key) for key in counters])
        return list(map(parse_count, replies))

    async def _set_right(
        self, counters: tuple[bytes, ...], before: list[int], found: list[int], removed: list[int]
    ) -> None:
        """Subtract what was removed, and correct what announces during the walk cannot explain.

        A counter that cannot be added to, since it is no number, is written anew.
        """
        after = await self._read_counters(counters)
        corrections: dict[int, Segment] = {}
        for at, key in enumerate(counters):
            churn = abs(after[at] - before[at])
            error = found[at] - (after[at] - removed[at])
            change = -removed[at] + (error if abs(error) > churn else 0)
            if change:
                corrections[at] = segment(key, "INCRBY", key, str(change))
        replies = await self._topology.send(list(corrections.values()))
        refused = [at for at, reply in zip(corrections, replies, strict=True) if isinstance(reply, ReplyError)]
        await self._topology.send([segment(counters[at], "SET", counters[at], str(found[at])) for at in refused])

    async def _breathe(self) -> None:
        """Let announces pass, and keep the lease.

        Raises:
            StoreUnavailable: another node holds the lease.
        """
        await asyncio.sleep(_PAUSE_SECONDS)
        now = time.monotonic()
        if now - self._renewed > _RENEW_SECONDS:
            self._renewed = now
            renewal = scripts.renew_lease(REAPER_LEASE, self._token, int(_LEASE_SECONDS * 1000))
            if _number((await self._topology.send([renewal]))[0]) == 0:
                raise StoreUnavailable("lost the lease to reap")

    async def _call(self, key: bytes, *command: Any) -> Any:
        try:
            return await self._topology.call(key, *command)
        except ReplyError as error:
            raise StoreUnavailable(str(error)) from error


def _number(reply: Any) -> int:
    """An integer reply.

    Raises:
        StoreUnavailable: it is an error.
    """
    if isinstance(reply, ReplyError):
        raise StoreUnavailable(str(reply))
    return int(reply)
