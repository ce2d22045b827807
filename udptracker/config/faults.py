"""What is wrong with a configuration, in words for its author, and never with a secret in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from udptracker.config import hooks
from udptracker.config.settings import SECRETS
from udptracker.config.values import Part
from udptracker.core.text import printable

HIDDEN: Final = "(hidden)"
_SECRET_KEYS: Final = (
    *(path.removeprefix("udp.").removeprefix("storage.config.") for path in SECRETS),
    *hooks.SECRETS,
)
"""Parts of the paths of what is secret, wherever it may have been put by mistake."""
_EXPECTED: Final = {
    "bool_type": "true or false",
    "model_type": "a mapping",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "too_short": "at least one",
    "tuple_type": "a text or a list of texts",
}

P = TypeVar("P", bound=Part)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: the dotted path, what was found there, what is expected."""

    path: str
    found: str
    expected: str

    def __str__(self) -> str:
        path = " ".join(self.path.split())  # a key may hold a line break, a fault is one line
        return printable(f"{path}: found {self.found}, expected {self.expected}")


class ConfigError(Exception):
    """A configuration that is refused. `faults` holds everything that is wrong with it, the first of each path."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        by_path: dict[str, Fault] = {}
        for fault in faults:
            by_path.setdefault(fault.path, fault)
        self.faults = tuple(by_path.values())
        super().__init__("\n".join(map(str, self.faults)))


def faults_of(error: ValidationError, model: type[Part], tree: Any, path: str) -> list[Fault]:
    """Pydantic's errors about `tree`, which was to be a `model` and stands at `path`."""
    return [_fault(detail, model, tree, path) for detail in error.errors(include_url=False)]


def checked(tree: Any, model: type[P], path: str, faults: list[Fault]) -> P | None:
    """What stands at `path` as a `model`, or None, and its faults are added."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        faults += faults_of(error, model, tree, path)
        return None


def shown(path: str, value: Any) -> str:
    """A value found at `path`, unless it may be or hold a secret."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple | set):
        return "a list"
    if any(key in path for key in _SECRET_KEYS):
        return HIDDEN
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    text = repr(value)
    if "://" in text and "@" in text:
        return HIDDEN  # a password may be in it
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(name: str, known: Sequence[str]) -> str:
    """What may have been meant by an unknown name."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"{near[0]!r}, or none" if near else f"one of {', '.join(known)}"


def nearest_of(name: str, known: Sequence[str]) -> str | None:
    """The name that was most likely meant, or None where none is close."""
    near = difflib.get_close_matches(name, known, 1, 0.9)
    return near[0] if near else None


def _fault(detail: Any, model: type[Part], tree: Any, path: str) -> Fault:
    names = _path_in(tree, detail["loc"])
    dotted = ".".join((path, *names))
    kind = detail["type"]
    if kind == "extra_forbidden":
        return Fault(dotted, "an unknown key", nearest(names[-1], _known_keys(model, names[:-1])))
    if kind == "missing":
        return Fault(dotted, "nothing", "a value")
    found = shown(dotted, detail["input"])
    if kind == "model_type" and isinstance(detail["input"], str):
        found = "a text"  # which may be a secret that has lost its key
    if kind == "value_error":
        return Fault(dotted, found, str(detail["ctx"]["error"]).removeprefix("expected "))
    return Fault(dotted, found, _EXPECTED.get(kind) or detail["msg"].removeprefix("Input should be "))


def _path_in(tree: Any, location: Iterable[Any]) -> list[str]:
    """As much of an error's location as the author wrote: a single text is not the first of a list to them."""
    names = []
    for name in location:
        if not isinstance(tree, dict | list):
            break
        names.append(str(name))
        if isinstance(tree, dict) and name not in tree:
            break
        tree = tree[name]
    return names


def _known_keys(model: type[BaseModel], names: Iterable[str]) -> list[str]:
    for name in names:
        below = model.model_fields[name].annotation
        assert isinstance(below, type)
        assert issubclass(below, BaseModel)
        model = below
    return list(model.model_fields)
