"""What the servers are: which processes, whether they are new enough, and whether they let us do what we have to.

What may be missing is done without, and said once: INFO, which common ACLs and managed services leave out. Then a
server counts as another one with each connection, and whether it is new enough shows by its commands.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.swarm import StoreError, StoreUnavailable
from udptracker.redis.topology import Topology
from udptracker.storage.redis.errors import is_refusal
from udptracker.storage.redis.trials import refusals, trials

log = logging.getLogger(__name__)

_OLDEST: Final = (6, 2)


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
        for error in refusals(await self._topology.send(trials())):
            raise error


def _parse_info(info: Any) -> dict[str, str]:
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else ""
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value for name, _, value in lines}
