"""What a tracker needs of a server, tried one by one: for an operator who asks before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from hiredis import ReplyError

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.topology import Topology
from udptracker.storage.redis.trials import ON_STREAMS, TRIED, refusals, stream_trials, trials

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
    replies = await topology.send(trials())
    wanted: list[object] = list(await topology.send(stream_trials()))
    for command in (("INFO", "server"), ("TIME",), ("CLIENT", "KILL", "ID", "0")):
        try:
            await topology.call_each(*command)
        except ReplyError as error:
            wanted.append(error)
    return Lacks(_words(refusals(replies)), _words(refusals(wanted)))


def acl_rules() -> str:
    """The rules of an ACL user who may do what a tracker does, on a server or a node of a cluster, and nothing else."""
    commands = sorted(command.lower() for command in {name for name, *_ in (*TRIED, *ON_STREAMS)} | {*_BESIDES})
    return " ".join([*(f"~{pattern}" for pattern in _KEYS), *(f"+{command}" for command in commands)])


def _words(refused: Iterable[StoreUnavailable]) -> list[str]:
    """Each once."""
    return list(dict.fromkeys(map(str, refused)))
