"""YAML as a configuration may use it: bounded in size, in what aliases repeat, and without a key that stands twice.

What is wrong is told by line and column and in PyYAML's words, without what it quotes: a secret may stand there.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from udptracker.config.faults import HIDDEN, ConfigError, Fault

FILE: Final = "(the file)"
"""The path of a fault that is of the whole file."""

MOST_BYTES: Final = 2**18
"""Bytes of a file: PyYAML takes several seconds for the worst of so many."""

_MOST_REPEATED: Final = 10_000
"""Values that aliases may repeat. Nine levels of nine aliases each would make 400 million of ten lines."""

_TAG: Final = "tag:yaml.org,2002:"
_TOKENS: Final = [token.id for token in vars(yaml.tokens).values() if isinstance(token, type) and hasattr(token, "id")]
_ESCAPE: Final = r"\\(?:[\\'nrt]|x..|u.{4}|U.{8})"
_QUOTED: Final = re.compile(rf"'(?:{'|'.join(map(re.escape, _TOKENS))}|{_ESCAPE})'|(['\"]).{{2,}}\1", re.DOTALL)
"""What PyYAML quotes: one of its own tokens, one character that is not printed as it is, a tab above all, or (with a
group) something of the author's, longer than one character."""


def read_yaml(text: str | bytes) -> Any:
    """What a YAML text of one document says.

    Raises:
        ConfigError: with the one fault.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError([Fault(FILE, f"more than {MOST_BYTES} bytes", "no more than that")])
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            sizes: dict[int, int] = {}
            if _expanded(node, sizes) > len(sizes) + _MOST_REPEATED:
                raise _OurFault(problem=f"aliases that repeat more than {_MOST_REPEATED} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except Exception as error:  # PyYAML lets through whatever it stumbles on, RecursionError among them
        raise ConfigError([_fault(error)]) from None


class _OurFault(yaml.MarkedYAMLError):
    """What we refuse, in words of ours that may be shown."""


class _Loader(yaml.SafeLoader):
    """Keys are texts, none of which stands twice in a mapping. A value that is not of its type is told by its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:
            what = node.tag.removeprefix(_TAG)
            raise _OurFault(problem=f"what is no {what}", problem_mark=node.start_mark) from None


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == f"{_TAG}merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _OurFault(problem=f"the key {key!r}, which is no text", problem_mark=key_node.start_mark)
        if key in seen:
            raise _OurFault(problem=f"the key {key!r} a second time", problem_mark=key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A number, but never to the base of 60, as YAML 1.1 would read `10:30`: nobody means that, and a long one takes
    hours to compute."""
    if ":" in node.value:
        return loader.construct_scalar(node)
    return loader.construct_yaml_int(node) if node.tag == f"{_TAG}int" else loader.construct_yaml_float(node)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor(f"{_TAG}int", _number)
_Loader.add_constructor(f"{_TAG}float", _number)


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node comes to with every alias written out. `sizes` takes that of each node once, by its id."""
    size = sizes.get(id(node))
    if size is None:
        sizes[id(node)] = 0  # until it is known: who meets it here is within it
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        size = 1
        for part in below:
            for each in part if isinstance(part, tuple) else (part,):
                size += _expanded(each, sizes)
        sizes[id(node)] = size
    elif size == 0:
        raise _OurFault(problem="an alias within what it stands for", problem_mark=node.start_mark)
    return size


def _fault(error: Exception) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        return Fault(FILE, f"a character that cannot be read at position {error.position}", "YAML")
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem is None:
        return Fault(FILE, type(error).__name__, "YAML")
    problem = error.problem.removeprefix("found ")
    if not isinstance(error, _OurFault):
        problem = _QUOTED.sub(lambda quoted: HIDDEN if quoted[1] else quoted[0], problem)
    mark = error.problem_mark
    where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
    return Fault(FILE, problem + where, "YAML")
