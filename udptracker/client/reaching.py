"""The store of a configuration, for a command that asks it something and ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from udptracker.config import RedisSettings
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.link import Timeouts
from udptracker.redis.topologies import make_topology
from udptracker.redis.topology import Topology
from udptracker.redis.url import parse_broker

_RETRY_SECONDS: Final = 0.05


@asynccontextmanager
async def reached(config: RedisSettings) -> AsyncIterator[Topology]:
    """The servers, connected.

    Raises:
        StoreUnavailable: they do not answer within `redis_connect_timeout`.
    """
    timeouts = Timeouts(config.redis_connect_timeout, config.redis_read_timeout, config.redis_write_timeout)
    topology = make_topology(parse_broker(config.redis_broker.get_secret_value()), timeouts)
    topology.start()
    deadline = time.monotonic() + config.redis_connect_timeout
    try:
        while True:
            try:
                for server in topology.servers():
                    await server.ready()
                break
            except StoreUnavailable:  # of a cluster the servers are not known at once
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
        yield topology
    finally:
        await topology.close()
