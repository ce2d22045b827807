"""`udptracker load`: the packet generator on the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Final

from udptracker.client.targets import BadTarget, parse_url
from udptracker.load import plot
from udptracker.load.options import LoadError, LoadOptions, parse_mix
from udptracker.load.report import LoadReport
from udptracker.load.runner import LoadInterrupted, run
from udptracker.load.world import InfoHashes

_INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as a shell has it."""

_NUMBERS: Final = (
    ("torrents", int, "N", "torrents in the world"),
    ("peers", int, "N", "peers in the world"),
    ("skew", float, "X", "Zipf exponent of the torrents' popularity, 0 = all alike"),
    ("seeders", float, "SHARE", "of the peers that start as seeders"),
    ("churn", float, "SHARE", "of the announces that complete or stop a peer"),
    ("num-want", int, "N", "peers asked for by an announce, -1 = as the tracker likes"),
    ("scrape-hashes", int, "N", "info hashes in a scrape"),
    ("seed", int, "N", "the same seed makes the same world and the same requests"),
    ("processes", int, "N", "of the generator"),
    ("sources", int, "N", "sockets of the generator, on loopback IPv4 with an address each: 127.0.0.2, ..."),
    ("in-flight", int, "N", "closed loop: requests of one process that wait for an answer at any time"),
    ("burst", int, "N", "requests handed to the kernel joined together, 1 = one by one, as from many clients"),
    ("rest", float, "SECONDS", "to look away once the tracker has enough to do, 0 = be woken for each answer"),
    ("rate", float, "R", "open loop: requests a second, on schedule; latencies count from when they were due"),
    ("duration", float, "SECONDS", "to measure"),
    ("warmup", float, "SECONDS", "before that, which do not count"),
    ("timeout", float, "SECONDS", "after which a request is lost"),
    ("check-every", int, "N", "of so many announce answers check every peer of one"),
    ("reconnect-after", float, "SECONDS", "after which a connection id is renewed"),
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `load` to the command line. An option has the name and the default of its attribute of `LoadOptions`."""
    parser = commands.add_parser(
        "load",
        help="load a tracker of yours and measure it",
        description="Load a UDP tracker of yours with connects, announces and scrapes, check its answers, and measure "
        "throughput, latency and CPU. It stops by itself.",
    )
    parser.add_argument("url", help="udp://host:port")
    defaults = {field.name: field.default for field in fields(LoadOptions)}
    parser.add_argument(
        "--mix",
        type=parse_mix,
        default=defaults["mix"],
        metavar="C:A:S",
        help="weights of connects, announces and scrapes (default: 0:99:1)",
    )
    for name, kind, metavar, text in _NUMBERS:
        default = defaults[name.replace("-", "_")]
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, help=text + shown)
    parser.add_argument("--prefill", action="store_true", help="announce every peer once before the warm-up")
    parser.add_argument("--family", type=int, choices=(4, 6), help="IP version, where the host has both")
    parser.add_argument(
        "--pid",
        dest="pids",
        type=int,
        action="append",
        default=[],
        help="a process of the tracker (repeatable); without, the one that listens on the port is looked for",
    )
    parser.add_argument(
        "--i-own-this-tracker", dest="own_tracker", action="store_true", help="allow an address that is not loopback"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome as JSON; - for stdout, no tables")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it over time into FILE.png or FILE.svg")
    parser.add_argument(
        "--print-info-hashes", action="store_true", help="print the info hashes the run would use, for a whitelist"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        options = _options(args)
        if args.print_info_hashes:
            for info_hash in InfoHashes(options):
                print(info_hash.hex())
            return 0
        if args.plot:
            plot.require(args.plot)
    except (BadTarget, LoadError) as error:
        return _fail(str(error), 2)
    try:
        return _measure(options, args)
    except (LoadError, OSError) as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)


def _measure(options: LoadOptions, args: argparse.Namespace) -> int:
    """Run and show what was found, also where the run is interrupted.

    Raises:
        LoadError: it cannot be done.
        OSError: a file cannot be written.
        KeyboardInterrupt: it was interrupted.
    """
    from udptracker.load import view  # brings a terminal library, which only a run needs

    try:
        with view.live_line(options) as on_interval:
            report = run(options, on_interval)
    except LoadInterrupted as interrupted:
        _write(interrupted.report, args, view.show)
        raise
    _write(report, args, view.show)
    return 0 if report.answered else 1


def _write(report: LoadReport, args: argparse.Namespace, show: Callable[[LoadReport], None]) -> None:
    if args.json == Path("-"):
        print(json.dumps(report.to_dict()))
    else:
        show(report)
        if args.json:
            args.json.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    if args.plot:
        plot.plot(report, args.plot)


def _options(args: argparse.Namespace) -> LoadOptions:
    """The options of the command line.

    Raises:
        BadTarget: the URL.
        LoadError: an option.
    """
    host, port = parse_url(args.url)
    given = {field.name: getattr(args, field.name) for field in fields(LoadOptions) if hasattr(args, field.name)}
    return LoadOptions(**{**given, "host": host, "port": port, "pids": tuple(args.pids)})


def _fail(message: str, status: int) -> int:
    print(f"udptracker: {message}", file=sys.stderr)
    return status
