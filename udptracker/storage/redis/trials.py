"""Every command and every kind of key that we use, tried without an effect: at start, and for an operator who asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hiredis import ReplyError

from udptracker.core.swarm import FAMILIES, Role, StoreUnavailable
from udptracker.redis.segment import Segment, segment
from udptracker.storage.redis.errors import store_error
from udptracker.storage.redis.layout import group, info_hash_counter, peers_counter, swarm_key

TRIED: Final[tuple[tuple[str, ...], ...]] = (
    ("SET", "1", "PX", "1000"),
    ("GET",),
    ("INCRBY", "0"),
    ("PEXPIRE", "1000"),
    ("EXISTS",),
    ("HSET", "x", "1"),
    ("HGET", "x"),
    ("HMGET", "x", "y"),
    ("HGETALL",),
    ("HEXISTS", "x"),
    ("HSETNX", "x", "1"),
    ("HKEYS",),
    ("HINCRBY", "x", "1"),
    ("HLEN",),
    ("HRANDFIELD", "1"),
    ("HSCAN", "0"),
    ("HDEL", "x"),
    ("ZADD", "1", "x"),
    ("ZSCORE", "x"),
    ("ZRANGE", "0", "0"),
    ("ZRANGEBYSCORE", "0", "0"),
    ("ZCARD",),
    ("ZREM", "x"),
    ("DEL",),
)
"""Every command on a key, with what follows the key. That is a text by then: what is for a hash or a sorted set is
refused for that, unless it is for another reason."""

ON_STREAMS: Final[tuple[tuple[str, ...], ...]] = (
    ("XADD", "NOMKSTREAM", "*", "x", "1"),
    ("XRANGE", "-", "-"),
    ("XREVRANGE", "-", "-"),
)
"""The same of those without which lists are not to be had that nodes share."""

_SCRATCH: Final = b"udptracker_check"
"""Goes away within a second, also when it is not deleted."""
_NOBODY: Final = bytes(20)
"""An info hash; nothing is written to its swarm."""


def trials() -> list[Segment]:
    """What to send; `refusals` tells what the replies say."""
    found = [segment(_SCRATCH, name, _SCRATCH, *arguments) for name, *arguments in TRIED]
    found.append(segment(_SCRATCH, "EVAL", "return 0", "1", _SCRATCH))
    for family in FAMILIES:
        keys = [group(family), info_hash_counter(family)]
        keys += [key for role in Role for key in (swarm_key(family, role, _NOBODY), peers_counter(family, role))]
        found += [segment(key, "HDEL", key, "x") for key in keys]
    return found


def stream_trials() -> list[Segment]:
    """What to send for the shared lists; nothing is written."""
    return [segment(_SCRATCH, name, _SCRATCH, *arguments) for name, *arguments in ON_STREAMS]


def refusals(replies: Iterable[object]) -> list[StoreUnavailable]:
    """The errors that a store is not used with; that a value is of another type is none of them."""
    errors = [store_error(reply) for reply in replies if isinstance(reply, ReplyError)]
    return [error for error in errors if isinstance(error, StoreUnavailable)]
