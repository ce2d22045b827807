"""The storage vocabulary: what a tracker asks of a store, what it is told, and the packed peer key.

A swarm is the peers of one info hash in one IP family; families never mix. All names are of plain immutable
tuples, since one of each is made for every request.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from udptracker.core.wire import COMPACT_BYTES, Event, SwarmStats

IPV4: Final = 4
IPV6: Final = 6
FAMILIES: Final = (IPV4, IPV6)


class Role(IntEnum):
    """What a peer is in its swarm: one of the two at a time."""

    SEEDER = 0
    LEECHER = 1


PEER_KEY_BYTES: Final = {IPV4: 26, IPV6: 38}
"""Bytes of a peer key by family: 20 of peer id, 2 of big-endian port, 4 or 16 of address."""

_PEER_KEY = {IPV4: Struct(">20sH4s"), IPV6: Struct(">20sH16s")}

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


class StoreError(Exception):
    """One operation failed; the text is for the log of an operator, never for a client."""


class StoreUnavailable(StoreError):
    """The store does not answer, or refuses every write: gone, too slow, loading, read-only, out of memory."""


class AnnounceOperation(NamedTuple):
    """One peer's news about itself, and what it wants in return.

    `info_hash` is 20 bytes, `peer` a peer key. `event` is `STOPPED` to leave, whatever `role` says. `num_want` is the
    most peers to return, already clamped to what fits the answer.
    """

    family: int
    info_hash: bytes
    peer: bytes
    role: Role
    event: Event
    num_want: int


class ScrapeOperation(NamedTuple):
    """The counts of some swarms of one family, in this order, repeats repeated."""

    family: int
    info_hashes: list[bytes]


class AnnounceResult(NamedTuple):
    """Counts after the announce, announcer included, and a random choice of other peers, compact and joined."""

    seeders: int
    leechers: int
    peers: bytes


ScrapeResult = list[SwarmStats]
Operation = AnnounceOperation | ScrapeOperation
Result = AnnounceResult | ScrapeResult


class Totals(NamedTuple):
    """Everything a store holds of one family. `swarms` are those with at least one peer, or on Redis those that the
    shared counter counts: info hashes with a seeder."""

    swarms: int
    seeders: int
    leechers: int
