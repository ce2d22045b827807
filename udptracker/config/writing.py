"""From settings to YAML for an operator's eyes: nothing secret is in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import durationpy
import yaml
from pydantic import BaseModel, SecretStr

from udptracker.config.hooks import SHARE, Hook, HookOptions
from udptracker.config.settings import Settings
from udptracker.core.text import printable
from udptracker.redis.url import MASK, redacted

_NO_FOLDS = 10**6


def dump(settings: Settings, origins: Mapping[str, str] | None = None) -> str:
    """The effective configuration as a file has it, with `***` for each secret.

    Args:
        origins: what said the value of a key, by its path; it is written behind each, or that it is the default.
    """
    tree = _written(settings)
    tree["udp"]["private_key"] = [MASK] * len(settings.udp.private_key)
    tree["access"]["shared"] = redacted(settings.access.shared.get_secret_value())
    tree["access"]["passkeys"]["allow"] = [MASK] * len(settings.access.passkeys.allow)
    config = settings.storage.config
    for key, shown in config.secrets.items():
        tree["storage"]["config"][key] = shown(getattr(config, key).get_secret_value())
    lines = yaml.safe_dump(
        {"udptracker": tree}, sort_keys=False, default_flow_style=False, width=_NO_FOLDS
    ).splitlines()
    if origins is not None:
        lines = _commented(lines, origins)
    return "\n".join(lines) + "\n"


def _commented(lines: list[str], origins: Mapping[str, str]) -> list[str]:
    """Each key with what said its value behind it; mappings, and what is in lists, are no keys with a value."""
    commented, above = [], [""]
    of_list: int | None = None
    for at, line in enumerate(lines):
        name, colon, value = line.strip().partition(":")
        indent = len(line) - len(line.lstrip())
        if of_list is not None and (indent > of_list or line[indent:].startswith("- ")):
            commented.append(line)
            continue
        above[indent // 2 :] = [name]
        is_list = not value and lines[at + 1].lstrip().startswith("- ")
        of_list = indent if is_list else None
        origin = origins.get(".".join(above[1:]), "default")
        commented.append(f"{line}  # {printable(origin)}" if colon and (value or is_list) else line)
    return commented


def _written(part: BaseModel) -> dict[str, Any]:
    """Durations, which are all the floats there are but shares, in Go's words."""
    result: dict[str, Any] = {}
    for name, value in part:
        if isinstance(value, float) and SHARE not in type(part).model_fields[name].metadata:
            result[name] = durationpy.to_str(timedelta(seconds=value)) if value else "0s"
        else:
            result[name] = _value(value)
    return result


def _value(value: Any) -> Any:
    if isinstance(value, Hook):
        return _hook(value)
    if isinstance(value, BaseModel):
        return _written(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return MASK if isinstance(value, SecretStr) else value


def _hook(hook: Hook) -> dict[str, Any]:
    written = _written(hook)
    options = hook.options
    if not isinstance(options, HookOptions):
        written["options"] = _hidden(options)
        return written
    for key, shown in options.secrets.items():
        secret = getattr(options, key)
        written["options"][key] = None if secret is None else shown(secret.get_secret_value())
    return written


def _hidden(value: Any) -> Any:
    """Options of a hook that is not ours: any text of them may be a secret."""
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(item) for item in value]
    return value if value is None or isinstance(value, int | float) else MASK
