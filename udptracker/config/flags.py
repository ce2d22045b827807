"""Flags of the command line over a file and the environment, and faults by the names of the flags that brought them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from udptracker.config.faults import ConfigError, Fault
from udptracker.config.reading import ROOTS, Loaded, from_tree, load

_BROKER: Final = "storage.config.redis_broker"
_FLAGS: Final = {
    "udp.addr": "listen",
    _BROKER: "storage",
    "metrics_addr": "metrics",
    "workers": "workers",
    "log_level": "log_level",
}
"""The key that each flag stands for, and the flag as argparse names it."""


def read(path: Path | None, arguments: Mapping[str, Any]) -> Loaded:
    """The configuration in a file, if there is one, under the environment and flags.

    Args:
        arguments: what flags say by their names in argparse, None for one that was not given; others may be among them.

    Raises:
        ConfigError: it is refused.
        OSError: the file cannot be read.
    """
    overrides = _overrides(arguments)
    try:
        return from_tree({}, ROOTS[0], os.environ, overrides) if path is None else load(path, overrides)
    except ConfigError as error:
        raise ConfigError(_by_flag(fault, overrides) for fault in error.faults) from None


def _overrides(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What flags say, by the path of the key each stands for."""
    given = {path: arguments.get(flag) for path, flag in _FLAGS.items()}
    overrides = {path: value for path, value in given.items() if value is not None}
    if overrides.get(_BROKER) == "memory":
        overrides["storage.name"] = overrides.pop(_BROKER)
    elif _BROKER in overrides:
        overrides["storage.name"] = "redis"
    workers = overrides.get("workers")
    if workers is not None and workers.isdecimal():
        overrides["workers"] = int(workers)
    return overrides


def _by_flag(fault: Fault, overrides: Mapping[str, Any]) -> Fault:
    """The fault by the name of the flag that brought it, if one did."""
    _, _, path = fault.path.partition(".")
    for key in overrides.keys() & _FLAGS.keys():
        if path == key or path.startswith(f"{key}."):
            flag = "--" + _FLAGS[key].replace("_", "-")
            expected = f"memory or {fault.expected}" if key == _BROKER else fault.expected
            return Fault(flag, fault.found, expected)
    return fault
