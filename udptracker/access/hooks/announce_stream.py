"""`announce stream`: what was let through goes to a stream of Redis, for accounting, in batches and off the way.

What does not fit the stream any more is cut from its beginning, to a whole node of it (`MAXLEN ~`). A batch of which it
is not known whether it was written is written again: an entry may be there twice, and none is lost to an outage for
which there is room to wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final, final

from hiredis import ReplyError

from udptracker.access.hooks.api import Announce, HookFailure, PostHook, TryAgain
from udptracker.core.seldom import Seldom
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.link import pack
from udptracker.redis.segment import Segment
from udptracker.redis.topology import Topology

log = logging.getLogger(__name__)

_AT_ONCE: Final = 64
"""Entries that are packed before others have their turn."""
_PASSING: Final = (
    "LOADING",
    "READONLY",
    "OOM",
    "MISCONF",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MASTERDOWN",
    "BUSY",
    "NOREPLICAS",
)
"""How refusals begin that will not last."""


class StreamError(HookFailure):
    """The server refuses entries; the text is its own."""


@final
class AnnounceStream(PostHook):
    """See the module.

    Args:
        topology: of connections of its own, not started.
        key: of the stream.
        most: entries that it is cut to.
        addresses: whether an entry has the address and the port of the peer.
    """

    def __init__(self, topology: Topology, key: bytes, most: int, *, addresses: bool) -> None:
        self._topology = topology
        self._key = key
        self._most = most
        self._addresses = addresses
        self._seldom = Seldom()

    async def open(self) -> None:
        self._topology.start()  # a server that is away is waited for

    async def close(self) -> None:
        await self._topology.close()

    async def see(self, announces: Sequence[Announce]) -> None:
        parts = []
        for at, announce in enumerate(announces, 1):
            # The last is enough to cut off what is too much.
            bound = ("MAXLEN", "~", str(self._most)) if at == len(announces) else ()
            parts.append(pack("XADD", self._key, *bound, "*", *self._fields(announce)))
            if not at % _AT_ONCE:
                await asyncio.sleep(0)
        try:
            replies = await self._topology.send([Segment(self._key, b"".join(parts), len(parts))])
        except StoreUnavailable:
            raise TryAgain from None
        errors = [str(reply) for reply in replies if isinstance(reply, ReplyError)]
        if errors and len(errors) == len(announces) and errors[0].startswith(_PASSING):
            if self._seldom.allows(errors[0], time.monotonic()):
                log.warning("the stream of announces is not written for now: %s", errors[0])
            raise TryAgain
        if errors:
            raise StreamError(errors[0])

    def _fields(self, announce: Announce) -> tuple[str | bytes, ...]:
        """Names and values. The names are always the same, which Redis does not keep twice then."""
        fields = (
            "at",
            str(int(announce.at * 1000)),
            "info_hash",
            announce.info_hash.hex(),
            "peer_id",
            announce.peer_id.hex(),
            "event",
            announce.event.name.lower(),
            "uploaded",
            str(announce.uploaded),
            "downloaded",
            str(announce.downloaded),
            "left",
            str(announce.left),
            "user",
            announce.user,
        )
        if not self._addresses:
            return fields
        return (*fields, "address", str(announce.address), "port", str(announce.port))
