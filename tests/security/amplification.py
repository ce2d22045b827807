"""How many bytes a tracker sends for those it is sent, over every kind of request, by real sockets.

`python -m tests.security.amplification` prints the table of docs/security.md. Nothing waits for silence: behind each
packet goes a scrape, and what comes before its answer, which is the last of a turn, is what the packet brought.
"""

from __future__ import annotations

import random
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.security.crowd import address
from tests.support.daemon import HOSTS, Daemon
from udptracker.core import wire
from udptracker.core.wire import PROTOCOL_ID, Action, AnnounceRequest, ConnectResponse, Event

_PEERS: Final = 300
"""In the swarms that are announced to: more than fit an answer."""
_HASH: Final = b"amplification-------"
_MARKER: Final = 0xFFFFFFFF
_LONGEST: Final = 1_500


class Kind(NamedTuple):
    """A kind of request: packets of it, made with a connection id that is valid or not, by IP version."""

    name: str
    proven: bool
    packets: Callable[[int, bytes], Sequence[bytes]]


class Row(NamedTuple):
    """The packet of a kind that brought most for its bytes; `packets` is how many were tried."""

    name: str
    proven: bool
    family: int
    packets: int
    sent: int
    received: int

    @property
    def ratio(self) -> float:
        return self.received / self.sent if self.sent else float(self.received > 0)


def _announce(connection_id: bytes, family: int = 4, **fields: Any) -> bytes:
    fixed = AnnounceRequest(_HASH, b"-UT0001-amplification"[:20], 0, 1, 0, Event.NONE, bytes(4), 0, -1, 6881)
    return wire.encode_announce_request(connection_id, 1, fixed._replace(**fields))


def _scrape(connection_id: bytes, hashes: int) -> bytes:
    return wire.encode_scrape_request(connection_id, 1, [_HASH] * hashes)


def _head(connection_id: bytes, action: int, length: int) -> bytes:
    return (connection_id + action.to_bytes(4, "big") + b"tid.").ljust(length, b"x")[:length]


def _garbage() -> list[bytes]:
    rng = random.Random(1)
    return [rng.randbytes(length) for length in range(0, _LONGEST, 7)]


_CUTS: Final = range(0, 130)
_OTHER_ACTIONS: Final = (3, 5, 255, 2**31, 2**32 - 1)

KINDS: Final = (
    Kind("connect", False, lambda family, _: [wire.encode_connect_request(1)]),
    Kind("connect with more behind it", False, lambda family, _: [wire.encode_connect_request(1) + bytes(82)]),
    Kind(
        "connect cut short or without the magic",
        False,
        lambda family, _: [
            *(wire.encode_connect_request(1)[:length] for length in range(16)),
            *(_head(PROTOCOL_ID[:7] + b"x", Action.CONNECT, length) for length in _CUTS),
        ],
    ),
    Kind("announce, bad id", False, lambda family, bad: [_announce(bad)]),
    Kind("announce of every length, bad id", False, lambda family, bad: [_announce(bad)[:n] for n in range(99)]),
    Kind("announce of opentracker's IPv6 kind, bad id", False, lambda family, bad: [_announce(bad, ip=bytes(16))]),
    Kind("announce with BEP 41 options, bad id", False, lambda family, bad: [_announce(bad, options=bytes(600))]),
    Kind("scrape of 1 to 74, bad id", False, lambda family, bad: [_scrape(bad, count) for count in (1, 2, 9, 74)]),
    Kind("scrape of every length, bad id", False, lambda family, bad: [_scrape(bad, 6)[:n] for n in _CUTS]),
    Kind(
        "unknown action of every length, bad id",
        False,
        lambda family, bad: [_head(bad, action, length) for action in _OTHER_ACTIONS for length in _CUTS],
    ),
    Kind("garbage of every seventh length", False, lambda family, _: _garbage()),
    Kind("announce, bad id, for the second time", False, lambda family, bad: [_announce(bad)]),
    Kind("announce, as many peers as default", True, lambda family, good: [_announce(good)]),
    Kind("announce, as many peers as are given out", True, lambda family, good: [_announce(good, num_want=5_000)]),
    Kind("announce, stopped", True, lambda family, good: [_announce(good, event=Event.STOPPED)]),
    Kind("announce without a port or with a bad event", True, lambda family, good: [_announce(good, port=0)]),
    Kind("announce cut short", True, lambda family, good: [_announce(good)[:n] for n in range(16, 98)]),
    Kind("scrape of 1 to 74", True, lambda family, good: [_scrape(good, count) for count in (1, 2, 9, 74)]),
    Kind("scrape cut short", True, lambda family, good: [_scrape(good, 1)[:n] for n in range(16, 36)]),
    Kind("unknown action", True, lambda family, good: [_head(good, action, 16) for action in _OTHER_ACTIONS]),
)


class _Asker:
    """Sends packets, and counts the bytes that come back."""

    def __init__(self, daemon: Daemon, family: int, source: str) -> None:
        self._socket = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        self._socket.connect((HOSTS[family], daemon.port))
        self._socket.settimeout(20.0)
        self._socket.send(wire.encode_connect_request(_MARKER))
        answer = wire.decode_response(self._socket.recv(65535))
        assert isinstance(answer, ConnectResponse)
        self.connection_id = answer.connection_id

    def close(self) -> None:
        self._socket.close()

    def bytes_for(self, packet: bytes) -> int:
        """Bytes that a packet brings."""
        self._socket.send(packet)
        self._socket.send(wire.encode_scrape_request(self.connection_id, _MARKER, [bytes(20)]))
        received = 0
        while wire.decode_response(data := self._socket.recv(65535)).transaction_id != _MARKER:
            received += len(data)
        return received


def measure(directory: Path) -> Iterator[Row]:
    """Every kind over both families, each unproven one to a tracker that has not met its sender yet."""
    with Daemon(directory) as daemon:
        daemon.start()
        for family, host in HOSTS.items():
            with closing(_Asker(daemon, family, host)) as asker:
                for port in range(2, 2 + _PEERS):
                    asker.bytes_for(_announce(asker.connection_id, port=port, event=Event.STARTED))
        number = 0
        for kind in KINDS:
            worst = Row(kind.name, kind.proven, 4, 0, 1, 0)
            for packet in kind.packets(4, b"bad id.."):
                number += 1
                with closing(_Asker(daemon, 4, socket.inet_ntoa(address(number)))) as asker:
                    worst = _worse(worst, packet, asker, 4, kind)
            yield worst
        with closing(_Asker(daemon, 6, HOSTS[6])) as asker:
            for kind in KINDS:
                if kind.proven:
                    worst = Row(kind.name, True, 6, 0, 1, 0)
                    for packet in kind.packets(6, b"bad id.."):
                        worst = _worse(worst, packet, asker, 6, kind)
                    yield worst
    for kind in KINDS:
        if not kind.proven:  # there is one IPv6 address of loopback, so each kind is sent to a tracker of its own
            with Daemon(directory) as daemon:
                daemon.start()
                with closing(_Asker(daemon, 6, HOSTS[6])) as asker:
                    worst = Row(kind.name, False, 6, 0, 1, 0)
                    for packet in kind.packets(6, b"bad id.."):
                        worst = _worse(worst, packet, asker, 6, kind)
                    yield worst


def _worse(worst: Row, packet: bytes, asker: _Asker, family: int, kind: Kind) -> Row:
    if kind.proven:
        packet = asker.connection_id + packet[8:]
    received = asker.bytes_for(packet)
    if "second time" in kind.name:
        received = asker.bytes_for(packet)
    row = Row(kind.name, kind.proven, family, worst.packets + 1, max(len(packet), 1), received)
    return row if row.ratio > worst.ratio or not worst.packets else worst._replace(packets=row.packets)


def table(rows: Sequence[Row]) -> str:
    """Of docs/security.md: a line for each kind, the packet with most bytes out for each byte in."""
    lines = [
        "| Sender | Request | Packets tried | IPv4: bytes in → out | Ratio | IPv6: bytes in → out | Ratio |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for kind in KINDS:
        v4, v6 = (next(row for row in rows if (row.name, row.family) == (kind.name, family)) for family in (4, 6))
        cells = [f"{row.sent} → {row.received} | {row.ratio:.2f}" for row in (v4, v6)]
        sender = "proven" if kind.proven else "not proven"
        lines.append(f"| {sender} | {kind.name} | {v4.packets} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(table(list(measure(Path(scratch)))), end="")
