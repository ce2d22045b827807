"""Which server a command belongs to: one server, wherever it is, or the nodes of a cluster.

A topology is given segments: packed commands that touch one key each. It returns the replies in their order,
wherever they came from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from hiredis import ReplyError

from udptracker.redis.link import Replies, Timeouts
from udptracker.redis.segment import Segment, segment
from udptracker.redis.server import Locate, Server
from udptracker.redis.url import Broker


class Topology(ABC):
    """Routes segments to servers and keeps the connections to them alive."""

    one_server: ClassVar[bool]
    """Whether all keys are on one server, so that a script may touch any of them."""

    connections = 0
    """How many connections have been made: another number may mean another server process."""

    @abstractmethod
    def start(self) -> None:
        """Begin connecting, and connect again for ever whenever a connection is lost."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of every connection."""

    @abstractmethod
    async def send(self, segments: Sequence[Segment]) -> Replies:
        """All replies, in the order of the segments.

        Raises:
            StoreUnavailable: some server did not answer; any of it may have been applied.
        """

    @abstractmethod
    async def call_each(self, *command: Any) -> list[Any]:
        """The replies of all servers to one command that touches no key.

        Raises:
            ReplyError: a server refused it.
            StoreUnavailable: one does not answer, or is not known.
        """

    @abstractmethod
    def anchors(self, name: bytes) -> list[bytes]:
        """Keys that begin with `name`, one on each server, always the same while the servers are."""

    @abstractmethod
    def servers(self) -> list[Server]:
        """Every server that holds keys.

        Raises:
            StoreUnavailable: one is not known.
        """

    def failures(self) -> list[str]:
        """What the last attempts to reach the servers failed with; empty while one may still succeed."""
        found = [server.failure for server in self.servers()]
        return found if all(found) else []

    async def scan(self, pattern: str, count: int) -> AsyncIterator[list[bytes]]:
        """The names of all keys that match a pattern, a slice at a time, each at least once.

        Raises:
            ReplyError: a server refused it.
            StoreUnavailable: one does not answer, or is not known.
        """
        for server in self.servers():
            cursor = b"0"
            while True:
                cursor, names = await server.link.call("SCAN", cursor, "MATCH", pattern, "COUNT", str(count))
                yield names
                if cursor == b"0":
                    break

    @abstractmethod
    def drop_links(self, reason: str) -> None:
        """End every connection, so that the servers are looked for anew."""

    async def call(self, key: bytes, *command: Any) -> Any:
        """One command that touches `key`, and its reply.

        Raises:
            ReplyError: the server refused it.
            StoreUnavailable: it did not answer.
        """
        reply = (await self.send([segment(key, *command)]))[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply


class OneServer(Topology):
    """All keys on one server: plain, over a unix socket, or the master that sentinels name."""

    one_server = True

    def __init__(self, broker: Broker, locate: Locate, timeouts: Timeouts, *, quiet: bool = False) -> None:
        self._server = Server(broker, locate, timeouts, self._count_connection, quiet=quiet)

    def start(self) -> None:
        self._server.start()

    async def close(self) -> None:
        await self._server.close()

    async def send(self, segments: Sequence[Segment]) -> Replies:
        count = 0
        payload = []
        for part in segments:
            payload.append(part.payload)
            count += part.replies
        return await self._server.link.send(b"".join(payload), count)

    async def call_each(self, *command: Any) -> list[Any]:
        return [await self._server.link.call(*command)]

    def anchors(self, name: bytes) -> list[bytes]:
        return [name]

    def servers(self) -> list[Server]:
        return [self._server]

    def drop_links(self, reason: str) -> None:
        self._server.drop(reason)

    def _count_connection(self) -> None:
        self.connections += 1
