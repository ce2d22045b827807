"""The one-shot client on the command line: `udptracker announce` and `udptracker scrape`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from udptracker.client.arguments import add_common, integer
from udptracker.client.conversation import NoAnswer, TrackerClient, TrackerRefused, announce_request
from udptracker.client.output import fail, show_json, show_table
from udptracker.client.targets import INFO_HASH_HELP, BadTarget, format_endpoint, parse_info_hash, parse_url, resolve
from udptracker.core import wire
from udptracker.core.wire import Event, WireError


class Shown(NamedTuple):
    """What was learnt: the fields of its JSON, and its table."""

    fields: dict[str, Any]
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `announce` and `scrape` to the command line."""
    announce = commands.add_parser("announce", help="announce once to any UDP tracker and show its answer")
    announce.add_argument("url", help="udp://host:port")
    announce.add_argument("info_hash", metavar="INFOHASH", help=INFO_HASH_HELP)
    announce.add_argument("--event", choices=[event.name.lower() for event in Event], default="none")
    announce.add_argument(
        "--left", type=integer(0, 2**64 - 1), default=1, help="bytes left to download; 0 = seeder (default: 1)"
    )
    announce.add_argument(
        "--num-want", type=integer(-1, 2**31 - 1), default=-1, help="peers wanted; -1 = as the tracker likes"
    )
    announce.add_argument(
        "--port", type=integer(0, 65535), default=6881, help="the port we say we listen on (default: 6881)"
    )
    add_common(announce)
    announce.set_defaults(run=_run_announce)

    scrape = commands.add_parser("scrape", help="ask any UDP tracker for the counts of swarms")
    scrape.add_argument("url", help="udp://host:port")
    scrape.add_argument("info_hashes", metavar="INFOHASH", nargs="+", help=INFO_HASH_HELP)
    add_common(scrape)
    scrape.set_defaults(run=_run_scrape)


def _run_announce(args: argparse.Namespace) -> int:
    def ask(client: TrackerClient) -> Shown:
        request = announce_request(
            args.url,
            info_hash,
            event=Event[args.event.upper()],
            left=args.left,
            num_want=args.num_want,
            port=args.port,
        )
        answer = client.announce(request)
        peers = [format_endpoint(peer) for peer in wire.split_peers(answer.peers, client.family)]
        fields = {"interval": answer.interval, "seeders": answer.seeders, "leechers": answer.leechers, "peers": peers}
        row = (f"{answer.interval} s", str(answer.seeders), str(answer.leechers), "\n".join(peers))
        return Shown(fields, ("interval", "seeders", "leechers", "peers"), [row])

    try:
        info_hash = parse_info_hash(args.info_hash)
        return _converse(args, ask)
    except BadTarget as error:
        return fail(str(error), 2)


def _run_scrape(args: argparse.Namespace) -> int:
    def ask(client: TrackerClient) -> Shown:
        swarms = list(zip(info_hashes, client.scrape(info_hashes), strict=True))
        fields = [{"info_hash": info_hash.hex(), **row._asdict()} for info_hash, row in swarms]
        rows = [(of.hex(), str(row.seeders), str(row.leechers), str(row.downloads)) for of, row in swarms]
        return Shown({"swarms": fields}, ("info hash", "seeders", "leechers", "downloads"), rows)

    try:
        info_hashes = [parse_info_hash(text) for text in args.info_hashes]
        return _converse(args, ask)
    except BadTarget as error:
        return fail(str(error), 2)


def _converse(args: argparse.Namespace, ask: Callable[[TrackerClient], Shown]) -> int:
    """Print what `ask` learns from the tracker; the exit status.

    Raises:
        BadTarget: the URL.
    """
    family, address = resolve(*parse_url(args.url), args.family)
    try:
        with TrackerClient(family, address, args.timeout) as client:
            shown = ask(client)
    except TrackerRefused as error:
        return fail(f"{args.url}: the tracker refuses: {error}", 1)
    except (NoAnswer, WireError) as error:
        return fail(f"{args.url}: {error}", 1)
    if args.json:
        show_json(shown.fields)
    else:
        show_table(shown.headings, shown.rows)
    return 0
