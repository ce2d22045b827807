"""`udptracker top` on the command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Final

from udptracker.client.arguments import seconds
from udptracker.client.nodes import DEFAULT_PORT, Address, address_of, parse_address

VARIABLE: Final = "UDPTRACKER_METRICS_ADDR"


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `top` to the command line."""
    top = commands.add_parser("top", help="watch running trackers in the terminal")
    top.add_argument(
        "addresses",
        metavar="URL",
        type=_address,
        nargs="*",
        help=f"where their metrics are, such as http://host:{DEFAULT_PORT} (default: {VARIABLE}, or this machine's)",
    )
    top.add_argument("--once", action="store_true", help="print what they say now, and end")
    top.add_argument("--interval", type=seconds, default=2.0, help="seconds between two looks (default: %(default)g)")
    top.add_argument("--timeout", type=seconds, default=8.0, help="seconds to wait for a node (default: %(default)g)")
    top.add_argument("--sort", metavar="KEY", default="n", help="as the key of that name sorts (default: n, by name)")
    top.set_defaults(run=_run)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _of_this_machine() -> Address:
    """Where a daemon in this environment has its metrics.

    Raises:
        ValueError: nowhere; with a line for the user.
    """
    said = os.environ.get(VARIABLE)
    if not said:
        return parse_address("127.0.0.1")
    from udptracker.config import ConfigError, from_tree

    try:
        address = address_of(from_tree({}, "udptracker", {VARIABLE: said}).settings)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if address is None:
        raise ValueError(f"{VARIABLE}: metrics are {said}")
    return address


def _run(arguments: argparse.Namespace) -> int:
    from udptracker.client.top_view import SORTS
    from udptracker.client.watch import Watch

    if arguments.sort not in SORTS:
        print(f"--sort: found {arguments.sort!a}, expected one of {', '.join(SORTS)}", file=sys.stderr)
        return 2
    try:
        addresses = arguments.addresses or [_of_this_machine()]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    once = arguments.once or not (sys.stdin.isatty() and sys.stdout.isatty())
    watch = Watch(addresses, arguments.sort, arguments.interval, arguments.timeout)
    return asyncio.run(watch.once() if once else watch.follow())
