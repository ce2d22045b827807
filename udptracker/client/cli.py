"""The one-shot client: `udptracker announce` and `udptracker scrape`, for operators who ask what a tracker says.

It is a client of any BEP 15 tracker. A request is sent again after waits that double, as BEP 15 has it ("Time
outs"), but where a daemon begins with 15 seconds and goes on for an hour, an operator waits `timeout` seconds in all.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from math import inf
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from udptracker.core import wire
from udptracker.core.wire import AnnounceRequest, AnnounceResponse, ConnectResponse, Event, ScrapeResponse, WireError

DEFAULT_PORT: Final = 6969

_RECEIVE_BYTES: Final = 65535
_ATTEMPTS: Final = 4

R = TypeVar("R", ConnectResponse, AnnounceResponse, ScrapeResponse)


class BadTarget(ValueError):
    """A URL or an info hash that names nothing; `str()` is one line for the user."""


class TrackerRefused(Exception):
    """The tracker answered with an error; `str()` is its message."""


class NoAnswer(Exception):
    """The tracker did not answer in time, or not with what was asked for."""


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of an announce URL such as `udp://tracker.example:6969/announce` or `udp://[::1]:6969`.

    Raises:
        BadTarget: another scheme, no host, or a port out of range. A port left out is 6969.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"bad URL {url!r}: {error}") from None
    if parts.scheme != "udp" or not parts.hostname or port == 0:
        raise BadTarget(f"bad URL {url!r}: expected udp://host:port")
    return parts.hostname, DEFAULT_PORT if port is None else port


def parse_info_hash(text: str) -> bytes:
    """20 bytes from 40 hexadecimal digits.

    Raises:
        BadTarget: anything else.
    """
    try:
        info_hash = bytes.fromhex(text)
    except ValueError:
        info_hash = b""
    if len(info_hash) != wire.INFO_HASH_BYTES or len(text) != 2 * wire.INFO_HASH_BYTES:
        raise BadTarget(f"bad info hash {text!r}: expected 40 hexadecimal digits")
    return info_hash


def resolve(host: str, port: int, family: int | None = None) -> tuple[int, tuple[str, int]]:
    """(IP version, numeric address and port) of a host, its first address of the IP version that is asked for.

    Raises:
        BadTarget: it has none.
    """
    wanted = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[family]
    try:
        found = socket.getaddrinfo(host, port, wanted, socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise BadTarget(f"cannot resolve {host!r}: {getattr(error, 'strerror', None) or error}") from None
    return (6 if found[0] == socket.AF_INET6 else 4), (str(found[4][0]), port)


def format_endpoint(compact: bytes) -> str:
    """`127.0.0.1:6881` or `[::1]:6881` of a compact endpoint."""
    address = ip_address(compact[:-2])
    port = int.from_bytes(compact[-2:], "big")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class TrackerClient:
    """One conversation with a tracker, from one socket.

    Args:
        family: IP version, 4 or 6.
        address: numeric address and port of the tracker.
        timeout: seconds for the whole conversation. An answer is waited for 1/15, 2/15, 4/15 and 8/15 of it.
    """

    def __init__(self, family: int, address: tuple[str, int], timeout: float = 15.0) -> None:
        self.family = family
        self._deadline = monotonic() + timeout
        self._patience = timeout / (2**_ATTEMPTS - 1)
        self._connection_id: bytes | None = None
        self._socket = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise NoAnswer(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def announce(self, request: AnnounceRequest) -> AnnounceResponse:
        """Announce once.

        Raises:
            TrackerRefused: with its words.
            NoAnswer: in time.
        """
        connection_id, transaction_id = self._connect(), _transaction_id()
        data = wire.encode_announce_request(connection_id, transaction_id, request)
        return self._ask(data, transaction_id, AnnounceResponse)

    def scrape(self, info_hashes: list[bytes]) -> ScrapeResponse:
        """The counts of swarms, in this order.

        Raises:
            TrackerRefused: with its words.
            NoAnswer: in time.
        """
        connection_id, transaction_id = self._connect(), _transaction_id()
        data = wire.encode_scrape_request(connection_id, transaction_id, info_hashes)
        return self._ask(data, transaction_id, ScrapeResponse)

    def _connect(self) -> bytes:
        if self._connection_id is None:
            transaction_id = _transaction_id()
            request = wire.encode_connect_request(transaction_id)
            self._connection_id = self._ask(request, transaction_id, ConnectResponse).connection_id
        return self._connection_id

    def _ask(self, data: bytes, transaction_id: int, expected: type[R]) -> R:
        reason = "no answer"
        for attempt in range(_ATTEMPTS):
            wait_until = min(self._deadline, monotonic() + self._patience * 2**attempt)
            try:
                self._socket.send(data)
                return self._receive(transaction_id, expected, wait_until)
            except TimeoutError:
                continue
            except OSError as error:  # nobody listens there: an answer at once, and not a better one later
                reason = error.strerror or str(error)
                break
        raise NoAnswer(reason)

    def _receive(self, transaction_id: int, expected: type[R], wait_until: float) -> R:
        """The answer to this transaction; others are strays. TimeoutError when it does not come."""
        while True:
            left = wait_until - monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                response = wire.decode_response(self._socket.recv(_RECEIVE_BYTES))
            except WireError:
                continue
            if response.transaction_id != transaction_id:
                continue
            if isinstance(response, expected):
                return response
            if isinstance(response, wire.ErrorResponse):
                raise TrackerRefused(response.message)
            raise NoAnswer(f"answered with {type(response).__name__}")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `announce` and `scrape` to the command line."""
    announce = commands.add_parser("announce", help="announce once to any UDP tracker and show its answer")
    announce.add_argument("url", help="udp://host:port")
    announce.add_argument("info_hash", metavar="INFOHASH", help="40 hexadecimal digits")
    announce.add_argument("--event", choices=[event.name.lower() for event in Event], default="none")
    announce.add_argument(
        "--left", type=_integer(0, 2**64 - 1), default=1, help="bytes left to download; 0 = seeder (default: 1)"
    )
    announce.add_argument(
        "--num-want", type=_integer(-1, 2**31 - 1), default=-1, help="peers wanted; -1 = as the tracker likes"
    )
    announce.add_argument(
        "--port", type=_integer(0, 65535), default=6881, help="the port we say we listen on (default: 6881)"
    )
    _add_common(announce)
    announce.set_defaults(run=_run_announce)

    scrape = commands.add_parser("scrape", help="ask any UDP tracker for the counts of swarms")
    scrape.add_argument("url", help="udp://host:port")
    scrape.add_argument("info_hashes", metavar="INFOHASH", nargs="+", help="40 hexadecimal digits each")
    _add_common(scrape)
    scrape.set_defaults(run=_run_scrape)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=_seconds, default=15.0, help="seconds in all (default: %(default)g)")
    parser.add_argument("--family", type=int, choices=(4, 6), help="IP version, where the host has both")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}")
        return value

    parse.__name__ = "integer"  # argparse names it in "invalid integer value"
    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < inf:
        raise argparse.ArgumentTypeError("expected more than 0 seconds")
    return value


def _run_announce(args: argparse.Namespace) -> int:
    def ask(client: TrackerClient) -> tuple[dict[str, Any], Table]:
        request = AnnounceRequest(
            info_hash=info_hash,
            peer_id=b"-UT0100-" + secrets.token_bytes(12),
            downloaded=0,
            left=args.left,
            uploaded=0,
            event=Event[args.event.upper()],
            ip=bytes(4),
            key=secrets.randbits(32),
            num_want=args.num_want,
            port=args.port,
            options=wire.encode_url_data(args.url) if urlsplit(args.url).path else b"",
        )
        answer = client.announce(request)
        peers = [format_endpoint(peer) for peer in wire.split_peers(answer.peers, client.family)]
        table = Table("interval", "seeders", "leechers", "peers")
        table.add_row(f"{answer.interval} s", str(answer.seeders), str(answer.leechers), "\n".join(peers))
        fields = {"interval": answer.interval, "seeders": answer.seeders, "leechers": answer.leechers, "peers": peers}
        return fields, table

    try:
        info_hash = parse_info_hash(args.info_hash)
        return _converse(args, ask)
    except BadTarget as error:
        return _fail(str(error), 2)


def _run_scrape(args: argparse.Namespace) -> int:
    def ask(client: TrackerClient) -> tuple[dict[str, Any], Table]:
        rows = client.scrape(info_hashes).swarms
        if len(rows) != len(info_hashes):
            raise NoAnswer(f"{len(rows)} rows for {len(info_hashes)} info hashes")
        table = Table("info hash", "seeders", "leechers", "downloads")
        swarms = []
        for info_hash, row in zip(info_hashes, rows, strict=True):
            table.add_row(info_hash.hex(), str(row.seeders), str(row.leechers), str(row.downloads))
            swarms.append({"info_hash": info_hash.hex(), **row._asdict()})
        return {"swarms": swarms}, table

    try:
        info_hashes = [parse_info_hash(text) for text in args.info_hashes]
        return _converse(args, ask)
    except BadTarget as error:
        return _fail(str(error), 2)


def _converse(args: argparse.Namespace, ask: Callable[[TrackerClient], tuple[dict[str, Any], Table]]) -> int:
    """Print what `ask` learns from the tracker; the exit status.

    Raises:
        BadTarget: the URL.
    """
    family, address = resolve(*parse_url(args.url), args.family)
    try:
        with TrackerClient(family, address, args.timeout) as client:
            fields, table = ask(client)
    except TrackerRefused as error:
        return _fail(f"{args.url}: the tracker refuses: {error}", 1)
    except (NoAnswer, WireError) as error:
        return _fail(f"{args.url}: {error}", 1)
    if args.json:
        print(json.dumps(fields))
    else:
        Console().print(table)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"udptracker: {message}", file=sys.stderr)
    return status


def _transaction_id() -> int:
    return secrets.randbits(32)
