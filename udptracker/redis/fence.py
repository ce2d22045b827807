"""Commands of a connection that has ended are not done any more once a new one is used.

What its kernel had not sent is thrown away (see `link`). What a proxy or the server's own kernel holds is the server's
to throw away: it is told to end its side, by the name that it gave the connection itself.
"""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple

from hiredis import ReplyError

from udptracker.redis.link import Link, pack

log = logging.getLogger(__name__)

_NAME: Final = re.compile(rb"\bid=(\d+) addr=(\S+)")


class _Name(NamedTuple):
    """A connection as the server lists it. An id alone may be another's once the server was started again."""

    id: bytes
    address: bytes


class Fence:
    """Between the connections to one server, of which there is one after the other."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._former: _Name | None = None
        self._warned = quiet

    async def close_behind(self, link: Link) -> None:
        """End what is left of the connection before this one. Where the server does not permit it, that is said once.

        Raises:
            StoreUnavailable: the connection ended first.
        """
        commands = [pack("CLIENT", "INFO")]
        if self._former is not None:
            commands.append(pack("CLIENT", "KILL", "ID", self._former.id, "ADDR", self._former.address))
        replies = await link.send(b"".join(commands), len(commands))
        for reply in replies:
            if isinstance(reply, ReplyError) and not self._warned:
                self._warned = True
                log.warning(
                    "commands of a connection that was lost may be done late, since Redis refuses to end it: %s", reply
                )
        found = _NAME.search(replies[0]) if isinstance(replies[0], bytes) else None
        self._former = None if found is None else _Name(found[1], found[2])
