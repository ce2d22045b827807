"""`udptracker swarm` and `udptracker swarms`: what the store holds.

Redis is asked directly, in slices. Memory is within a running daemon, so that one is asked: for the busiest swarms by
its metrics address, and for the counts of a swarm as any client would.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_from_bytes

from udptracker.client.arguments import integer
from udptracker.client.conversation import NoAnswer, TrackerClient, TrackerRefused
from udptracker.client.output import fail, progress_bar, show_json, show_table
from udptracker.client.targets import INFO_HASH_HELP, LOOPBACK, BadTarget, format_endpoint, parse_info_hash, resolve
from udptracker.core.swarm import Counts, StoreError
from udptracker.core.wire import WireError

if TYPE_CHECKING:
    from udptracker.config import RedisSettings, Settings
    from udptracker.storage.redis.holdings import Holdings, Slice

_SECOND_NS: Final = 1_000_000_000
_READABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""What of a peer id stands as it is; the rest is escaped as in announces over HTTP."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `swarm` and `swarms` to the command line."""
    swarm = commands.add_parser("swarm", help="show what the store holds of one swarm")
    swarm.add_argument("info_hash", metavar="INFOHASH", help=INFO_HASH_HELP)
    swarm.add_argument("--peers", action="store_true", help="list its peers, too; on Redis only")
    _add_common(swarm)
    swarm.set_defaults(run=lambda args: _run(args, _swarm_on_redis, _swarm_on_memory))

    swarms = commands.add_parser("swarms", help="show the largest swarms in the store")
    swarms.add_argument("--top", type=integer(1, 100_000), default=20, metavar="N", help="how many (default: 20)")
    _add_common(swarms)
    swarms.set_defaults(run=lambda args: _run(args, _swarms_on_redis, _swarms_on_memory))


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="of the tracker")
    parser.add_argument("--storage", metavar="memory|URL", help="memory, or where Redis is: redis://host:6379/0")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(
    args: argparse.Namespace,
    on_redis: Callable[[argparse.Namespace, Holdings], Coroutine[Any, Any, int]],
    on_memory: Callable[[argparse.Namespace, Settings], int],
) -> int:
    from udptracker.config import ConfigError, RedisSettings
    from udptracker.config.flags import read

    try:
        settings = read(args.config, vars(args)).settings
    except ConfigError as error:
        for fault in error.faults:
            fail(str(fault), 2)
        return 2
    except OSError as error:
        return fail(f"{args.config}: {error.strerror}", 2)
    try:
        if isinstance(settings.storage.config, RedisSettings):
            return asyncio.run(_ask_redis(args, settings.storage.config, on_redis))
        return on_memory(args, settings)
    except BadTarget as error:
        return fail(str(error), 2)
    except StoreError as error:
        return fail(f"{settings.storage.describe()}: {error}", 1)
    except (NoAnswer, TrackerRefused, WireError) as error:
        return fail(str(error), 1)


async def _ask_redis(
    args: argparse.Namespace,
    config: RedisSettings,
    ask: Callable[[argparse.Namespace, Holdings], Coroutine[Any, Any, int]],
) -> int:
    from hiredis import ReplyError

    from udptracker.client.reaching import reached
    from udptracker.storage.redis.holdings import Holdings

    try:
        async with reached(config) as topology:
            return await ask(args, Holdings(topology))
    except ReplyError as error:
        raise StoreError(str(error)) from error


async def _swarm_on_redis(args: argparse.Namespace, holdings: Holdings) -> int:
    info_hash = parse_info_hash(args.info_hash)
    counts = await holdings.swarm(info_hash)
    fields: dict[str, Any] = {"info_hash": info_hash.hex(), "swarms": [_fields(each) for each in counts]}
    if not args.peers:
        return _show(args, fields, counts)
    now = time.time_ns()
    fields["peers"], rows = [], []
    async for peer in holdings.peers(info_hash):
        age = max(now - peer.heard, 0) // _SECOND_NS if peer.heard else None
        endpoint, role = format_endpoint(peer.endpoint), peer.role.name.lower()
        fields["peers"].append({"endpoint": endpoint, "role": role, "peer_id": peer.peer_id.hex(), "seconds": age})
        rows.append((endpoint, role, quote_from_bytes(peer.peer_id, _READABLE), "?" if age is None else f"{age} s ago"))
    if not args.json:
        show_table(("peer", "role", "peer id", "announced"), rows)
    return _show(args, fields, counts)


def _swarm_on_memory(args: argparse.Namespace, settings: Settings) -> int:
    info_hash = parse_info_hash(args.info_hash)
    if args.peers:
        raise BadTarget("--peers: peers in memory are within the daemon; `udptracker announce` shows some")
    counts: dict[int, Counts] = {}
    silent: list[NoAnswer] = []
    for listen in settings.udp.addresses():
        for host in ("::1", "127.0.0.1") if listen.both_families else (LOOPBACK.get(listen.host, listen.host),):
            family, address = resolve(host, listen.port)
            if family in counts:
                continue
            try:
                with TrackerClient(family, address, timeout=5.0) as client:
                    (row,) = client.scrape([info_hash])
            except NoAnswer as error:  # it may not have addresses of both families
                silent.append(
                    NoAnswer(f"no daemon answers at {host} port {listen.port}, and it has the peers: {error}")
                )
            else:
                counts[family] = Counts(family, info_hash, row.seeders, row.leechers, row.downloads)
    if silent and not counts:
        raise silent[0]
    return _show(
        args, {"info_hash": info_hash.hex(), "swarms": [_fields(each) for each in counts.values()]}, [*counts.values()]
    )


async def _swarms_on_redis(args: argparse.Namespace, holdings: Holdings) -> int:
    largest: list[tuple[int, Counts]] = []
    held: set[tuple[int, bytes]] = set()
    async for part in _with_progress(holdings.swarms()):
        for counts in part.swarms:
            if (counts.family, counts.info_hash) in held:
                continue
            entry = (counts.seeders + counts.leechers, counts)
            held.add((counts.family, counts.info_hash))
            heapq.heappush(largest, entry)
            if len(largest) > args.top:
                _, smallest = heapq.heappop(largest)
                held.discard((smallest.family, smallest.info_hash))
    found = [counts for _, counts in sorted(largest, reverse=True)]
    return _show(args, {"swarms": [_fields(each) for each in found]}, found)


async def _with_progress(slices: AsyncIterator[Slice]) -> AsyncIterator[Slice]:
    """The slices, with a bar on a terminal that shows how many there are still to come."""
    with progress_bar() as progress:
        task = progress.add_task("reading swarms", total=None)
        async for part in slices:
            progress.update(task, completed=part.seen, total=part.names)
            yield part


def _swarms_on_memory(args: argparse.Namespace, settings: Settings) -> int:
    from udptracker.client.nodes import NoStats, address_of, ask

    address = address_of(settings)
    if address is None:
        raise BadTarget("metrics_addr is off, and peers in memory are within the daemon")
    try:
        stats = asyncio.run(ask(address))
    except NoStats as error:
        raise NoAnswer(f"no daemon answers at {address.name}, and it has the peers: {error}") from error
    busiest = sorted(stats.busiest, key=lambda swarm: -swarm.seeders - swarm.leechers)[: args.top]
    if args.json:
        show_json({"swarms": [swarm._asdict() for swarm in busiest]})
    else:
        rows = [(s.info_hash, str(s.seeders), str(s.leechers), f"{s.announces:.0f}") for s in busiest]
        show_table(("info hash", "seeders", "leechers", "/min"), rows)
    return 0


def _fields(counts: Counts) -> dict[str, Any]:
    return {
        "family": f"ipv{counts.family}",
        "info_hash": counts.info_hash.hex(),
        "seeders": counts.seeders,
        "leechers": counts.leechers,
        **({} if counts.downloads is None else {"downloads": counts.downloads}),
    }


def _show(args: argparse.Namespace, fields: dict[str, Any], counts: list[Counts]) -> int:
    if args.json:
        show_json(fields)
    else:
        columns = ("info_hash", "family", "seeders", "leechers", "downloads")
        shown = [_fields(each) for each in counts]
        used = [name for name in columns if all(name in fields for fields in shown)]
        rows = [[str(fields[name]) for name in used] for fields in shown]
        show_table([name.replace("_", " ") for name in used], rows)
    return 0
