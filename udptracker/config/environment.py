"""Configuration by environment variables, for containers: every key, and secrets by the name of a file that holds them.

The variable of a key is its path in capitals, `UDPTRACKER_UDP_ADDR` for `udp.addr`, as pydantic-settings would name it.
A list is JSON (`["0.0.0.0:6969", "[::]:6969"]`), anything else is written as in the file without quotes. An empty
variable is none, since that is what tools that start containers make of one that is not set.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from udptracker.config.faults import Fault, nearest_of
from udptracker.config.files import value_in
from udptracker.config.settings import SECRETS, STORES, Settings

PREFIX: Final = "UDPTRACKER_"

_STORAGE: Final = "storage.config."
_TRUTHS: Final = {"true": True, "false": False}


class FromEnvironment:
    """What the environment says.

    Args:
        used: names of variables that the file names, whose purpose is clear.

    Attributes:
        values: by the path of the key.
        sources: the names of the variables, by the same.
        faults: what is wrong with it, by the names of the variables.
        warnings: variables that look like one of ours and are none.
    """

    def __init__(self, environment: Mapping[str, str], used: Collection[str] = ()) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        keys = dict(_keys(Settings()))
        for model in STORES.values():
            keys |= _keys(model(), _STORAGE)
        names = {_name(path): path for path in keys}
        files = {f"{_name(path)}_FILE": path for path in SECRETS}
        for name in sorted(environment):
            if not environment[name]:
                continue
            if name in names:
                self._take(names[name], name, _read(environment[name], keys[names[name]]))
            elif name in files:
                self._take_file(files[name], name, Path(environment[name]))
            elif (
                name.startswith(PREFIX)
                and name not in used
                and (meant := nearest_of(name, [*names, *files])) is not None
            ):
                self.warnings.append(f"{name}: an environment variable that is no key; {meant} is")

    def for_store(self, name: Any) -> None:
        """Leave out, with a warning, what only another store than the one of this name has."""
        model = STORES.get(name) if isinstance(name, str) else None
        if model is None:
            return
        for path in [path for path in self.values if path.startswith(_STORAGE)]:
            if path.removeprefix(_STORAGE) not in model.model_fields:
                del self.values[path]
                self.warnings.append(f"{self.sources.pop(path)}: {name} storage has no such key")

    def named(self, fault: Fault, root: str) -> Fault:
        """The fault by the name of the variable that brought it, if one did."""
        for path, source in self.sources.items():
            if fault.path == f"{root}.{path}" or fault.path.startswith(f"{root}.{path}."):
                return Fault(source, fault.found, fault.expected)
        return fault

    def _take(self, path: str, source: str, value: Any) -> None:
        if path in self.values:
            self.faults.append(Fault(source, f"{self.sources[path]} as well", "one of the two"))
        else:
            self.values[path], self.sources[path] = value, source

    def _take_file(self, path: str, source: str, file: Path) -> None:
        try:
            text = value_in(file).strip()
        except ValueError as error:
            self.faults.append(Fault(source, f"{str(file)!r}: {error}", "the name of a file with the secret"))
        else:
            self._take(path, source, _read(text, ()))


def _keys(part: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its default, by its path."""
    for name, default in part:
        if not isinstance(default, BaseModel):
            yield f"{above}{name}", default
        elif f"{above}{name}." != _STORAGE:
            yield from _keys(default, f"{above}{name}.")


def _name(path: str) -> str:
    return PREFIX + path.replace(".", "_").upper()


def _read(text: str, default: Any) -> Any:
    """What a text stands for, going by the key's default; what cannot be such a value stays a text, to be refused."""
    if isinstance(default, bool):
        return _TRUTHS.get(text.lower(), text)
    if isinstance(default, tuple) and text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):  # `[::]:6969`, or nested too deeply
            return text
    if (default is None or isinstance(default, int)) and text.isascii() and text.isdecimal() and len(text) < 20:
        return int(text)
    return text
