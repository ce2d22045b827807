"""Which peers an announce is answered with, out of what was read for its swarm or out of its sample. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from udptracker.storage.redis.layout import compact_endpoints
from udptracker.storage.redis.samples import Sample
from udptracker.swarm import AnnounceOperation, AnnounceResult, Role, compact_endpoint
from udptracker.wire import COMPACT_BYTES, split_peers

_LEECHER = Role.LEECHER


def choose(
    operation: AnnounceOperation, seeders: list[bytes], leechers: list[bytes], draw: Callable[[], float]
) -> bytes:
    """Compact endpoints for an announce out of random peer keys of its swarm, which may be more than it wants."""
    family, _, peer, role, _, want = operation
    if role is _LEECHER:
        chosen = _slice(seeders, want, draw)
        if len(chosen) < want and leechers:
            chosen = chosen + _slice(_without(leechers, peer), want - len(chosen), draw)
    else:
        chosen = _slice(_without(leechers, peer), want, draw)
    if not chosen:
        return b""
    peers = compact_endpoints(chosen, family)
    own = compact_endpoint(peer)
    if own in peers:  # the same endpoint under another peer id, or the same bytes by chance
        peers = b"".join([other for other in split_peers(peers, family) if other != own])
    return peers


def from_sample(sample: Sample, operation: AnnounceOperation, draw: Callable[[], float]) -> AnnounceResult:
    """The answer to an announce out of its swarm's sample."""
    want, own = operation.num_want, compact_endpoint(operation.peer)
    peers = b""
    if want and operation.role is _LEECHER:
        peers = sample.seeders_pool.sample(want, own, draw)
    room = want - len(peers) // COMPACT_BYTES[operation.family]
    if room > 0:
        peers += sample.leechers_pool.sample(room, own, draw)
    return AnnounceResult(sample.seeders, sample.leechers, peers)


def _slice(fields: list[bytes], count: int, draw: Callable[[], float]) -> list[bytes]:
    """`count` of the fields from a random offset on, around the end, or all."""
    size = len(fields)
    if count >= size:
        return fields
    start = int(draw() * size)
    chosen = fields[start : start + count]
    return chosen if len(chosen) == count else chosen + fields[: count - len(chosen)]


def _without(fields: list[bytes], peer: bytes) -> list[bytes]:
    if peer not in fields:
        return fields
    others = fields.copy()
    others.remove(peer)
    return others
