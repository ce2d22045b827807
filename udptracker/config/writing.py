"""From settings to YAML for an operator's eyes: nothing secret is in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import durationpy
import yaml
from pydantic import BaseModel

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
    """Each key with what said its value behind it; mappings and the items of lists are no keys with a value."""
    commented, above = [], [""]
    for at, line in enumerate(lines):
        name, colon, value = line.strip().partition(":")
        depth = (len(line) - len(line.lstrip())) // 2
        if line.lstrip().startswith("- ") or not colon:
            commented.append(line)
            continue
        above[depth:] = [name]
        is_list = not value and lines[at + 1].lstrip().startswith("- ")
        origin = origins.get(".".join(above[1:]), "default")
        commented.append(f"{line}  # {printable(origin)}" if value or is_list else line)
    return commented


def _written(part: BaseModel) -> dict[str, Any]:
    """Durations, which are all the floats there are, in Go's words."""
    result: dict[str, Any] = {}
    for name, value in part:
        if isinstance(value, BaseModel):
            result[name] = _written(value)
        elif isinstance(value, float):
            result[name] = durationpy.to_str(timedelta(seconds=value)) if value else "0s"
        else:
            result[name] = list(value) if isinstance(value, tuple) else value
    return result
