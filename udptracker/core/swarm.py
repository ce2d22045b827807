"""The storage vocabulary: what a tracker asks of a store, what it is told, and the packed peer key.

A swarm is the peers of one info hash in one IP family; families never mix. Operations and results are final classes
of few fields, since one of each is made for every request, and compiled code reads the fields of such a class directly.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, final

from udptracker.core.wire import COMPACT_BYTES, Event, SwarmStats

if TYPE_CHECKING:
    from mypy_extensions import i64  # what the command line loads does without it when it runs

IPV4: Final = 4
IPV6: Final = 6
FAMILIES: Final = (IPV4, IPV6)


class Role(IntEnum):
    """What a peer is in its swarm: one of the two at a time."""

    SEEDER = 0
    LEECHER = 1


SEEDER: Final = Role.SEEDER
LEECHER: Final = Role.LEECHER
"""As constants of a module: see `wire.STOPPED`."""

PEER_KEY_BYTES: Final = {IPV4: 26, IPV6: 38}
"""Bytes of a peer key by family: 20 of peer id, 2 of big-endian port, 4 or 16 of address."""

_PEER_KEY = {IPV4: Struct(">20sH4s"), IPV6: Struct(">20sH16s")}

_UNREACHABLE: Final = (1).to_bytes(2, "big")

pack_peer_v4 = _PEER_KEY[IPV4].pack
pack_peer_v6 = _PEER_KEY[IPV6].pack
"""(peer id, port, packed address) -> peer key."""


def compact_endpoint(peer: bytes) -> bytes:
    """The endpoint of a peer key as a response carries it: address, then port (BEP 15)."""
    return peer[22:] + peer[20:22]


def without_endpoint(peers: bytes, endpoint: bytes, family: int) -> bytes:
    """Joined compact endpoints, no two alike, less this one if it is among them."""
    at = peers.find(endpoint)
    if at < 0:
        return peers
    width = COMPACT_BYTES[family]
    while at % width:  # the same bytes across two others
        at = peers.find(endpoint, at + 1)
        if at < 0:
            return peers
    return peers[:at] + peers[at + width :]


def without_unreachable(peers: bytes, family: int) -> bytes:
    """Joined compact endpoints, less those of port 1: that is what clients say which cannot be connected to, since
    trackers refuse 0 (libtorrent does behind a proxy). They can still connect to others, and so they count."""
    if 1 not in peers:
        return peers
    width = COMPACT_BYTES[family]
    if 0 not in peers[width - 2 :: width]:  # of ports below 256 there are few; mypyc takes a slice kept for an index
        return peers
    endpoints = [peers[at : at + width] for at in range(0, len(peers), width)]
    return b"".join([endpoint for endpoint in endpoints if not endpoint.endswith(_UNREACHABLE)])


def keyed(info_hash: bytes) -> i64:
    """A number for an info hash that only this process knows: who makes torrents may choose their hashes."""
    return hash(info_hash)


def place_of(info_hash: bytes, places: int) -> int:
    """Which of several workers has a swarm. The program in `net.steering` reckons the same."""
    return int.from_bytes(info_hash[:4], "big") % places


class Counts(NamedTuple):
    """How many peers of a swarm are in a store, those among them that have left and were not removed yet; downloads
    where they were asked for."""

    family: int
    info_hash: bytes
    seeders: int
    leechers: int
    downloads: int | None = None


class StoreError(Exception):
    """One operation failed; the text is for the log of an operator, never for a client."""


class StoreUnavailable(StoreError):
    """The store does not answer, or refuses every write: gone, too slow, loading, read-only, out of memory."""


@final
class AnnounceOperation:
    """One peer's news about itself, and what it wants in return.

    `info_hash` is 20 bytes, `peer` a peer key. `event` is `STOPPED` to leave, whatever `role` says. `num_want` is the
    most peers to return, already clamped to what fits the answer.
    """

    __slots__ = ("event", "family", "info_hash", "num_want", "peer", "role")

    def __init__(self, family: int, info_hash: bytes, peer: bytes, role: Role, event: Event, num_want: int) -> None:
        self.family = family
        self.info_hash = info_hash
        self.peer = peer
        self.role = role
        self.event = event
        self.num_want = num_want

    def wanting(self, num_want: int) -> AnnounceOperation:
        """The same news with another number of peers wanted."""
        return AnnounceOperation(self.family, self.info_hash, self.peer, self.role, self.event, num_want)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnnounceOperation) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"AnnounceOperation{self._fields()!r}"

    def _fields(self) -> tuple[int, bytes, bytes, Role, Event, int]:
        return self.family, self.info_hash, self.peer, self.role, self.event, self.num_want


@final
class ScrapeOperation:
    """The counts of some swarms of one family, in this order, repeats repeated."""

    __slots__ = ("family", "info_hashes")

    def __init__(self, family: int, info_hashes: list[bytes]) -> None:
        self.family = family
        self.info_hashes = info_hashes

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ScrapeOperation) and self.family == other.family and self.info_hashes == other.info_hashes
        )

    def __hash__(self) -> int:
        return hash((self.family, *self.info_hashes))

    def __repr__(self) -> str:
        return f"ScrapeOperation({self.family!r}, {self.info_hashes!r})"


@final
class AnnounceResult:
    """Counts after the announce, announcer included, and a random choice of other peers, compact and joined."""

    __slots__ = ("leechers", "peers", "seeders")

    def __init__(self, seeders: int, leechers: int, peers: bytes) -> None:
        self.seeders = seeders
        self.leechers = leechers
        self.peers = peers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnnounceResult) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return f"AnnounceResult{self._fields()!r}"

    def _fields(self) -> tuple[int, int, bytes]:
        return self.seeders, self.leechers, self.peers


@final
class ScrapeResult:
    """The counts of each swarm that was asked for: seeders, downloads, leechers of the first, then of the next, flat
    and in the order of the wire (BEP 15, "scrape response"), so that all are packed in one step."""

    __slots__ = ("counts",)

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def rows(self) -> list[SwarmStats]:
        """The same, a row for each swarm."""
        counts = self.counts
        return [SwarmStats(*row) for row in zip(counts[::3], counts[1::3], counts[2::3], strict=True)]

    def __repr__(self) -> str:
        return f"ScrapeResult({self.counts!r})"


Operation = AnnounceOperation | ScrapeOperation
Result = AnnounceResult | ScrapeResult


class Totals(NamedTuple):
    """Everything a store holds of one family. `swarms` are those with at least one peer, or on Redis those that the
    shared counter counts: info hashes with a seeder."""

    swarms: int
    seeders: int
    leechers: int
