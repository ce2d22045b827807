"""BEP 15 and BEP 41: bytes <-> messages, in both directions, with no I/O and no state.

The server half decodes requests and encodes responses; the client half does the reverse and serves the packet
generator, the one-shot client and the tests. Every decoder takes any bytes at any length and either returns a
message or raises `WireError`; any other exception is a bug.

A datagram is read in two steps, because a tracker must look at the connection id before it believes the rest:
`decode_head` reads the 16 bytes that all requests share, `decode_announce` / `decode_scrape` what follows. The tracker
itself reads only what it needs, by `ANNOUNCE_NEWS`, and answers with the action and transaction id as they came: the
eight bytes of a response's head are those from 8 to 16 of its request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct, pack
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

PROTOCOL_ID: Final = 0x41727101980.to_bytes(8, "big")
"""The magic in place of a connection id in a connect request (BEP 15, "connect request")."""

MIN_REQUEST_BYTES: Final = 16
MAX_PAYLOAD_IPV4: Final = 1472
MAX_PAYLOAD_IPV6: Final = 1452
"""UDP payload bytes that fit one Ethernet frame of 1500 bytes unfragmented, by family."""

INFO_HASH_BYTES: Final = 20
PEER_ID_BYTES: Final = 20
COMPACT_BYTES: Final = {4: 6, 6: 18}
"""Bytes of one peer in an announce response by IP version: packed address, then big-endian port."""


class Action(IntEnum):
    """The action field (BEP 15). `ANNOUNCE_V6` is opentracker's announce with a 16-byte address field."""

    CONNECT = 0
    ANNOUNCE = 1
    SCRAPE = 2
    ERROR = 3
    ANNOUNCE_V6 = 4


class Event(IntEnum):
    """The event field of an announce request (BEP 15), a whole 32-bit number."""

    NONE = 0
    COMPLETED = 1
    STARTED = 2
    STOPPED = 3


EVENTS: Final = list(Event)
"""The event by its number; others are no event."""

NO_EVENT: Final = Event.NONE
COMPLETED: Final = Event.COMPLETED
STARTED: Final = Event.STARTED
STOPPED: Final = Event.STOPPED
"""Constants of a module cost compiled code nothing; members of an enum are looked up each time."""


class WireError(ValueError):
    """Bytes that are not the message they should be. `str()` is the text a client may be told."""


MALFORMED: Final = "malformed packet"


class Head(NamedTuple):
    """What every request starts with: 8 bytes of connection id, the action, the client's transaction id."""

    connection_id: bytes
    action: int
    transaction_id: int


class AnnounceRequest(NamedTuple):
    """An announce request after its head (BEP 15, "IPv4 announce request").

    `info_hash` and `peer_id` are 20 bytes. `downloaded`, `left` and `uploaded` are unsigned 64 bit. `event` is the
    raw field: see `Event`. `ip` is the packed address field (4 bytes, 16 for `Action.ANNOUNCE_V6`), zeros for
    "mine". `num_want` is signed, -1 for "you choose". `options` are the raw BEP 41 bytes after the fixed part.
    """

    info_hash: bytes
    peer_id: bytes
    downloaded: int
    left: int
    uploaded: int
    event: int
    ip: bytes
    key: int
    num_want: int
    port: int
    options: bytes = b""


class ConnectResponse(NamedTuple):
    """A connect response: the connection id is 8 bytes."""

    transaction_id: int
    connection_id: bytes


class AnnounceResponse(NamedTuple):
    """An announce response. `interval` is in seconds; `peers` are the compact endpoints, see `split_peers`."""

    transaction_id: int
    interval: int
    leechers: int
    seeders: int
    peers: bytes


class SwarmStats(NamedTuple):
    """One row of a scrape response, in the order of the wire."""

    seeders: int
    downloads: int
    leechers: int


class ScrapeResponse(NamedTuple):
    """A scrape response: a row for each info hash asked for, in the order of the request."""

    transaction_id: int
    swarms: tuple[SwarmStats, ...]


class ErrorResponse(NamedTuple):
    """A refusal, with the tracker's words."""

    transaction_id: int
    message: str


Response = ConnectResponse | AnnounceResponse | ScrapeResponse | ErrorResponse

_HEAD = Struct(">8sII")
_ANNOUNCE = Struct(">16x20s20sQQQI4sIiH")
_ANNOUNCE_V6 = Struct(">16x20s20sQQQI16sIiH")
_ANNOUNCE_REQUEST = Struct(">8sII20s20sQQQI4sIiH")
_ANNOUNCE_V6_REQUEST = Struct(">8sII20s20sQQQI16sIiH")
_CONNECT_RESPONSE = Struct(">II8s")
_ANNOUNCE_RESPONSE = Struct(">IIIII")
_RESPONSE_HEAD = Struct(">II")
_SWARM_STATS = Struct(">III")

_pack_announce_response = Struct(">8sIII").pack
_ERROR_ACTION: Final = bytes((0, 0, 0, 3))

ANNOUNCE_REQUEST_BYTES: Final = _ANNOUNCE.size
ANNOUNCE_V6_REQUEST_BYTES: Final = _ANNOUNCE_V6.size
ANNOUNCE_RESPONSE_BYTES: Final = _ANNOUNCE_RESPONSE.size

# ---------------------------------------------------------------------------------------------- server half

CONNECT_ACTION: Final = bytes((0, 0, 0, 0))
ANNOUNCE_ACTION: Final = bytes((0, 0, 0, 1))
SCRAPE_ACTION: Final = bytes((0, 0, 0, 2))
ANNOUNCE_V6_ACTION: Final = bytes((0, 0, 0, 4))
"""The action field of a request as it is on the wire, bytes 8 to 12."""

_ReadNews = Callable[[bytes], tuple[bytes, bytes, bytes, int, int, bytes]]

ANNOUNCE_NEWS: Final[_ReadNews] = Struct(">16x20s20s8x8s8xI8xi2s").unpack_from
"""(info hash, peer id, left, event, num_want, port) of an announce known to be long enough. All but `event` and
`num_want` are bytes as they came: the tracker compares, joins and passes them on, and none of that needs a number."""

ANNOUNCE_V6_NEWS: Final[_ReadNews] = Struct(">16x20s20s8x8s8xI20xi2s").unpack_from
"""The same of an `Action.ANNOUNCE_V6`."""

_TRANSFERRED = Struct(">56xQQQ").unpack_from


def decode_head(data: bytes) -> Head:
    """The head of a request (BEP 15: "packets less than 16 bytes are ignored").

    Raises:
        WireError: under 16 bytes.
    """
    if len(data) < MIN_REQUEST_BYTES:
        raise WireError(MALFORMED)
    return Head(*_HEAD.unpack_from(data))


def decode_announce(data: bytes, action: int = Action.ANNOUNCE) -> AnnounceRequest:
    """An announce of 98 bytes or more (110 for `Action.ANNOUNCE_V6`), whatever follows the fixed part.

    Raises:
        WireError: too short.
    """
    layout = _ANNOUNCE if action == Action.ANNOUNCE else _ANNOUNCE_V6
    size = layout.size
    if len(data) < size:
        raise WireError(MALFORMED)
    return AnnounceRequest._make((*layout.unpack_from(data), data[size:]))


def transferred(data: bytes) -> tuple[int, int, int]:
    """Bytes (downloaded, left, uploaded) of an announce of either kind, known to be long enough."""
    downloaded, left, uploaded = _TRANSFERRED(data)
    return downloaded, left, uploaded


def announced_ip(data: bytes) -> bytes:
    """The packed address field of an announce of either kind, known to be long enough."""
    return data[84:100] if data[8:12] == ANNOUNCE_V6_ACTION else data[84:88]


def decode_scrape(data: bytes) -> list[bytes]:
    """The info hashes of a scrape, in order, repeated ones repeated.

    Raises:
        WireError: none, or a body that is not a multiple of 20 bytes.
    """
    body = len(data) - MIN_REQUEST_BYTES
    if body <= 0 or body % INFO_HASH_BYTES:
        raise WireError(MALFORMED)
    return [data[at : at + INFO_HASH_BYTES] for at in range(MIN_REQUEST_BYTES, len(data), INFO_HASH_BYTES)]


def response_head(action: int, transaction_id: int) -> bytes:
    """The eight bytes that every response begins with."""
    return _RESPONSE_HEAD.pack(action, transaction_id)


def encode_connect_response(head: bytes, connection_id: bytes) -> bytes:
    """Exactly 16 bytes, from a `response_head`."""
    return head + connection_id


def encode_announce_response(head: bytes, interval: int, leechers: int, seeders: int, peers: bytes) -> bytes:
    """`peers` are compact endpoints, joined; `interval` is in seconds.

    Raises:
        struct.error: a number that is not of 32 bits.
    """
    return _pack_announce_response(head, interval, leechers, seeders) + peers


def encode_scrape_response(head: bytes, counts: Sequence[int]) -> bytes:
    """`counts` are seeders, downloads, leechers of one swarm after the other.

    Raises:
        struct.error: a number that is not of 32 bits.
    """
    return head + pack(f">{len(counts)}I", *counts)


def encode_error(transaction_id: bytes, message: str) -> bytes:
    """A refusal, from the 4 bytes of the request's transaction id; the message is NUL-terminated as chihaya's is,
    because clients exist that read it as a C string."""
    return _ERROR_ACTION + transaction_id + message.encode() + b"\0"


def url_data(options: bytes) -> SplitResult:
    """Path and query of the announce URL from the BEP 41 options, the URL data of several chunks joined.

    Unknown option types are skipped by their length and a truncated option ends the list: an announce is not
    refused for its options.
    """
    url = bytearray()
    at, end = 0, len(options)
    while at < end:
        kind = options[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= end or at + 2 + options[at + 1] > end:
            break
        stop = at + 2 + options[at + 1]
        if kind == 2:
            url += options[at + 2 : stop]
        at = stop
    path, _, query = url.decode("latin-1").partition("?")
    return SplitResult("", "", path, query, "")


# ---------------------------------------------------------------------------------------------- client half


def encode_connect_request(transaction_id: int) -> bytes:
    """A connect request: 16 bytes."""
    return _HEAD.pack(PROTOCOL_ID, Action.CONNECT, transaction_id)


def encode_announce_request(connection_id: bytes, transaction_id: int, request: AnnounceRequest) -> bytes:
    """An announce request; with a 16-byte `request.ip` it is the `Action.ANNOUNCE_V6` of opentracker."""
    if len(request.ip) == 16:
        layout, action = _ANNOUNCE_V6_REQUEST, Action.ANNOUNCE_V6
    else:
        layout, action = _ANNOUNCE_REQUEST, Action.ANNOUNCE
    return layout.pack(connection_id, action, transaction_id, *request[:10]) + request.options


def encode_scrape_request(connection_id: bytes, transaction_id: int, info_hashes: Sequence[bytes]) -> bytes:
    """A scrape request for 20-byte info hashes."""
    return _HEAD.pack(connection_id, Action.SCRAPE, transaction_id) + b"".join(info_hashes)


def encode_url_data(url: str) -> bytes:
    """BEP 41 options that carry the path and query of `url` (an announce URL), in chunks of up to 255 bytes."""
    parts = urlsplit(url)
    raw = (parts.path + ("?" + parts.query if parts.query else "")).encode()
    chunks = [raw[at : at + 255] for at in range(0, len(raw), 255)]
    return b"".join(bytes((2, len(chunk))) + chunk for chunk in chunks) + b"\0"


def decode_response(data: bytes) -> Response:
    """Any response.

    Raises:
        WireError: not a response of BEP 15.
    """
    if len(data) < _RESPONSE_HEAD.size:
        raise WireError(MALFORMED)
    action, transaction_id = _RESPONSE_HEAD.unpack_from(data)
    if action == Action.CONNECT:
        if len(data) < _CONNECT_RESPONSE.size:
            raise WireError(MALFORMED)
        return ConnectResponse(transaction_id, data[8:16])
    if action in (Action.ANNOUNCE, Action.ANNOUNCE_V6):
        if len(data) < _ANNOUNCE_RESPONSE.size:
            raise WireError(MALFORMED)
        _, _, interval, leechers, seeders = _ANNOUNCE_RESPONSE.unpack_from(data)
        return AnnounceResponse(transaction_id, interval, leechers, seeders, data[_ANNOUNCE_RESPONSE.size :])
    if action == Action.SCRAPE:
        body = data[8:]
        if len(body) % _SWARM_STATS.size:
            raise WireError(MALFORMED)
        return ScrapeResponse(transaction_id, tuple(map(SwarmStats._make, _SWARM_STATS.iter_unpack(body))))
    if action == Action.ERROR:
        return ErrorResponse(transaction_id, data[8:].rstrip(b"\0").decode("utf-8", "replace"))
    raise WireError(MALFORMED)


def split_peers(peers: bytes, family: int) -> list[bytes]:
    """Compact endpoints one by one: 6 bytes each for IP version 4, 18 for 6.

    Raises:
        WireError: not a whole number of endpoints.
    """
    size = COMPACT_BYTES[family]
    if len(peers) % size:
        raise WireError(MALFORMED)
    return [peers[at : at + size] for at in range(0, len(peers), size)]
