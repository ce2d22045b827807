"""The store of a configuration, for a command that asks it something and ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Final

from udptracker.config import RedisSettings
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.link import Timeouts
from udptracker.redis.topologies import make_topology
from udptracker.redis.topology import Topology
from udptracker.redis.url import parse_broker

_LOOK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 3.0
"""For a server that says nothing. Whoever has typed a command would rather be told."""


@asynccontextmanager
async def reached(config: RedisSettings) -> AsyncIterator[Topology]:
    """The servers of the store, connected.

    Raises:
        StoreUnavailable: they cannot be reached, or refuse us; or they do not answer within `redis_connect_timeout`,
            and in any case within three seconds.
    """
    timeouts = Timeouts(config.redis_connect_timeout, config.redis_read_timeout, config.redis_write_timeout)
    async with connected(config.redis_broker.get_secret_value(), timeouts) as topology:
        yield topology


@asynccontextmanager
async def connected(url: str, given: Timeouts) -> AsyncIterator[Topology]:
    """The servers of a Redis URL, connected.

    Raises:
        StoreUnavailable: as `reached` says, by `given.connect`.
    """
    patience = min(given.connect, _PATIENCE_SECONDS)
    topology = make_topology(parse_broker(url), replace(given, connect=patience))
    with _without_attempts():
        topology.start()
        try:
            await _connected(topology, time.monotonic() + patience)
            yield topology
        finally:
            await topology.close()


async def _connected(topology: Topology, deadline: float) -> None:
    while True:
        try:
            if all(server.link for server in topology.servers()):
                return
        except StoreUnavailable:  # of a cluster the servers are not known at once
            if failures := topology.failures():
                raise StoreUnavailable("; ".join(dict.fromkeys(failures))) from None
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_LOOK_SECONDS)


@contextmanager
def _without_attempts() -> Iterator[None]:
    """Keep to ourselves that a connection is tried again: the command does not wait for that."""
    log = logging.getLogger("udptracker.redis")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
