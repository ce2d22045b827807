"""Which peers an announce is answered with, out of what was read of its swarm or out of its sample. No I/O.

Both are pools: endpoints packed one behind the other, in random order and none twice, for each role. An answer is a
slice of a pool from a random offset, so that every peer is as likely in it as any other and answers differ.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, final

from udptracker.core.swarm import (
    FAMILIES,
    LEECHER,
    PEER_KEY_BYTES,
    AnnounceOperation,
    without_endpoint,
)
from udptracker.core.wire import COMPACT_BYTES

_ADDRESS_THEN_PORT: Final = {family: (*range(22, PEER_KEY_BYTES[family]), 20, 21) for family in FAMILIES}
"""Where in a peer key the bytes of its compact endpoint are."""

_unpackers: Final[dict[int, dict[int, Callable[[bytes], tuple[bytes, ...]]]]] = {family: {} for family in FAMILIES}
"""By family and a number of compact endpoints, what takes that many apart: a quarter of the cost of slices."""
_MOST_UNPACKED: Final = 1_024
"""Endpoints up to which it is kept: 17 MB a family, should a store answer with every number of them."""


@final
class Pools:
    """The endpoints of a swarm, packed. `others` are the leechers that are no seeders, for who is given both."""

    __slots__ = ("leechers", "others", "seeders")

    def __init__(self, seeders: bytes, leechers: bytes, others: bytes) -> None:
        self.seeders = seeders
        self.leechers = leechers
        self.others = others


NO_POOLS: Final = Pools(b"", b"", b"")


def pack_endpoints(keys: list[bytes], family: int) -> bytes:
    """The compact endpoints of peer keys, joined, in the same order; nothing if not all keys are of one length.

    Byte after byte of all of them at once is half the cost of one after the other.
    """
    key_bytes, endpoint_bytes = PEER_KEY_BYTES[family], COMPACT_BYTES[family]
    joined = b"".join(keys)
    if len(joined) != len(keys) * key_bytes:
        return b""
    turned = bytearray(len(keys) * endpoint_bytes)
    for to, at in enumerate(_ADDRESS_THEN_PORT[family]):
        turned[to::endpoint_bytes] = joined[at::key_bytes]
    return bytes(turned)


def make_pools(packed: bytes, seeders: int, leechers: int, family: int) -> Pools:
    """Pools of the endpoints of so many seeders and then so many leechers, which may hold one several times."""
    count, known = seeders + leechers, _unpackers[family]
    unpack = known.get(count)
    if unpack is None:
        unpack = Struct(f"{COMPACT_BYTES[family]}s" * count).unpack
        if count <= _MOST_UNPACKED:
            known[count] = unpack
    endpoints = unpack(packed)
    end = seeders * COMPACT_BYTES[family]
    if len(set(endpoints)) == count:
        others = packed[end:]
        return Pools(packed[:end], others, others)
    of_seeders = dict.fromkeys(endpoints[:seeders])
    of_leechers = dict.fromkeys(endpoints[seeders:])
    others = b"".join([endpoint for endpoint in of_leechers if endpoint not in of_seeders])
    return Pools(b"".join(of_seeders), b"".join(of_leechers), others)


def choose(announce: AnnounceOperation, pools: Pools, draw: Callable[[], float]) -> bytes:
    """The endpoints for an announce, as many as it wants while there are so many: a seeder is given leechers, a
    leecher seeders first, and nobody itself."""
    if pools is NO_POOLS:
        return b""
    family, peer = announce.family, announce.peer
    width, own = COMPACT_BYTES[family], peer[22:] + peer[20:22]
    length = announce.num_want * width
    if announce.role is not LEECHER:
        return _slice(pools.leechers, length, own, family, width, draw)
    peers = _slice(pools.seeders, length, own, family, width, draw)
    room = length - len(peers)
    if room and pools.others:
        return peers + _slice(pools.others, room, own, family, width, draw)
    return peers


def _slice(pool: bytes, length: int, own: bytes, family: int, width: int, draw: Callable[[], float]) -> bytes:
    """So many bytes of a pool from a random endpoint on, around the end, or all, without `own`."""
    if len(pool) > length:
        start, end = int(draw() * (len(pool) // width)) * width, length + width
        chosen = pool[start : start + end]
        if len(chosen) < end:
            chosen += pool[: end - len(chosen)]
    else:
        chosen = pool
    if own in chosen:
        chosen = without_endpoint(chosen, own, family)
    return chosen if len(chosen) <= length else chosen[:length]
