"""The table of stores: the configuration names one, this makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from udptracker.core.counters import Counters
from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore

if TYPE_CHECKING:
    from udptracker.config import MemorySettings, RedisSettings, StorageSettings


class Made(NamedTuple):
    """A store, and what gives it other settings of its kind while it runs."""

    store: PeerStore
    use: Callable[[Any], None]


def make_store(settings: StorageSettings, draw: Callable[[], float], counters: Counters) -> Made:
    """The store that the configuration names.

    Args:
        draw: a source of uniform numbers in [0, 1).
        counters: where a store that has a stand-in counts what it does.
    """
    return _STORES[settings.name](settings.config, draw, counters)


def _memory(config: MemorySettings, draw: Callable[[], float], counters: Counters) -> Made:
    return Made(MemoryStore(draw), lambda _: None)


def _redis(config: RedisSettings, draw: Callable[[], float], counters: Counters) -> Made:
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
    standby = StandbyStore(
        redis,
        lambda clock: MemoryStore(draw, clock),
        counters,
        timeout=config.redis_read_timeout,
        max_peers=config.standby_max_peers,
        replay_window=config.replay_window,
        peer_lifetime=config.peer_lifetime,
        gc_interval=config.gc_interval,
    )

    def use(config: RedisSettings) -> None:
        timeouts.connect = config.redis_connect_timeout
        timeouts.read = config.redis_read_timeout
        timeouts.write = config.redis_write_timeout
        redis.use(sample_ttl=config.sample_ttl, remember_stops=config.peer_lifetime, reap_interval=config.gc_interval)
        standby.use(
            timeout=config.redis_read_timeout,
            replay_window=config.replay_window,
            peer_lifetime=config.peer_lifetime,
            gc_interval=config.gc_interval,
        )

    return Made(standby, use)


_STORES: Final[Mapping[str, Callable[[Any, Callable[[], float], Counters], Made]]] = {
    "memory": _memory,
    "redis": _redis,
}
"""What makes a store of its settings, by `storage.name`."""
