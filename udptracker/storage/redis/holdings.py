"""What Redis holds, for an operator who asks: read in slices beside announces, and nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from hiredis import ReplyError

from udptracker.core.swarm import FAMILIES, PEER_KEY_BYTES, Counts, Role, compact_endpoint
from udptracker.redis.comprehending import comprehending
from udptracker.redis.segment import segment
from udptracker.redis.topology import Topology
from udptracker.storage.redis.layout import downloads_key, group, parse_count, parse_swarm_key, swarm_key

_AT_ONCE: Final = 500
"""Names or peers in a slice: well under a millisecond of the server's time."""


class Peer(NamedTuple):
    """A peer as it stands in the store. `heard` is Unix nanoseconds on the store's clock, 0 if it cannot be read."""

    family: int
    role: Role
    peer_id: bytes
    endpoint: bytes
    heard: int


class Slice(NamedTuple):
    """A part of a walk over all swarms: how many names it has seen of how many, and the swarms among them."""

    seen: int
    names: int
    swarms: list[Counts]


class Holdings:
    """Questions to a store that was started by whoever asks.

    All of them raise `ReplyError` when the server refuses, and `StoreUnavailable` when it does not answer, or with what
    it was not asked.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    async def swarm(self, info_hash: bytes) -> list[Counts]:
        """The counts of one info hash, by family."""
        return [await self._with_downloads(counts) for counts in await self._count([(f, info_hash) for f in FAMILIES])]

    async def peers(self, info_hash: bytes) -> AsyncIterator[Peer]:
        """Every peer of one info hash, at least once."""
        for family in FAMILIES:
            for role in Role:
                async for key, value in self._scanned(swarm_key(family, role, info_hash)):
                    if len(key) == PEER_KEY_BYTES[family]:
                        yield Peer(family, role, key[:20], compact_endpoint(key), parse_count(value))

    async def swarms(self) -> AsyncIterator[Slice]:
        """All swarms that the registry names, in slices; one that has seeders and leechers may come twice."""
        names = sum([await self._size(group(family)) for family in FAMILIES])
        seen = 0
        for family in FAMILIES:
            batch: list[bytes] = []
            async for name, _ in self._scanned(group(family)):
                seen += 1
                batch.append(name)
                if len(batch) == _AT_ONCE:
                    yield Slice(seen, max(names, seen), await self._count(_named(batch)))
                    batch = []
            yield Slice(seen, max(names, seen), await self._count(_named(batch)))

    @comprehending
    async def _count(self, swarms: list[tuple[int, bytes]]) -> list[Counts]:
        keys = [swarm_key(family, role, info_hash) for family, info_hash in swarms for role in Role]
        replies = await self._topology.send([segment(key, "HLEN", key) for key in keys]) if keys else []
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        sizes = zip(replies[::2], replies[1::2], strict=True)
        return [
            Counts(*swarm, int(seeders), int(leechers))
            for swarm, (seeders, leechers) in zip(swarms, sizes, strict=True)
        ]

    @comprehending
    async def _with_downloads(self, counts: Counts) -> Counts:
        key = downloads_key(counts.family, counts.info_hash)
        return counts._replace(downloads=parse_count(await self._call(key, "HGET", key, counts.info_hash)))

    async def _scanned(self, key: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        """Fields and values of a hash, a slice at a time."""
        cursor = b"0"
        while True:
            cursor, fields = await self._slice(key, cursor)
            for field in fields:
                yield field
            if cursor == b"0":
                break

    @comprehending
    async def _slice(self, key: bytes, cursor: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The next cursor, and some fields with their values."""
        following, flat = await self._call(key, "HSCAN", key, cursor, "COUNT", str(_AT_ONCE))
        if not all(isinstance(each, bytes) for each in (following, *flat)):
            raise TypeError("what is no text in HSCAN")
        return following, list(zip(flat[::2], flat[1::2], strict=True))

    @comprehending
    async def _size(self, key: bytes) -> int:
        return int(await self._call(key, "HLEN", key))

    async def _call(self, key: bytes, *command: Any) -> Any:
        return await self._topology.call(key, *command)


def _named(names: list[bytes]) -> list[tuple[int, bytes]]:
    """(family, info hash) of names of swarm hashes, each once, without what is no such name."""
    parsed = (parse_swarm_key(name) for name in names)
    return list(dict.fromkeys((family, info_hash) for family, _, info_hash in filter(None, parsed)))
