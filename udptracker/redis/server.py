"""One server and the one connection to it, made again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from udptracker.core.seldom import Seldom
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.fence import Fence
from udptracker.redis.greeting import connect
from udptracker.redis.link import Link, Timeouts
from udptracker.redis.url import Broker

log = logging.getLogger(__name__)

_FIRST_BACKOFF: Final = 0.05
_LAST_BACKOFF: Final = 2.0
_STEADY_SECONDS: Final = 5.0
"""A connection that lasted shorter does not count as a success: the pauses between attempts grow on."""

_QUIET_SECONDS: Final = 60.0
"""In which the same reason is not said again."""

Locate = Callable[[], Awaitable[tuple[str, int]]]
"""Where a server is at the moment. Raises StoreUnavailable if nobody knows."""


class Server:
    """See the module.

    Args:
        locate: where the server is, asked before each attempt.
        connected: called for each connection that was made.
        quiet: says nothing above the level of debugging, where somebody else tells how this server does.

    Attributes:
        failure: what the last attempt failed with; empty if it did not, and before the first has ended.
    """

    def __init__(
        self,
        broker: Broker,
        locate: Locate,
        timeouts: Timeouts,
        connected: Callable[[], None],
        *,
        quiet: bool = False,
    ) -> None:
        self._broker = broker
        self._locate = locate
        self._timeouts = timeouts
        self._connected = connected
        self._fence = Fence(quiet=quiet)
        self._quiet = quiet
        self._link: Link | None = None
        self._there = asyncio.Event()
        self._reason = "not connected yet"
        self.failure = ""
        self._seldom = Seldom(_QUIET_SECONDS)
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

    async def ready(self) -> Link:
        """The connection, waited for as long as connecting may take.

        Raises:
            StoreUnavailable: there is none by then.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeouts.connect):
                await self._there.wait()
        return self.link

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
        loop = asyncio.get_running_loop()
        backoff = _FIRST_BACKOFF
        silent = False
        while True:
            try:
                self._link = await self._connect()
            except Exception as error:  # whatever it was, a store that is never tried again would be worse
                self._reason = self.failure = str(error)
                new = self._seldom.allows(self._reason, loop.time()) and not self._quiet
                if new and not isinstance(error, StoreUnavailable):
                    log.exception("connecting to Redis failed in an unforeseen way")
                elif new:
                    log.warning("Redis does not answer, trying until it does: %s", error)
                silent = silent or new
            else:
                if silent:
                    log.info("Redis answers")
                silent = False
                self.failure = ""
                made = loop.time()
                self._there.set()
                self._connected()
                await asyncio.shield(self._link.lost)
                self._there.clear()
                self._reason, self._link = self._link.reason, None
                if self._seldom.allows(self._reason, loop.time()) and not self._quiet:
                    log.warning("the connection to Redis ended: %s", self._reason)
                if loop.time() - made >= _STEADY_SECONDS:
                    backoff = _FIRST_BACKOFF
                    continue
            # Jitter keeps many nodes from knocking at the same instant.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, _LAST_BACKOFF)

    async def _connect(self) -> Link:
        """A connection that is alone: nothing of those before it is done after this."""
        host, port = await self._locate()
        link = await connect(self._broker, host, port, self._timeouts)
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._fence.close_behind(link)
        except TimeoutError:
            link.abort("no answer")
            raise StoreUnavailable(f"no answer within {self._timeouts.connect:g} s") from None
        except BaseException:
            link.abort("not used")
            raise
        return link


def fixed(host: str, port: int) -> Locate:
    """A server that stays where it is."""

    async def locate() -> tuple[str, int]:
        return host, port

    return locate
