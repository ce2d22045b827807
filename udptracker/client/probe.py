"""`udptracker probe URL`: whether a tracker works, for health checks: connect, announce, scrape, and leave again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from hashlib import sha1
from typing import Any, Final

from udptracker.client.arguments import add_common
from udptracker.client.conversation import NoAnswer, TrackerClient, TrackerRefused, announce_request
from udptracker.client.output import fail, show_json, show_table
from udptracker.client.targets import INFO_HASH_HELP, BadTarget, parse_info_hash, parse_url, resolve
from udptracker.core.wire import Event, WireError

DEFAULT_INFO_HASH: Final = sha1(b"udptracker probe").hexdigest()
"""No torrent has it, so that no client meets a probe."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `probe` to the command line."""
    parser = commands.add_parser(
        "probe",
        help="connect, announce and scrape at a tracker: is it well?",
        description="Connect to a tracker, announce a peer, scrape its swarm and stop it again. Exits with 0 if all "
        "was answered, with 1 if not.",
    )
    parser.add_argument("url", help="udp://host:port")
    parser.add_argument(
        "--info-hash", default=DEFAULT_INFO_HASH, metavar="INFOHASH", help=f"to announce: {INFO_HASH_HELP}"
    )
    add_common(parser, timeout=5.0)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        info_hash = parse_info_hash(args.info_hash)
        family, address = resolve(*parse_url(args.url), args.family)
    except BadTarget as error:
        return fail(str(error), 2)
    took: dict[str, float] = {}
    try:
        with TrackerClient(family, address, args.timeout) as client:
            for name, step in _steps(client, args.url, info_hash).items():
                began = time.perf_counter()
                step()
                took[name] = time.perf_counter() - began
    except (TrackerRefused, NoAnswer, WireError) as error:
        words = f"the tracker refuses: {error}" if isinstance(error, TrackerRefused) else str(error)
        failed = next(name for name in _STEPS if name not in took)
        if args.json:
            show_json({"ok": False, "failed": failed, "reason": words, "milliseconds": _rounded(took)})
        return fail(f"{args.url}: {failed}: {words}", 1)
    if args.json:
        show_json({"ok": True, "milliseconds": _rounded(took)})
    else:
        show_table(("step", "ms"), [(name, f"{seconds * 1000:.2f}") for name, seconds in took.items()])
    return 0


_STEPS: Final = ("connect", "announce", "scrape", "stop")


def _steps(client: TrackerClient, url: str, info_hash: bytes) -> dict[str, Callable[[], Any]]:
    """What is done, in this order, by its name."""
    started = announce_request(url, info_hash, event=Event.STARTED, left=1, num_want=1, port=6881)
    stopped = started._replace(event=Event.STOPPED, num_want=0)
    calls = (
        client.connect,
        lambda: client.announce(started),
        lambda: client.scrape([info_hash]),
        lambda: client.announce(stopped),
    )
    return dict(zip(_STEPS, calls, strict=True))


def _rounded(took: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds * 1000, 3) for name, seconds in took.items()}
