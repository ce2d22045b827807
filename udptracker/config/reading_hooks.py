"""Hooks of a configuration: which each is, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from udptracker.config.faults import Fault, checked, nearest, shown
from udptracker.config.hooks import PLACES, AnnounceStream, Hook, Place

_REFERENCE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_MOST_LEVELS: Final = 20
_LONGEST_NAME: Final = 100


def take_hooks(tree: dict[str, Any], root: str, faults: list[Fault]) -> None:
    """Put settings in place of what the tree has under each of `PLACES`."""
    for key, place in PLACES.items():
        found = tree.pop(key, None) or []
        if not isinstance(found, list):
            faults.append(Fault(f"{root}.{key}", shown(key, found), "a list of hooks"))
            continue
        hooks = [_hook(hook, place, f"{root}.{key}.{at}", faults) for at, hook in enumerate(found)]
        tree[key] = tuple(hook for hook in hooks if hook is not None)


def hook_secrets(body: Any) -> Iterator[str]:
    """Paths below the root of options that nobody is shown: of a hook that is not ours, all."""
    for key, place in PLACES.items():
        found = body.get(key) if isinstance(body, dict) else None
        for at, hook in enumerate(found if isinstance(found, list) else ()):
            name = hook.get("name") if isinstance(hook, dict) else None
            path = f"{key}.{at}.options"
            if isinstance(name, str) and name in place.ours:
                _, options = place.ours[name]
                yield from (f"{path}.{secret}" for secret in options.secrets)
            else:
                yield path


def check_brokers(hooks: tuple[Hook, ...], root: str, has_broker: bool, faults: list[Fault]) -> None:
    """A stream needs a Redis of its own where the storage has none."""
    for at, hook in enumerate(hooks):
        if isinstance(hook.options, AnnounceStream) and hook.options.redis_broker is None and not has_broker:
            path = f"{root}.posthooks.{at}.options.redis_broker"
            faults.append(Fault(path, "nothing", "the URL of a Redis, since the storage has none"))


def _hook(hook: Any, place: Place, path: str, faults: list[Fault]) -> Hook | None:
    name = hook.get("name") if isinstance(hook, dict) else None
    if not isinstance(name, str):
        faults.append(Fault(f"{path}.name", shown(path, name), "the name of a hook"))
        return None
    model, of_options = place.ours.get(name, (place.others, None))
    if of_options is None and not _is_others(name, place):
        faults.append(Fault(f"{path}.name", shown(path, name), _meant(name, place)))
        return None
    before = len(faults)
    options = hook.get("options")
    options = {} if options is None else options
    if of_options is not None:
        options = checked(options, of_options, f"{path}.options", faults)
    elif not isinstance(options, dict):
        faults.append(Fault(f"{path}.options", shown(path, options), "a mapping"))
    elif not _is_flat_enough(options, _MOST_LEVELS):
        faults.append(Fault(f"{path}.options", "a mapping", f"no more than {_MOST_LEVELS} levels"))
    # By itself: the options are checked already, and their faults would be told a second time.
    found = checked({**hook, "options": None}, model, path, faults)
    return None if found is None or len(faults) > before else found.model_copy(update={"options": options})


def _is_others(name: str, place: Place) -> bool:
    """Whether somebody else's hook may be meant: an object in a module, or an entry point of what is installed."""
    return len(name) <= _LONGEST_NAME and (bool(_REFERENCE.fullmatch(name)) or name in _installed(place))


def _installed(place: Place) -> list[str]:
    from importlib.metadata import entry_points  # needed only to tell others' hooks from mistakes

    return [point.name for point in entry_points(group=place.group)]


def _meant(name: str, place: Place) -> str:
    for key, other in PLACES.items():
        if other is not place and name in other.ours:
            return f"a hook that belongs here; this one belongs under {key}"
    return nearest(name, (*place.ours, *_installed(place), "module:factory"))


def _is_flat_enough(value: Any, levels: int) -> bool:
    below = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return levels > 0 and all(_is_flat_enough(each, levels - 1) for each in below)
