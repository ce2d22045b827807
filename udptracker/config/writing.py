"""From settings to YAML for an operator's eyes: nothing secret is in it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import durationpy
import yaml
from pydantic import BaseModel

from udptracker.config.settings import RedisSettings, Settings

_MASK = "***"


def dump(settings: Settings) -> str:
    """The effective configuration as a file has it, with `***` for each secret."""
    tree = _written(settings)
    tree["udp"]["private_key"] = [_MASK] * len(settings.udp.private_key)
    config = settings.storage.config
    if isinstance(config, RedisSettings):
        tree["storage"]["config"]["redis_broker"] = redacted(config.redis_broker.get_secret_value())
    return yaml.safe_dump({"udptracker": tree}, sort_keys=False, default_flow_style=False)


def redacted(url: str) -> str:
    """A broker URL without its passwords; one before the host without a user is a password, as chihaya has it."""
    scheme, separator, rest = re.sub(r"(sentinel_password=)[^&]*", rf"\1{_MASK}", url).partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user + colon if colon else ''}{_MASK if at else ''}{at}{host}"


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
