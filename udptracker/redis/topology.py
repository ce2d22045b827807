"""Which server a command belongs to: one server, the master that sentinels name, or the nodes of a cluster.

A topology is given segments: packed commands that touch one key each. It returns the replies in their order,
wherever they came from.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from hiredis import ReplyError, pack_command
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.link import Link, Replies, Timeouts, connect
from udptracker.redis.url import Broker

log = logging.getLogger(__name__)

_FIRST_BACKOFF: Final = 0.05
_LAST_BACKOFF: Final = 2.0

Locate = Callable[[], Awaitable[tuple[str, int]]]


class Segment(NamedTuple):
    """Packed commands that all touch `key`, and the number of their replies."""

    key: bytes
    payload: bytes
    replies: int


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
    async def infos(self) -> list[bytes]:
        """The `INFO server` of every server.

        Raises:
            ReplyError: a server refused it.
            StoreUnavailable: one does not answer, or is not known.
        """

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


def segment(key: bytes, *command: Any) -> Segment:
    """One command as a segment."""
    return Segment(key, pack_command(command), 1)


class Server:
    """A server and the one connection to it, made again whenever it is lost.

    Args:
        locate: where the server is, asked before each attempt.
        connected: called for each connection that was made.
    """

    def __init__(self, broker: Broker, locate: Locate, timeouts: Timeouts, connected: Callable[[], None]) -> None:
        self._broker = broker
        self._locate = locate
        self._timeouts = timeouts
        self._connected = connected
        self._link: Link | None = None
        self._reason = "not connected yet"
        self._task: asyncio.Task[None] | None = None

    @property
    def link(self) -> Link:
        """The connection.

        Raises:
            StoreUnavailable: there is none at the moment.
        """
        if self._link is None:
            raise StoreUnavailable(self._reason)
        return self._link

    def start(self) -> None:
        """Begin connecting."""
        if self._task is None:
            self._task = asyncio.create_task(self._stay_connected())

    async def close(self) -> None:
        """End the connection and do not make another."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._link is not None:
            self._link.abort("closed")
            await self._link.lost

    def drop(self, reason: str) -> None:
        """End the connection; another is made."""
        if self._link is not None:
            self._link.abort(reason)

    async def _stay_connected(self) -> None:
        backoff = _FIRST_BACKOFF
        said = False
        while True:
            try:
                host, port = await self._locate()
                self._link = await connect(self._broker, host, port, self._timeouts)
            except Exception as error:  # whatever it was, a store that is never tried again would be worse
                self._reason = str(error)
                if not isinstance(error, StoreUnavailable):
                    log.exception("connecting to Redis failed in an unforeseen way")
                elif not said:
                    log.warning("Redis does not answer, trying until it does: %s", error)
                said = True
                # Jitter keeps many nodes from knocking at the same instant.
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, _LAST_BACKOFF)
                continue
            if said:
                log.info("Redis answers")
            self._connected()
            backoff, said = _FIRST_BACKOFF, False
            await asyncio.shield(self._link.lost)
            self._link, self._reason = None, "the connection was lost"


class OneServer(Topology):
    """All keys on one server: plain, over a unix socket, or the master that sentinels name."""

    one_server = True

    def __init__(self, broker: Broker, locate: Locate, timeouts: Timeouts) -> None:
        self._server = Server(broker, locate, timeouts, self._count_connection)

    def start(self) -> None:
        self._server.start()

    async def close(self) -> None:
        await self._server.close()

    async def send(self, segments: Sequence[Segment]) -> Replies:
        count = 0
        payload = []
        for _, packed, replies in segments:
            payload.append(packed)
            count += replies
        return await self._server.link.send(b"".join(payload), count)

    async def infos(self) -> list[bytes]:
        return [await self._server.link.call("INFO", "server")]

    def drop_links(self, reason: str) -> None:
        self._server.drop(reason)

    def _count_connection(self) -> None:
        self.connections += 1


def fixed(host: str, port: int) -> Locate:
    """A server that stays where it is."""

    async def locate() -> tuple[str, int]:
        return host, port

    return locate


def master_of(broker: Broker, timeouts: Timeouts) -> Locate:
    """The master that the sentinels name, asked anew before each connection."""
    options: dict[str, Any] = {
        "socket_timeout": timeouts.connect,
        "socket_connect_timeout": timeouts.connect,
        # A sentinel that is away is asked again on the next attempt; the others are asked at once.
        "retry": Retry(NoBackoff(), 0),
    }
    if broker.sentinel_password:
        options |= {"username": broker.sentinel_username or None, "password": broker.sentinel_password}
    sentinel: Any = Sentinel(broker.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]  # as shipped

    async def locate() -> tuple[str, int]:
        try:
            host, port = await sentinel.discover_master(broker.service)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"no sentinel names a master {broker.service!r}: {error}") from error
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return host, int(port)

    return locate
