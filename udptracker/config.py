"""The configuration: one frozen settings object a part, composed here; what is not known is refused by its path.

A file has one root, `udptracker:` or, so that chihaya's own file works as it is, `chihaya:`. Durations are Go's
(`14m`, `1h30m`, `500ms`) in the file and seconds in the settings. `${NAME}` in a string takes an environment
variable, `$${` stands for `${`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import durationpy
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from udptracker.storage.redis.url import parse_broker

ROOTS: Final = ("udptracker", "chihaya")
_PLACEHOLDER_KEY: Final = "paste a random string here that will be used to hmac connection IDs"
_RESTRICTING_HOOKS: Final = ("jwt", "client approval", "torrent approval")
_HARMLESS_HOOKS: Final = ("interval variation",)
_HIDDEN: Final = "(hidden)"
_SECRET_KEYS: Final = ("private_key", "redis_broker")
_DURATION: Final = "a duration such as 14m, 1h30m or 500ms"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: the dotted path, what was found there, what is expected."""

    path: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}, expected {self.expected}"


class ConfigError(Exception):
    """A configuration that is refused; `faults` holds everything that is wrong with it."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def _seconds(value: Any) -> float:
    """Seconds from a Go duration; as in Go, a number needs its unit, unless it is 0."""
    if isinstance(value, str):
        try:
            return float(durationpy.from_str(value).total_seconds())
        except (durationpy.DurationError, ValueError, OverflowError):
            raise ValueError(_DURATION) from None
    if value == 0 and not isinstance(value, bool):
        return 0.0
    raise ValueError(_DURATION)


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _endpoint(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `[v6 host]:port`.

    Raises:
        ValueError: it is neither.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError("an address such as 0.0.0.0:6969 or [::]:6969")
    return match[1] or match[2], int(match[3])


def _checked_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    if not addresses:
        raise ValueError("at least one address such as 0.0.0.0:6969")
    for address in addresses:
        _endpoint(address)
    return addresses


def _checked_broker(broker: SecretStr) -> SecretStr:
    parse_broker(broker.get_secret_value())
    return broker


M = TypeVar("M", bound="_Part")
Positive = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class UdpSettings(_Part):
    """The tracker's UDP side: `udp:` in the file. Intervals are seconds, sizes bytes."""

    addr: Annotated[
        tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_checked_addresses), Field(strict=False)
    ] = ("0.0.0.0:6969", "[::]:6969")
    private_key: Annotated[tuple[SecretStr, ...], BeforeValidator(_one_or_more), Field(strict=False)] = ()
    connection_id_lifetime: Positive = 120.0
    max_clock_skew: NotNegative = 10.0
    allow_ip_spoofing: bool = False
    enable_request_timing: bool = False
    max_numwant: int = Field(100, ge=0, le=1000)
    default_numwant: int = Field(50, ge=0, le=1000)
    max_scrape_infohashes: int = Field(74, ge=1, le=120)
    return_own_peer_when_alone: bool = True
    max_pending: int = Field(16_384, ge=1)
    receive_buffer: int = Field(4_194_304, ge=4096)

    def endpoints(self) -> list[tuple[str, int]]:
        """(host, port) to listen on; a host left out is every address of both families."""
        found = []
        for host, port in map(_endpoint, self.addr):
            found += [(host, port)] if host else [("0.0.0.0", port), ("::", port)]
        return found


class MemorySettings(_Part):
    """`storage.config` of the memory store. Seconds."""

    gc_interval: Positive = 180.0
    peer_lifetime: Positive = 1800.0
    prometheus_reporting_interval: Positive = 1.0
    shard_count: int = Field(1024, ge=1)


class RedisSettings(_Part):
    """`storage.config` of the Redis store. Seconds; the defaults of chihaya's keys are chihaya's."""

    gc_interval: Positive = 180.0
    peer_lifetime: Positive = 1800.0
    prometheus_reporting_interval: Positive = 1.0
    redis_broker: Annotated[SecretStr, AfterValidator(_checked_broker)] = SecretStr("redis://myRedis@127.0.0.1:6379/0")
    redis_read_timeout: Positive = 15.0
    redis_write_timeout: Positive = 15.0
    redis_connect_timeout: Positive = 15.0
    standby_max_peers: int = Field(200_000, ge=0)
    replay_window: NotNegative = 10.0
    sample_ttl: NotNegative = 1.0


_STORES: Final[dict[str, type[MemorySettings] | type[RedisSettings]]] = {
    "memory": MemorySettings,
    "redis": RedisSettings,
}


class StorageSettings(_Part):
    """Where peers are kept: `storage:` in the file."""

    name: Literal["memory", "redis"] = "memory"
    config: MemorySettings | RedisSettings = MemorySettings()

    def describe(self) -> str:
        """One line for a log, without secrets."""
        if isinstance(self.config, RedisSettings):
            return parse_broker(self.config.redis_broker.get_secret_value()).describe()
        return "memory: gone when this process is"


class Settings(_Part):
    """The whole configuration. Intervals are seconds; BEP 15 has no place for `min_announce_interval`."""

    announce_interval: Positive = 1800.0
    min_announce_interval: Positive = 900.0
    interval_jitter: NotNegative = 0.0
    metrics_addr: str = "127.0.0.1:6880"
    workers: int | None = Field(None, ge=1, le=1024)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    udp: UdpSettings = UdpSettings()
    storage: StorageSettings = StorageSettings()

    def metrics_endpoint(self) -> tuple[str, int] | None:
        """(host, port) of the metrics, None where they are off."""
        if self.metrics_addr in ("", "off"):
            return None
        host, port = _endpoint(self.metrics_addr)
        return host or "0.0.0.0", port

    def worker_count(self) -> int:
        """As configured, or one on memory and on Redis one for each core the process may use."""
        if self.workers is not None:
            return self.workers
        return 1 if self.storage.name == "memory" else len(os.sched_getaffinity(0))


class Loaded(NamedTuple):
    """Settings, and what their author should know about them."""

    settings: Settings
    warnings: tuple[str, ...]


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration in a file, with `overrides` (dotted path below the root -> value) in place of the file's.

    Raises:
        ConfigError: with every fault.
        OSError: the file cannot be read.
    """
    return parse(path.read_bytes(), os.environ, overrides)


def parse(text: str | bytes, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration in a YAML text.

    Raises:
        ConfigError: with every fault.
    """
    try:
        document = yaml.load(text, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, AttributeError) as error:
        raise ConfigError((Fault("(the file)", " ".join(str(error).split()), "YAML"),)) from None
    if not isinstance(document, dict) or len(document) != 1 or next(iter(document)) not in ROOTS:
        found = ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise ConfigError((Fault("(the file)", found or "nothing", f"one root key, {' or '.join(ROOTS)}"),))
    ((root, body),) = document.items()
    return from_tree({} if body is None else body, root, environment, overrides)


def from_tree(
    body: Any, root: str, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Loaded:
    """The configuration in what stands below the root key.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[Fault] = []
    warnings: list[str] = []
    tree = _substituted(body, root, environment, faults)
    if not isinstance(tree, dict):
        raise ConfigError((Fault(root, _shown(root, tree), "a mapping"),))
    tree = dict(tree)
    for path, value in (overrides or {}).items():
        _put(tree, path.split("."), value)
    _take_chihayas_own(tree, root, faults, warnings)
    settings = _validated(tree, root, faults)
    if settings is not None:
        _check_together(settings, root, faults, warnings)
    if faults or settings is None:
        raise ConfigError(tuple(faults))
    return Loaded(settings, tuple(warnings))


def dump(settings: Settings) -> str:
    """The effective configuration as YAML, with secrets replaced by `***`."""
    tree = settings.model_dump()
    tree["udp"]["private_key"] = ["***"] * len(settings.udp.private_key)
    broker = tree["storage"]["config"].get("redis_broker")
    if broker is not None:
        tree["storage"]["config"]["redis_broker"] = redacted(broker.get_secret_value())
    return yaml.safe_dump({ROOTS[0]: _written(tree, Settings)}, sort_keys=False, default_flow_style=False)


def redacted(url: str) -> str:
    """A broker URL without its passwords."""
    url = re.sub(r"(sentinel_password=)[^&]*", r"\1***", url)
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    name, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{name + ':' if colon else ''}{'***' if at else ''}{at}{hosts}{slash}{path}"


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice in one mapping is refused."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _substituted(value: Any, path: str, environment: Mapping[str, str], faults: list[Fault]) -> Any:
    """A copy with each `${NAME}` in a string replaced."""
    if isinstance(value, dict):
        return {key: _substituted(item, f"{path}.{key}", environment, faults) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, f"{path}.{at}", environment, faults) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[1] not in environment:
            faults.append(Fault(path, f"${{{match[1]}}}", "an environment variable that is set"))
        return environment.get(match[1], "")

    return re.sub(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}", variable, value)


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        below = tree.get(name)
        tree[name] = dict(below) if isinstance(below, dict) else {}
        tree = tree[name]
    tree[path[-1]] = value


def _take_chihayas_own(tree: dict[str, Any], root: str, faults: list[Fault], warnings: list[str]) -> None:
    """Take out of the tree what chihaya has and we do not serve: with a warning, or refused if it guards the door."""
    if tree.pop("http", None) is not None:
        warnings.append(f"{root}.http: BitTorrent over HTTP is not served, only UDP")
    for place in ("prehooks", "posthooks"):
        hooks = tree.pop(place, None) or []
        if not isinstance(hooks, list):
            faults.append(Fault(f"{root}.{place}", _shown(place, hooks), "a list of hooks"))
            continue
        for at, hook in enumerate(hooks):
            name = hook.get("name") if isinstance(hook, dict) else None
            path = f"{root}.{place}.{at}"
            if name in _HARMLESS_HOOKS:
                warnings.append(f"{path}: the hook {name!r} is not served; interval_jitter spreads announces instead")
            elif name in _RESTRICTING_HOOKS:
                faults.append(Fault(path, f"the hook {name!r}", "no hook that restricts who may announce: not served"))
            else:
                faults.append(Fault(path, repr(name), f"one of {', '.join(_RESTRICTING_HOOKS + _HARMLESS_HOOKS)}"))


def _validated(tree: dict[str, Any], root: str, faults: list[Fault]) -> Settings | None:
    """The settings, or None and the faults of them all."""
    tree = {key: value for key, value in tree.items() if value is not None}
    storage = tree.get("storage")
    if isinstance(storage, dict) and isinstance(storage.get("name", "memory"), str):
        model = _STORES.get(storage.get("name", "memory"))
        if model is not None:
            config = storage.get("config")
            # Validated by itself: as one arm of a union its faults would be told for every arm.
            part = _part({} if config is None else config, model, f"{root}.storage.config", faults)
            tree["storage"] = {**storage, "config": part if part is not None else MemorySettings()}
    return _part(tree, Settings, root, faults)


def _part(tree: Any, model: type[M], path: str, faults: list[Fault]) -> M | None:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.append(_fault(detail, model, path))
        return None


def _fault(detail: Any, model: type[_Part], path: str) -> Fault:
    """One of pydantic's errors in our words."""
    names = [str(name) for name in detail["loc"] if name not in ("MemorySettings", "RedisSettings")]
    dotted = ".".join((path, *names))
    found = _shown(".".join(names), detail["input"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(model, names[:-1])
        near = difflib.get_close_matches(names[-1], known, 1, 0.5)
        return Fault(dotted, "an unknown key", f"{near[0]!r}, or none" if near else f"one of {', '.join(known)}")
    if kind == "value_error":
        return Fault(dotted, found, str(context["error"]).removeprefix("expected "))
    expected = {"model_type": "a mapping", "tuple_type": "a text or a list of texts"}.get(kind)
    return Fault(dotted, found, expected or detail["msg"].removeprefix("Input should be "))


def _known_keys(model: type[BaseModel], names: list[str]) -> list[str]:
    for name in names:
        field = model.model_fields.get(name)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return list(model.model_fields)


def _check_together(settings: Settings, root: str, faults: list[Fault], warnings: list[str]) -> None:
    """What only shows when several keys are seen at once."""
    udp, config = settings.udp, settings.storage.config
    try:
        settings.metrics_endpoint()
    except ValueError as error:
        faults.append(Fault(f"{root}.metrics_addr", repr(settings.metrics_addr), f"{error}, or off"))
    if settings.workers not in (None, 1) and settings.storage.name == "memory":
        expected = "1 with memory storage, which workers cannot share"
        faults.append(Fault(f"{root}.workers", str(settings.workers), expected))
    if udp.default_numwant > udp.max_numwant:
        expected = f"at most max_numwant, {udp.max_numwant}"
        faults.append(Fault(f"{root}.udp.default_numwant", str(udp.default_numwant), expected))
    if any(not key.get_secret_value() for key in udp.private_key):
        faults.append(Fault(f"{root}.udp.private_key", "an empty text", "a random text, or no key at all"))
    if _PLACEHOLDER_KEY in (key.get_secret_value() for key in udp.private_key):
        warnings.append(f"{root}.udp.private_key: is the text of chihaya's example, which everybody knows")
    if config.peer_lifetime < settings.announce_interval:
        warnings.append(f"{root}.storage.config.peer_lifetime: peers expire before they announce again")


def _shown(path: str, value: Any) -> str:
    """A value for an error message, unless it may be a secret."""
    if any(key in path for key in _SECRET_KEYS):
        return _HIDDEN
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _written(tree: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Settings as a file has them: durations in Go's words."""
    result: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            field = model.model_fields[name].annotation
            below = _STORES[tree["name"]] if name == "config" else field
            assert isinstance(below, type)
            result[name] = _written(value, below)
        elif isinstance(value, float):
            result[name] = durationpy.to_str(timedelta(seconds=value))
        else:
            result[name] = list(value) if isinstance(value, tuple) else value
    return result
