"""Whether a server may throw our keys away when it is full."""

from __future__ import annotations

import logging
from typing import Any, Final

from hiredis import ReplyError

from udptracker.redis.topology import Topology

log = logging.getLogger(__name__)

_SAFE: Final = "noeviction"
_SETTING: Final = "maxmemory-policy"


async def warn_of_eviction(topology: Topology) -> None:
    """Say so if one does, as far as it tells.

    Raises:
        StoreUnavailable: one does not answer.
    """
    for policy in sorted(set(await _policies(topology)) - {_SAFE}):
        log.warning(
            "the store's maxmemory-policy is %s: when it is full, it may throw away peers, or what names all swarms; "
            "set it to %s",
            policy,
            _SAFE,
        )


async def _policies(topology: Topology) -> list[str]:
    """Of each server that tells; CONFIG and INFO may both be refused."""
    for command, read in ((("INFO", "memory"), _of_info), (("CONFIG", "GET", _SETTING), _of_config)):
        try:
            return [policy for reply in await topology.call_each(*command) if (policy := read(reply))]
        except ReplyError:
            continue
    return []


def _of_config(reply: Any) -> str:
    return _text(reply[1]) if isinstance(reply, list) and len(reply) == 2 else ""


def _of_info(reply: Any) -> str:
    lines = (line.partition(":") for line in _text(reply).splitlines())
    return next((value for name, _, value in lines if name == "maxmemory_policy"), "")


def _text(reply: Any) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
