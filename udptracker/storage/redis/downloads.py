"""Downloads: each counts once for a peer until it has stopped, and is kept for a while after its swarm is empty.

Those of swarms that have lost all their peers are kept for `DOWNLOADS_KEPT_SECONDS`, and of so many swarms.

A sorted set has the info hashes that were left, by the second in which a walk found them so. They come there in two
ways: the walk takes the name of an emptied swarm hash out, and in passing it looks through some of the hashes of
downloads, all of them in turn, for what was emptied unseen.
"""

from __future__ import annotations

from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.swarm import Role, StoreUnavailable
from udptracker.redis.segment import Segment, segment
from udptracker.redis.topology import Topology
from udptracker.storage.redis import scripts
from udptracker.storage.redis.layout import command, counted_key, downloads_key, left_key, swarm_key, sweep_key

DOWNLOADS_KEPT_SECONDS: Final = 7 * 86_400
MOST_DOWNLOADS_KEPT: Final = 100_000
"""Info hashes without peers of one family; beyond it those that were left first are forgotten first."""

_FORGOTTEN_AT_ONCE: Final = 500
_SHARDS: Final = 65_536
_SHARDS_A_WALK: Final = 64
"""With a walk every three minutes all are looked through in two days."""


def count_download(family: int, info_hash: bytes, peer: bytes, stamp: bytes, lifetime: bytes) -> Segment:
    """Count a download of a peer unless one was within `lifetime`, milliseconds in decimal; in any case if empty."""
    key = downloads_key(family, info_hash)
    if not lifetime:
        return Segment(key, command(b"HINCRBY", key, info_hash, b"1"), 1)
    return scripts.count_download(counted_key(family, info_hash, peer), key, info_hash, stamp, lifetime)


class Leftovers:
    """The downloads of one family, at `second` on the store's clock."""

    def __init__(self, topology: Topology, family: int, second: int) -> None:
        self._topology = topology
        self._family = family
        self._second = second
        self._key = left_key(family)

    async def note(self, info_hashes: list[bytes]) -> None:
        """Some swarms have lost the peers of a role.

        Raises:
            StoreUnavailable: cut off.
        """
        counts = await self._ask([self._on_downloads("HEXISTS", info_hash) for info_hash in info_hashes])
        await self._left([info_hash for info_hash, there in zip(info_hashes, counts, strict=True) if there == 1])

    async def sweep(self) -> None:
        """Look through some of the hashes of downloads, the next ones in turn.

        Raises:
            StoreUnavailable: cut off.
        """
        sweep = sweep_key(self._family)
        (end,) = await self._ask([segment(sweep, "INCRBY", sweep, str(_SHARDS_A_WALK))])
        if isinstance(end, ReplyError):  # somebody else's value: begin again
            await self._ask([segment(sweep, "SET", sweep, "0")])
            end = 0
        shards = [(number % _SHARDS).to_bytes(2, "big") for number in range(end - _SHARDS_A_WALK, end)]
        keys = [downloads_key(self._family, shard) for shard in shards]
        found = await self._ask([segment(key, "HKEYS", key) for key in keys])
        fields = [field for reply in found if isinstance(reply, list) for field in reply if len(field) == 20]
        times = await self._ask([segment(self._key, "ZSCORE", self._key, field) for field in fields])
        await self._left([field for field, time in zip(fields, times, strict=True) if time is None])

    async def forget(self) -> None:
        """Forget what was left too long ago, and the first of what is too much.

        Raises:
            StoreUnavailable: cut off.
        """
        (size,) = await self._ask([segment(self._key, "ZCARD", self._key)])
        oldest = str(self._second - DOWNLOADS_KEPT_SECONDS)
        while True:
            excess = max(size - MOST_DOWNLOADS_KEPT, 0) if isinstance(size, int) else 0
            if excess:
                chosen_by: tuple[Any, ...] = ("ZRANGE", self._key, "0", str(min(excess, _FORGOTTEN_AT_ONCE) - 1))
            else:
                chosen_by = ("ZRANGEBYSCORE", self._key, "-inf", oldest, "LIMIT", "0", str(_FORGOTTEN_AT_ONCE))
            (chosen,) = await self._ask([segment(self._key, *chosen_by)])
            if not isinstance(chosen, list) or not chosen:
                return
            alone = await self._without_peers(chosen)
            await self._ask([self._on_downloads("HDEL", info_hash) for info_hash in alone])
            await self._ask([segment(self._key, "ZREM", self._key, info_hash) for info_hash in chosen])
            if excess:
                size -= len(chosen)

    async def _left(self, info_hashes: list[bytes]) -> None:
        alone = await self._without_peers(info_hashes)
        second = str(self._second)
        await self._ask([segment(self._key, "ZADD", self._key, second, info_hash) for info_hash in alone])

    async def _without_peers(self, info_hashes: list[bytes]) -> list[bytes]:
        keys = [swarm_key(self._family, role, info_hash) for info_hash in info_hashes for role in Role]
        sizes = await self._ask([segment(key, "EXISTS", key) for key in keys])
        return [
            info_hash
            for info_hash, seeders, leechers in zip(info_hashes, sizes[::2], sizes[1::2], strict=True)
            if seeders == leechers == 0
        ]

    def _on_downloads(self, name: str, info_hash: bytes) -> Segment:
        key = downloads_key(self._family, info_hash)
        return segment(key, name, key, info_hash)

    async def _ask(self, segments: list[Segment]) -> list[Any]:
        """Replies, errors only where a value is of another type than it should be."""
        replies = await self._topology.send(segments)
        for reply in replies:
            if isinstance(reply, ReplyError) and not str(reply).startswith(("WRONGTYPE", "ERR")):
                raise StoreUnavailable(str(reply))
        return replies
