"""What can be configured: names, types, bounds and defaults. Nothing here reads a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Literal, NamedTuple

from pydantic import AfterValidator, SecretStr

from udptracker.config.access import AccessSettings, Networks
from udptracker.config.hooks import Hook
from udptracker.config.values import (
    OFF,
    Addresses,
    FilePath,
    Interval,
    Keys,
    MetricsAddress,
    NotNegative,
    Pace,
    Part,
    Positive,
    Seldom,
    checked_broker,
    endpoint,
    is_any_v6,
    unmapped,
    whole,
)
from udptracker.cores import usable_cores
from udptracker.redis.url import parse_broker, redacted

_LARGEST_BUFFER: Final = 2**30


class Listen(NamedTuple):
    """An address to listen on. `both_families`: IPv4 as well on this IPv6 one. `named`: asked for by name, not by a
    default or a host left out."""

    host: str
    port: int
    both_families: bool
    named: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UdpSettings(Part):
    """The tracker's UDP side: `udp:` in the file. Durations are seconds, sizes bytes.

    More than 120 rows of a scrape would not fit a datagram of 1452 bytes (see `wire`).
    """

    addr: Addresses = ("0.0.0.0:6969", "[::]:6969")
    ipv6_only: bool = False
    private_key: Keys = ()
    connection_id_lifetime: Interval = 120.0
    max_clock_skew: NotNegative = 10.0
    allow_ip_spoofing: bool = False
    ip_spoofing_networks: Networks = ()
    enable_request_timing: bool = False
    max_numwant: Annotated[int, whole(0)] = 100
    default_numwant: Annotated[int, whole(0)] = 50
    max_scrape_infohashes: Annotated[int, whole(1, 120)] = 74
    return_own_peer_when_alone: bool = True
    max_pending: Annotated[int, whole(1)] = 16_384
    receive_buffer: Annotated[int, whole(4096, _LARGEST_BUFFER)] = 4_194_304
    read_pace: Pace = 0.001

    def addresses(self) -> list[Listen]:
        """Where to listen. A host left out is every address of both families; `::` takes IPv4, too, unless `ipv6_only`
        or an IPv4 address of that port says otherwise."""
        given = [(unmapped(host), port) for host, port in map(endpoint, self.addr)]
        v4_ports = {port for host, port in given if ":" not in host}
        named = "addr" in self.model_fields_set
        found = []
        for host, port in given:
            if not host:
                found += [Listen("0.0.0.0", port, False, False), Listen("::", port, False, False)]
            else:
                both = is_any_v6(host) and not self.ipv6_only and port not in v4_ports
                found.append(Listen(host, port, both, named))
        return found


class StoreSettings(Part):
    """`storage.config` of any store. Durations are seconds; the defaults of chihaya's keys are chihaya's."""

    gc_interval: Positive = 180.0
    peer_lifetime: Positive = 2100.0
    prometheus_reporting_interval: Positive = 1.0

    is_shared: ClassVar[bool]
    """Whether processes may use it together."""
    secrets: ClassVar[Mapping[str, Callable[[str], str]]] = {}
    """Keys that hold a secret, and what makes a value of each fit to be seen."""

    def describe(self) -> str:
        """One line for a log, without secrets."""
        raise NotImplementedError


class MemorySettings(StoreSettings):
    """Peers in the process itself, which has no use for chihaya's shards. A bound is for all workers together, 0 is
    none."""

    shard_count: Annotated[int, whole(1)] = 1024
    max_peers: Annotated[int, whole(0)] = 10_000_000
    max_swarms: Annotated[int, whole(0)] = 2_000_000
    snapshot: FilePath = ""
    snapshot_interval: Seldom = 0.0

    is_shared = False

    def describe(self) -> str:
        kept = f"kept in {self.snapshot} over a restart" if self.snapshot else "gone when this process is"
        return f"memory: {kept}"


class RedisSettings(StoreSettings):
    """Peers in Redis or Valkey."""

    redis_broker: Annotated[SecretStr, AfterValidator(checked_broker)] = SecretStr("redis://myRedis@127.0.0.1:6379/0")
    redis_read_timeout: Positive = 15.0
    redis_write_timeout: Positive = 15.0
    redis_connect_timeout: Positive = 15.0
    standby_max_peers: Annotated[int, whole(0)] = 200_000
    replay_window: NotNegative = 10.0
    sample_ttl: NotNegative = 1.0

    is_shared = True
    secrets = MappingProxyType({"redis_broker": redacted})

    def describe(self) -> str:
        return parse_broker(self.redis_broker.get_secret_value()).describe()


STORES: Final[Mapping[str, type[StoreSettings]]] = {
    "memory": MemorySettings,
    "redis": RedisSettings,
}
"""What `storage.config` is, by `storage.name`, and what there is to know of such a store; `service.stores` makes it."""

SECRETS: Final = (
    "udp.private_key",
    "access.shared",
    "access.passkeys.allow",
    *(f"storage.config.{key}" for store in STORES.values() for key in store.secrets),
)
"""Keys whose values nobody is shown."""


class StorageSettings(Part):
    """Where peers are kept: `storage:` in the file."""

    name: Literal["memory", "redis"] = "memory"
    config: MemorySettings | RedisSettings = MemorySettings()

    def snapshot(self) -> tuple[str, float]:
        """Where the peers are kept over a restart, empty for nowhere, and every how many seconds, 0 for at the stop
        alone."""
        if isinstance(self.config, MemorySettings):
            return self.config.snapshot, self.config.snapshot_interval
        return "", 0.0

    def describe(self) -> str:
        """One line for a log, without secrets."""
        return self.config.describe()


class Settings(Part):
    """The whole configuration. Durations are seconds; BEP 15 has no place for `min_announce_interval`."""

    announce_interval: Interval = 1800.0
    min_announce_interval: NotNegative = 900.0
    interval_jitter: NotNegative = 0.0
    metrics_addr: MetricsAddress = "127.0.0.1:6880"
    status_swarms: Annotated[int, whole(0, 100)] = 10
    chihaya_metrics: bool = False
    workers: Annotated[int, whole(1, 1024)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    log_peers: bool = False
    udp: UdpSettings = UdpSettings()
    storage: StorageSettings = StorageSettings()
    access: AccessSettings = AccessSettings()
    prehooks: tuple[Hook, ...] = ()
    posthooks: tuple[Hook, ...] = ()

    def metrics_endpoint(self) -> tuple[str, int] | None:
        """(host, port) of the metrics, an empty host for all addresses; None where they are off."""
        return None if self.metrics_addr in OFF else endpoint(self.metrics_addr)

    def worker_count(self) -> int:
        """As configured, or one for each core the process may use (see `cores`) where they can share the store."""
        if self.workers is not None:
            return self.workers
        return usable_cores() if self.storage.config.is_shared else 1
