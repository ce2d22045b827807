"""Hooks that others wrote, found by their names and made of their options."""

from __future__ import annotations

import asyncio
import copy
from functools import reduce
from importlib import import_module
from typing import Any

from udptracker.access.base import AccessError
from udptracker.access.hooks.api import OptionError, PostHook, PreHook
from udptracker.core.text import printable

GROUPS = {"prehooks": "udptracker.prehooks", "posthooks": "udptracker.posthooks"}
"""Of entry points."""


async def make_others(place: str, at: int, name: str, options: dict[str, Any]) -> PreHook | PostHook:
    """A hook that is not opened yet.

    Args:
        place, at: where it stands in the configuration.

    Raises:
        AccessError: it cannot be made.
    """
    path = f"{place}.{at}"
    try:
        factory = await asyncio.to_thread(_find, name, GROUPS[place])  # reads files
    except BaseException as error:  # whatever a module does when it is imported
        raise AccessError(f"{path}.name: {name} cannot be loaded: {words(error)}") from None
    try:
        made = factory(copy.deepcopy(options))
    except OptionError as error:
        found = _found(options, error.option)
        raise AccessError(f"{path}.options.{error.option}: found {found}, expected {error.expected}") from None
    except ValueError as error:
        raise AccessError(f"{path}.options: {printable(str(error))}") from None
    except BaseException as error:
        raise AccessError(f"{path}: {name} cannot be made: {words(error)}") from None
    kind: type[PreHook] | type[PostHook] = PreHook if place == "prehooks" else PostHook
    if not isinstance(made, kind):
        raise AccessError(f"{path}.name: {name} makes a {type(made).__name__}, and no {kind.__name__}")
    return made


def words(error: BaseException) -> str:
    """What went wrong in something that others wrote, on one line."""
    return printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _find(name: str, group: str) -> Any:
    if ":" in name:
        module, _, names = name.partition(":")
        return reduce(getattr, names.split("."), import_module(module))
    from importlib.metadata import entry_points  # takes a megabyte, and few have a use for it

    for point in entry_points(group=group, name=name):
        return point.load()
    raise LookupError(f"no entry point of {group} has this name")


def _found(options: Any, option: str) -> str:
    """What stands there, without what may be a secret: any text may be."""
    for name in option.split("."):
        try:
            options = options[int(name) if isinstance(options, list) else name]
        except (LookupError, TypeError, ValueError):
            return "nothing"
    return repr(options) if options is None or isinstance(options, int | float) else f"a {type(options).__name__}"
