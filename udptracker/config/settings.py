"""What can be configured: names, types, bounds and defaults. Nothing here reads a file.

Validators word what they expect in full, since their text is what an operator is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv6Address
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

import durationpy
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from udptracker.cores import usable_cores
from udptracker.redis.url import parse_broker, redacted

_GO_DURATION: Final = re.compile(r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+|[-+]?0")
_LONGEST: Final = 8760 * 3600.0
_OFF: Final = ("", "off")
_LARGEST_BUFFER: Final = 2**30


def _duration(least: float, words: str, most: float = _LONGEST, most_words: str = "8760h") -> BeforeValidator:
    """Seconds from `least` to `most` (their words in a file) of a Go duration; as in Go, only 0 needs no unit."""

    def seconds(value: Any) -> float:
        text = "0" if value == 0 and not isinstance(value, bool) else value
        # The library alone would also take units that Go does not know, `mm` for months among them.
        if isinstance(text, str) and _GO_DURATION.fullmatch(text):
            try:
                found = float(durationpy.from_str(text).total_seconds())
            except durationpy.DurationError:
                found = -1.0
            if least <= found <= most:
                return found
        example = "14m, 1h30m or 500ms" if most == _LONGEST else "5ms"
        raise ValueError(f"a duration from {words} to {most_words}, such as {example}")

    return BeforeValidator(seconds)


def _whole(least: int, most: int | None = None) -> BeforeValidator:
    """An integer within bounds."""

    def whole(value: Any) -> int:
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and least <= value
            and (most is None or value <= most)
        ):
            return value
        raise ValueError(f"an integer of {least} or more" if most is None else f"an integer from {least} to {most}")

    return BeforeValidator(whole)


def _one_or_more(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


def _keys(value: Any) -> Any:
    """As in chihaya, an empty text is no key."""
    return () if value == "" else _one_or_more(value)


def _endpoint(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `[v6 host]:port`, `:port`.

    Raises:
        ValueError: it is none of them.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]*)):([0-9]{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535 or (match[1] and not _is_v6(match[1])):
        raise ValueError("an address such as 0.0.0.0:6969, [::]:6969 or :6969")
    return match[1] or match[2], int(match[3])


def _is_v6(host: str) -> bool:
    try:
        IPv6Address(host)
    except AddressValueError:
        return False
    return True


def _unmapped(host: str) -> str:
    """An IPv4-mapped IPv6 address as the IPv4 one it is."""
    return str((":" in host and IPv6Address(host).ipv4_mapped) or host)


def _is_any_v6(host: str) -> bool:
    return ":" in host and IPv6Address(host).is_unspecified


def _checked_address(address: str) -> str:
    _endpoint(address)
    return address


def _checked_metrics(address: str) -> str:
    try:
        return address if address in _OFF else _checked_address(address)
    except ValueError:
        raise ValueError("an address such as 127.0.0.1:6880, or off") from None


def _checked_broker(broker: SecretStr) -> SecretStr:
    url = broker.get_secret_value()
    credentials, _, _ = url.partition("://")[2].rpartition("@")
    try:
        if "#" in url:
            raise ValueError
        parse_broker(url)
    except ValueError:
        # A password that is not encoded ends up in other parts of the URL, and so in what is said about them.
        if "#" in url or not re.fullmatch(r"[!-~]*", credentials) or re.search(r"[/?\[\]]", credentials):
            raise ValueError("a URL with %23 for #, %2F for /, %3F for ? and so on in user and password") from None
        raise
    return broker


Interval = Annotated[float, _duration(1.0, "1s")]
Positive = Annotated[float, _duration(0.001, "1ms")]
NotNegative = Annotated[float, _duration(0.0, "0")]
Pace = Annotated[float, _duration(0.0, "0", 0.1, "100ms")]
Address = Annotated[str, AfterValidator(_checked_address)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
Key = Annotated[SecretStr, Field(min_length=1)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(_keys)]
# YAML reads a bare `off` as false.
MetricsAddress = Annotated[
    str, BeforeValidator(lambda value: "off" if value is False else value), AfterValidator(_checked_metrics)
]


class Listen(NamedTuple):
    """An address to listen on. `both_families`: IPv4 as well on this IPv6 one. `named`: asked for by name, not by a
    default or a host left out."""

    host: str
    port: int
    both_families: bool
    named: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Part(BaseModel):
    """Settings of one part: unknown keys and other types than the declared are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


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
    enable_request_timing: bool = False
    max_numwant: Annotated[int, _whole(0)] = 100
    default_numwant: Annotated[int, _whole(0)] = 50
    max_scrape_infohashes: Annotated[int, _whole(1, 120)] = 74
    return_own_peer_when_alone: bool = True
    max_pending: Annotated[int, _whole(1)] = 16_384
    receive_buffer: Annotated[int, _whole(4096, _LARGEST_BUFFER)] = 4_194_304
    read_pace: Pace = 0.001

    def addresses(self) -> list[Listen]:
        """Where to listen. A host left out is every address of both families; `::` takes IPv4, too, unless `ipv6_only`
        or an IPv4 address of that port says otherwise."""
        given = [(_unmapped(host), port) for host, port in map(_endpoint, self.addr)]
        v4_ports = {port for host, port in given if ":" not in host}
        named = "addr" in self.model_fields_set
        found = []
        for host, port in given:
            if not host:
                found += [Listen("0.0.0.0", port, False, False), Listen("::", port, False, False)]
            else:
                both = _is_any_v6(host) and not self.ipv6_only and port not in v4_ports
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
    """Peers in the process itself, which has no use for chihaya's shards."""

    shard_count: Annotated[int, _whole(1)] = 1024

    is_shared = False

    def describe(self) -> str:
        return "memory: gone when this process is"


class RedisSettings(StoreSettings):
    """Peers in Redis or Valkey."""

    redis_broker: Annotated[SecretStr, AfterValidator(_checked_broker)] = SecretStr("redis://myRedis@127.0.0.1:6379/0")
    redis_read_timeout: Positive = 15.0
    redis_write_timeout: Positive = 15.0
    redis_connect_timeout: Positive = 15.0
    standby_max_peers: Annotated[int, _whole(0)] = 200_000
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

SECRETS: Final = ("udp.private_key", *(f"storage.config.{key}" for store in STORES.values() for key in store.secrets))
"""Keys whose values nobody is shown."""


class StorageSettings(Part):
    """Where peers are kept: `storage:` in the file."""

    name: Literal["memory", "redis"] = "memory"
    config: MemorySettings | RedisSettings = MemorySettings()

    def describe(self) -> str:
        """One line for a log, without secrets."""
        return self.config.describe()


class Settings(Part):
    """The whole configuration. Durations are seconds; BEP 15 has no place for `min_announce_interval`."""

    announce_interval: Interval = 1800.0
    min_announce_interval: NotNegative = 900.0
    interval_jitter: NotNegative = 0.0
    metrics_addr: MetricsAddress = "127.0.0.1:6880"
    status_swarms: Annotated[int, _whole(0, 100)] = 10
    chihaya_metrics: bool = False
    workers: Annotated[int, _whole(1, 1024)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    log_peers: bool = False
    udp: UdpSettings = UdpSettings()
    storage: StorageSettings = StorageSettings()

    def metrics_endpoint(self) -> tuple[str, int] | None:
        """(host, port) of the metrics, an empty host for all addresses; None where they are off."""
        return None if self.metrics_addr in _OFF else _endpoint(self.metrics_addr)

    def worker_count(self) -> int:
        """As configured, or one for each core the process may use (see `cores`) where they can share the store."""
        if self.workers is not None:
            return self.workers
        return usable_cores() if self.storage.config.is_shared else 1
