"""What the servers are: which processes, whether they are new enough, and whether they let us do what we have to.

What may be missing is done without, and said once: INFO, which common ACLs and managed services leave out. Then a
server counts as another one with each connection, and whether it is new enough shows by its commands.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.swarm import FAMILIES, Role, StoreError, StoreUnavailable
from udptracker.redis.segment import Segment, segment
from udptracker.redis.topology import Topology
from udptracker.storage.redis.errors import is_refusal, store_error
from udptracker.storage.redis.layout import PING, peers_counter, swarm_key

log = logging.getLogger(__name__)

_OLDEST: Final = (6, 2)
_NOBODY: Final = bytes(20)
"""An info hash; nothing is written to its swarm."""


class Servers:
    """See the module."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._warned = False

    async def identify(self) -> frozenset[str]:
        """The run ids of the server processes, once they have done what we need of them.

        Raises:
            StoreUnavailable: one does not answer, or refuses a command or a key.
            StoreError: one is older than 6.2.
        """
        runs = await self._read_infos()
        await self._try_commands()
        return frozenset(runs)

    async def _read_infos(self) -> list[str]:
        try:
            infos = await self._topology.call_each("INFO", "server")
        except ReplyError as error:
            if not is_refusal(error):
                raise StoreUnavailable(str(error)) from error
            infos = []
            if not self._warned:
                self._warned = True
                log.warning("Redis is used without INFO, so each new connection is taken for a new server: %s", error)
        parsed = [_parse_info(info) for info in infos]
        for info in parsed:
            version = info.get("redis_version", "")
            numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
            if numbers and numbers < _OLDEST:
                raise StoreError(f"the server is Redis {version}: 6.2 or later is needed, for HRANDFIELD")
        unknown = f"connection {self._topology.connections}"
        return [info.get("run_id", unknown) for info in parsed] or [unknown]

    async def _try_commands(self) -> None:
        """Each command and each kind of key once, without an effect.

        Raises:
            StoreUnavailable: with the server's words, if it does not do one of them.
        """
        for reply in await self._topology.send(_trials()):
            if isinstance(reply, ReplyError):
                error = store_error(reply)
                if isinstance(error, StoreUnavailable):
                    raise error


def _trials() -> list[Segment]:
    trials = [
        segment(PING, "SET", PING, "1", "PX", "1000"),
        segment(PING, "INCRBY", PING, "0"),
        segment(PING, "PEXPIRE", PING, "1000"),
        segment(PING, "HSET", PING, "x", "1"),  # WRONGTYPE, unless it is not permitted
        segment(PING, "HINCRBY", PING, "x", "1"),
        segment(PING, "HGETALL", PING),
        segment(PING, "HEXISTS", PING, "x"),
        segment(PING, "DEL", PING),
    ]
    for family in FAMILIES:
        for role in Role:
            swarm, counter = swarm_key(family, role, _NOBODY), peers_counter(family, role)
            trials += (
                segment(swarm, "HLEN", swarm),
                segment(swarm, "HRANDFIELD", swarm, "1"),
                segment(swarm, "HDEL", swarm, "x"),
                segment(swarm, "EVAL", "return 0", "1", swarm),
                segment(counter, "GET", counter),
            )
    return trials


def _parse_info(info: Any) -> dict[str, str]:
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else ""
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value for name, _, value in lines}
