"""The hash of a family that names its swarm hashes, built anew from the swarm hashes that are there.

It is lost when somebody deletes it, or when the server evicts it. That is noticed in two ways: a node probes a name a
second (`registry`), and a walk finds fewer names than the walk before left, although only a walk takes names out.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from hiredis import ReplyError

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.segment import segment
from udptracker.redis.topology import Topology
from udptracker.storage.redis.layout import group, lost_key, names_key, parse_count, parse_swarm_key

log = logging.getLogger(__name__)

_NAMES_AT_ONCE: Final = 1_000


async def size_of_index(topology: Topology, family: int) -> int:
    """How many names there are.

    Raises:
        ReplyError: the key is not a hash.
        StoreUnavailable: the server does not answer.
    """
    return int(await topology.call(group(family), "HLEN", group(family)))


async def is_lost(topology: Topology, family: int, size: int) -> bool:
    """Whether names are missing among so many.

    Raises:
        ReplyError: a key is not what it should be.
        StoreUnavailable: the server does not answer.
    """
    if size < parse_count(await topology.call(names_key(family), "GET", names_key(family))):
        return True
    return await topology.call(lost_key(family), "GET", lost_key(family)) is not None


async def rebuild(
    topology: Topology, family: int, now: Callable[[], int], breathe: Callable[[], Awaitable[None]]
) -> None:
    """Name every swarm hash there is, in slices, with a call of `breathe` after each.

    Args:
        now: nanoseconds on the store's clock.

    Raises:
        ReplyError: a server refuses SCAN.
        StoreUnavailable: cut off.
    """
    key, added = group(family), 0
    async for names in topology.scan(f"IPv{family}_[SL]_*", _NAMES_AT_ONCE):
        stamp = str(now())
        missing = [name for name in names if parse_swarm_key(name) is not None]
        replies = await topology.send([segment(key, "HSETNX", key, name, stamp) for name in missing])
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise StoreUnavailable(str(reply))
            added += reply
        await breathe()
    await topology.call(lost_key(family), "DEL", lost_key(family))
    if added:
        log.warning("the hash %s had lost the names of %d swarm hashes: they are there again", key.decode(), added)
