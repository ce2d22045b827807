"""Short ways to settings and to faults, from a tree below the root key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from udptracker.config import (
    ConfigError,
    Fault,
    Loaded,
    RedisSettings,
    Settings,
    from_tree,
    parse,
)


def tree(body: Any, **environment: str) -> Loaded:
    return from_tree(body, "udptracker", environment)


def settings(**body: Any) -> Settings:
    return tree(body).settings


def faults(body: Any, **environment: str) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as caught:
        tree(body, **environment)
    return caught.value.faults


def fault(body: Any, **environment: str) -> Fault:
    (only,) = faults(body, **environment)
    return only


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def leaves(part: BaseModel, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key by its dotted path, with the name of the store it needs."""
    for name, value in part:
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", "redis" if isinstance(part, RedisSettings) else "memory"


KEYS = sorted(
    {*leaves(Settings()), *leaves(RedisSettings(), "storage.config.")} - {("storage.name", "memory")}
)  # the type of a store's name is looked at apart


def text_fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, {})
    return str(caught.value)
