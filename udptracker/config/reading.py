"""From a YAML text to settings, with every fault told at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from udptracker.config.environment import FromEnvironment
from udptracker.config.faults import ConfigError, Fault, checked
from udptracker.config.files import value_in
from udptracker.config.reading_hooks import check_brokers, hook_secrets, take_hooks
from udptracker.config.settings import SECRETS, STORES, RedisSettings, Settings
from udptracker.config.values import Part
from udptracker.config.yaml import FILE, MOST_BYTES, read_yaml

CHIHAYA: Final = "chihaya"
ROOTS: Final = ("udptracker", CHIHAYA)
"""Names of the root key: ours and, for a file written for it, chihaya's."""

_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_PLACEHOLDER_KEY: Final = "paste a random string here that will be used to hmac connection IDs"
_LIBTORRENT_EARLIEST: Final = 300.0
_RTORRENT_EARLIEST: Final = 600.0
"""Seconds before which these clients do not announce again unless they want more peers, whatever a tracker says:
`min_announce_interval` of libtorrent's settings, and the clamp in rakshasa/libtorrent's `set_normal_interval`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, what their author should know about them, and by key what said so: the file, a variable or a flag."""

    settings: Settings
    warnings: tuple[str, ...]
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration in a file, with `overrides` (see `from_tree`) and this process's environment.

    Raises:
        ConfigError: with every fault.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return parse(file.read(MOST_BYTES + 1), os.environ, overrides)


def parse(text: str | bytes, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration in a YAML text.

    Raises:
        ConfigError: with every fault.
    """
    document = read_yaml(text)
    if not isinstance(document, dict):
        raise ConfigError([Fault(FILE, "no mapping", f"one root key, {' or '.join(ROOTS)}")])
    if len(document) != 1 or next(iter(document)) not in ROOTS:
        found = ", ".join(map(repr, document)) or "no key"
        raise ConfigError([Fault(FILE, found, f"one root key, {' or '.join(ROOTS)}")])
    ((root, body),) = document.items()
    return from_tree({} if body is None else body, root, environment, overrides)


def from_tree(
    body: Any, root: str, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Loaded:
    """The configuration in what stands below the root key.

    Args:
        root: the root key, for the paths of faults and warnings.
        environment: for `${NAME}`, credentials (`${file:NAME}`), and keys that it overrides (see `environment`).
        overrides: values that stand in place of all others, by their dotted path below the root.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[Fault] = []
    warnings: list[str] = []
    used: set[str] = set()
    secrets = (*SECRETS, *hook_secrets(body))
    tree = _substituted(body, root, environment, secrets, faults, used)
    if not isinstance(tree, dict):
        raise ConfigError([Fault(root, "no mapping", "a mapping")])
    origins = dict.fromkeys(_leaves(tree), "file")
    said = FromEnvironment(environment, used)
    values = {**said.values, **(overrides or {})}
    said.for_store(values.get("storage.name", _store_name(tree)))
    values = {path: value for path, value in values.items() if path in said.values or path in (overrides or {})}
    _override(tree, values)
    origins |= said.sources | dict.fromkeys(overrides or {}, "flag")
    faults += said.faults
    warnings += said.warnings
    if tree.pop("http", None) is not None:
        warnings.append(f"{root}.http: announces over HTTP are not served, only those over UDP")
    take_hooks(tree, root, faults)
    if root == CHIHAYA:
        tree.setdefault("chihaya_metrics", True)
    settings = _settings(tree, root, faults)
    if settings is not None:
        _check_together(settings, root, faults, warnings)
    if faults or settings is None:
        raise ConfigError(said.named(fault, root) for fault in faults)
    return Loaded(settings, tuple(warnings), origins)


def _leaves(tree: Any, above: str = "") -> Iterator[str]:
    """The path of every value that is no mapping."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _store_name(tree: Mapping[str, Any]) -> Any:
    storage = tree.get("storage")
    return storage.get("name", "memory") if isinstance(storage, dict) else "memory"


def _substituted(
    value: Any, path: str, environment: Mapping[str, str], secrets: Sequence[str], faults: list[Fault], used: set[str]
) -> Any:
    """A copy with each `${NAME}` and, at a path in `secrets`, `${file:PATH}` in a string replaced; the names are added
    to `used`."""
    if isinstance(value, dict):
        return {
            key: _substituted(item, f"{path}.{key}", environment, secrets, faults, used) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_substituted(item, f"{path}.{at}", environment, secrets, faults, used) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[2] is not None:
            return _from_file(match[2], path, environment, secrets, faults)
        used.add(match[1])
        if match[1] not in environment:
            faults.append(Fault(path, f"${{{match[1]}}}", "an environment variable that is set"))
        return environment.get(match[1], "")

    return re.sub(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)|file:([^}]*))\}", variable, value)


def _from_file(
    name: str, path: str, environment: Mapping[str, str], secrets: Sequence[str], faults: list[Fault]
) -> str:
    """What is in a file: one of an absolute name, or a credential (systemd.exec(5), CREDENTIALS_DIRECTORY)."""
    _, _, key = path.partition(".")
    if not any(key == secret or key.startswith(f"{secret}.") for secret in secrets):
        # Whatever stands there would be shown, by a fault as well as by `udptracker check`.
        faults.append(Fault(path, "${file:...}", f"a value; only a secret may be in a file: {', '.join(secrets)}"))
        return ""
    credentials = environment.get(_CREDENTIALS, "")
    if not (Path(name).is_absolute() or credentials):
        faults.append(Fault(path, f"${{file:{name}}}", f"an absolute name, or {_CREDENTIALS} to be set"))
        return ""
    try:
        return value_in(Path(credentials, name))
    except ValueError as error:
        faults.append(Fault(path, f"${{file:{name}}}: {error}", "a file with the secret"))
        return ""


def _override(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Put `overrides` into the tree; where they change the store, take out what only the other one knows."""
    storage = tree.get("storage")
    chosen = overrides.get("storage.name")
    if chosen is not None and isinstance(storage, dict) and isinstance(storage.get("config"), dict):
        before, after = _store_of(storage), _store_of({"name": chosen})
        foreign = set(before.model_fields if before else ()) - set(after.model_fields if after else ())
        storage["config"] = {key: value for key, value in storage["config"].items() if key not in foreign}
    for path, value in overrides.items():
        *above, name = path.split(".")
        place = tree
        for key in above:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
            if not isinstance(place, dict):
                break  # validation will say so
        else:
            place[name] = value


def _store_of(storage: Mapping[str, Any]) -> type[Part] | None:
    name = storage.get("name", "memory")
    return STORES.get(name) if isinstance(name, str) else None


def _settings(tree: Mapping[str, Any], root: str, faults: list[Fault]) -> Settings | None:
    """The settings, or None and the faults of them all. A part without a value has its defaults, as in Go."""
    tree = {key: value for key, value in tree.items() if value is not None}
    storage = tree.get("storage")
    if isinstance(storage, dict):
        # Validated by itself: as one of a union its faults would be told for every other one, too.
        storage = dict(storage)
        tree["storage"] = storage
        config = storage.pop("config", None)
        model = _store_of(storage)
        if model is not None:
            config = checked({} if config is None else config, model, f"{root}.storage.config", faults)
            if config is not None:
                storage["config"] = config
    return checked(tree, Settings, root, faults)


def _check_together(settings: Settings, root: str, faults: list[Fault], warnings: list[str]) -> None:
    """What only shows when several keys are seen at once."""
    udp, config = settings.udp, settings.storage.config
    if udp.default_numwant > udp.max_numwant:
        expected = f"at most max_numwant, {udp.max_numwant}"
        faults.append(Fault(f"{root}.udp.default_numwant", str(udp.default_numwant), expected))
    if _PLACEHOLDER_KEY in (key.get_secret_value() for key in udp.private_key):
        warnings.append(f"{root}.udp.private_key: the text of chihaya's example, which everybody knows")
    check_brokers(settings.posthooks, root, isinstance(config, RedisSettings), faults)
    if settings.announce_interval < _RTORRENT_EARLIEST:
        warnings.append(
            f"{root}.announce_interval: shorter than some clients follow: those on libtorrent come back after 5m at "
            "the earliest, and rTorrent after 10m"
        )
    access = settings.access
    torrents, passkeys = access.torrents, access.passkeys
    is_shared = access.shares(settings.storage.name)
    if torrents.unlisted == "deny" and not (torrents.allow or torrents.allow_from or is_shared):
        warnings.append(f"{root}.access.torrents.unlisted: deny, and no torrent is allowed anywhere: none is served")
    if passkeys.required and not (passkeys.allow or passkeys.allow_from or is_shared):
        warnings.append(f"{root}.access.passkeys.required: and no passkey is allowed anywhere: no announce is served")
    longest = settings.announce_interval + settings.interval_jitter
    if config.peer_lifetime <= longest:
        warnings.append(
            f"{root}.storage.config.peer_lifetime: no longer than announce_interval with interval_jitter, so peers "
            "expire before they announce again"
        )
    elif config.peer_lifetime <= _LIBTORRENT_EARLIEST:
        warnings.append(
            f"{root}.storage.config.peer_lifetime: no longer than 5m, before which libtorrent's clients do not "
            "announce again, nor rTorrent before 10m, so these expire whatever announce_interval says"
        )
    elif config.peer_lifetime <= _RTORRENT_EARLIEST:
        warnings.append(
            f"{root}.storage.config.peer_lifetime: no longer than 10m, before which rTorrent does not announce again, "
            "so its peers expire whatever announce_interval says"
        )
