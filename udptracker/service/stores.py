"""The table of stores: the configuration names one, this makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from udptracker.config import RedisSettings, StorageSettings
from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore

if TYPE_CHECKING:
    from udptracker.core.counters import Counters


def make_store(settings: StorageSettings, draw: Callable[[], float], counters: Counters) -> PeerStore:
    """The store that the configuration names.

    Args:
        draw: a source of uniform numbers in [0, 1).
        counters: where a store that has a stand-in counts what it does.
    """
    if isinstance(settings.config, RedisSettings):
        return _make_redis(settings.config, draw, counters)
    return MemoryStore(draw)


def _make_redis(config: RedisSettings, draw: Callable[[], float], counters: Counters) -> PeerStore:
    # What a node on memory has no use for takes 4 MB there.
    from udptracker.redis.link import Timeouts
    from udptracker.redis.topologies import make_topology
    from udptracker.redis.url import parse_broker
    from udptracker.storage.redis.store import RedisStore
    from udptracker.storage.standby.circuit import StandbyStore

    timeouts = Timeouts(config.redis_connect_timeout, config.redis_read_timeout, config.redis_write_timeout)
    broker = parse_broker(config.redis_broker.get_secret_value())
    redis = RedisStore(
        make_topology(broker, timeouts),
        draw,
        sample_ttl=config.sample_ttl,
        remember_stops=config.peer_lifetime,
        reap_interval=config.gc_interval,
        counters=counters,
    )
    return StandbyStore(
        redis,
        lambda clock: MemoryStore(draw, clock),
        counters,
        timeout=config.redis_read_timeout,
        max_peers=config.standby_max_peers,
        replay_window=config.replay_window,
        peer_lifetime=config.peer_lifetime,
        gc_interval=config.gc_interval,
    )
