"""What a tracker needs of a server, tried one by one: for an operator who asks before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from hiredis import ReplyError

from udptracker.core.swarm import FAMILIES, Role, StoreUnavailable
from udptracker.redis.segment import Segment, segment
from udptracker.redis.topology import Topology
from udptracker.storage.redis.errors import store_error
from udptracker.storage.redis.layout import group, info_hash_counter, peers_counter, swarm_key

_SCRATCH: Final = b"udptracker_check"
_NOBODY: Final = bytes(20)
"""An info hash; nothing is written to its swarm."""


_TRIED: Final[tuple[tuple[str, ...], ...]] = (
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
"""Every command on a key, with what follows the key."""

_BESIDES: Final = (
    "ASKING",
    "CLIENT|INFO",
    "CLIENT|KILL",
    "CLUSTER|SLOTS",
    "EVAL",
    "INFO",
    "PING",
    "SCAN",
    "SELECT",
    "TIME",
)
"""Every other one, as ACL rules name it."""

_KEYS: Final = ("IPv4*", "IPv6*", "udptracker_*")
"""Patterns of all keys."""


class Lacks(NamedTuple):
    """What a server refuses, in its words. Without `needed` it is not used, what is only `wanted` is done without."""

    needed: list[str]
    wanted: list[str]


async def lacks(topology: Topology) -> Lacks:
    """Try every command and every kind of key. What is written goes away by itself within a second.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    replies = await topology.send(_trials())
    wanted = []
    for command in (("INFO", "server"), ("TIME",), ("CLIENT", "KILL", "ID", "0")):
        try:
            await topology.call_each(*command)
        except ReplyError as error:
            wanted.append(error)
    return Lacks(_refusals(replies), _refusals(wanted))


def acl_rules() -> str:
    """The rules of an ACL user who may do what a tracker does, on a server or a node of a cluster, and nothing else."""
    commands = sorted({command.lower() for command, *_ in _TRIED} | {command.lower() for command in _BESIDES})
    return " ".join([*(f"~{pattern}" for pattern in _KEYS), *(f"+{command}" for command in commands)])


def _refusals(replies: Iterable[object]) -> list[str]:
    """The words of errors that a store is not used with, each once; that a value is of another type is none of them."""
    errors = [store_error(reply) for reply in replies if isinstance(reply, ReplyError)]
    return list(dict.fromkeys(str(error) for error in errors if isinstance(error, StoreUnavailable)))


def _trials() -> list[Segment]:
    trials = [segment(_SCRATCH, name, _SCRATCH, *arguments) for name, *arguments in _TRIED]
    trials.append(segment(_SCRATCH, "EVAL", "return 0", "1", _SCRATCH))
    for family in FAMILIES:
        keys = [group(family), info_hash_counter(family)]
        keys += [key for role in Role for key in (swarm_key(family, role, _NOBODY), peers_counter(family, role))]
        trials += [segment(key, "HDEL", key, "x") for key in keys]
    return trials
