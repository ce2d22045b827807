"""What runs: the version, and whether its hot path was compiled or is interpreted."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Literal

from udptracker import __version__


def kind() -> Literal["compiled", "plain"]:
    """Whether the tracker's core is an extension module or a source file; it is not loaded for that."""
    spec = find_spec("udptracker.core.tracker")
    origin = "" if spec is None or spec.origin is None else spec.origin
    return "compiled" if origin.endswith(tuple(EXTENSION_SUFFIXES)) else "plain"


def describe() -> str:
    """One line: `udptracker 0.1.0 (compiled)`."""
    return f"udptracker {__version__} ({kind()})"
