"""Arguments that several commands take, and their types."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import inf


def add_common(parser: argparse.ArgumentParser, timeout: float = 15.0) -> None:
    """What all commands have that speak to a tracker."""
    parser.add_argument("--timeout", type=seconds, default=timeout, help="seconds in all (default: %(default)g)")
    parser.add_argument("--family", type=int, choices=(4, 6), help="IP version, where the host has both")
    parser.add_argument("--json", action="store_true", help="print JSON")


def integer(low: int, high: int) -> Callable[[str], int]:
    """The type of an argument that is a number from `low` to `high`."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}")
        return value

    parse.__name__ = "integer"  # argparse names it in "invalid integer value"
    return parse


def seconds(text: str) -> float:
    """The type of an argument that is a length of time."""
    value = float(text)
    if not 0 < value < inf:
        raise argparse.ArgumentTypeError("expected more than 0 seconds")
    return value
