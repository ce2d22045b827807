"""Which peers an announce is answered with, out of what was read for its swarm or out of its sample. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from udptracker.core.swarm import AnnounceOperation, AnnounceResult, Role, compact_endpoint, without_endpoint
from udptracker.core.wire import COMPACT_BYTES
from udptracker.storage.redis.samples import Sample

_LEECHER = Role.LEECHER

_new_tuple = tuple.__new__


def choose(
    operation: AnnounceOperation, seeders: list[bytes], leechers: list[bytes], draw: Callable[[], float]
) -> list[bytes]:
    """Peer keys for an announce out of random ones of its swarm, which may be more than it wants, for `cut`."""
    role, want = operation.role, operation.num_want
    # One more than wanted, where there is a chance that the announcer is among them.
    if role is not _LEECHER:
        return _slice(leechers, want + 1, draw)
    chosen = _slice(seeders, want, draw)
    if len(chosen) < want and leechers:
        chosen = chosen + _slice(leechers, want + 1 - len(chosen), draw)
    return chosen


def cut(peers: bytes, operation: AnnounceOperation) -> bytes:
    """The compact endpoints of what was chosen, without the announcer's, and as many as it wants."""
    family = operation.family
    others = without_endpoint(peers, compact_endpoint(operation.peer), family)
    return others[: operation.num_want * COMPACT_BYTES[family]]


def from_sample(sample: Sample, operation: AnnounceOperation, draw: Callable[[], float]) -> AnnounceResult:
    """The answer to an announce out of its swarm's sample."""
    family, _, peer, role, _, want = operation
    own = compact_endpoint(peer)
    peers = b""
    if want and role is _LEECHER:
        peers = sample.seeders_pool.sample(want, own, draw)
    room = want - len(peers) // COMPACT_BYTES[family]
    if room > 0:
        peers += sample.leechers_pool.sample(room, own, draw)
    return _new_tuple(AnnounceResult, (sample.seeders, sample.leechers, peers))


def _slice(fields: list[bytes], count: int, draw: Callable[[], float]) -> list[bytes]:
    """`count` of the fields from a random offset on, around the end, or all if there are fewer."""
    size = len(fields)
    if count > size:
        return fields
    start = int(draw() * size)
    chosen = fields[start : start + count]
    return chosen if len(chosen) == count else chosen + fields[: count - len(chosen)]
