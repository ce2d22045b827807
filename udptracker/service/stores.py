"""The table of stores: the configuration names one, this makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from udptracker.core.counters import Counters
from udptracker.service.keeper import Keeper
from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore

if TYPE_CHECKING:
    from udptracker.config import MemorySettings, RedisSettings, StorageSettings


class Made(NamedTuple):
    """A store, what gives it other settings of its kind while it runs, and what keeps it over a restart, if it does not
    do so itself."""

    store: PeerStore
    use: Callable[[Any], None]
    keeper: Keeper | None = None


def make_store(settings: StorageSettings, draw: Callable[[], float], counters: Counters, *, sharers: int = 1) -> Made:
    """The store that the configuration names.

    Args:
        draw: a source of uniform numbers in [0, 1).
        counters: where a store counts what it did not keep, and one with a stand-in what that does.
        sharers: how many processes, this one included, each have a part of the swarms.
    """
    return _STORES[settings.name](settings.config, draw, counters, sharers)


def _memory(config: MemorySettings, draw: Callable[[], float], counters: Counters, sharers: int) -> Made:
    store = MemoryStore(draw, counters=counters)

    def use(config: MemorySettings) -> None:
        # Rounded up: a bound that is set never becomes 0, which is none.
        store.use(max_peers=-(-config.max_peers // sharers), max_swarms=-(-config.max_swarms // sharers))

    use(config)
    return Made(store, use, Keeper(store, counters, config.snapshot, config.peer_lifetime))


def _redis(config: RedisSettings, draw: Callable[[], float], counters: Counters, sharers: int) -> Made:
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


_STORES: Final[Mapping[str, Callable[[Any, Callable[[], float], Counters, int], Made]]] = {
    "memory": _memory,
    "redis": _redis,
}
"""What makes a store of its settings, by `storage.name`."""
