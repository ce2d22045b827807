"""A stand-in for the Redis storage of a chihaya node: the commands that it sends, and what it does not forgive.

It sends what chihaya's store sends, transaction by transaction, and reads what it finds as strictly: a field that is
not a peer key, or a value that is not a decimal number, ends the call with an error, as it ends chihaya's.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable
from typing import Final, NamedTuple, cast

import redis

_PEER_BYTES: Final = {4: 26, 6: 38}


class ChihayaPeer(NamedTuple):
    """A peer as chihaya has it: the address is packed."""

    id: bytes
    port: int
    address: bytes

    def key(self) -> bytes:
        """Its field in a swarm hash."""
        return self.id + struct.pack(">H", self.port) + self.address


class ChihayaNode:
    """One node.

    Args:
        client: of the Redis it shares; closed by whoever made it.
        clock: Unix nanoseconds.
    """

    def __init__(self, client: redis.Redis, clock: Callable[[], int]) -> None:
        self._client = client
        self._clock = clock

    def put_seeder(self, family: int, info_hash: bytes, peer: ChihayaPeer) -> None:
        name = _name(family, "S", info_hash)
        transaction = self._client.pipeline(transaction=True)
        transaction.hset(name, peer.key(), self._clock())
        transaction.hset(f"IPv{family}", name, str(self._clock()))
        new_peer, new_name = transaction.execute()
        if new_peer:
            self._client.incr(f"IPv{family}_S_count")
        if new_name:
            self._client.incr(f"IPv{family}_infohash_count")

    def put_leecher(self, family: int, info_hash: bytes, peer: ChihayaPeer) -> None:
        name = _name(family, "L", info_hash)
        transaction = self._client.pipeline(transaction=True)
        transaction.hset(name, peer.key(), self._clock())
        transaction.hset(f"IPv{family}", name, str(self._clock()))
        if transaction.execute()[0]:
            self._client.incr(f"IPv{family}_L_count")

    def delete_seeder(self, family: int, info_hash: bytes, peer: ChihayaPeer) -> bool:
        """Whether it was there."""
        return self._delete(family, "S", info_hash, peer)

    def delete_leecher(self, family: int, info_hash: bytes, peer: ChihayaPeer) -> bool:
        """Whether it was there."""
        return self._delete(family, "L", info_hash, peer)

    def graduate_leecher(self, family: int, info_hash: bytes, peer: ChihayaPeer) -> None:
        seeders, leechers = _name(family, "S", info_hash), _name(family, "L", info_hash)
        transaction = self._client.pipeline(transaction=True)
        transaction.hdel(leechers, peer.key())
        transaction.hset(seeders, peer.key(), self._clock())
        transaction.hset(f"IPv{family}", seeders, str(self._clock()))
        left, joined, new_name = transaction.execute()
        if left:
            self._client.decr(f"IPv{family}_L_count")
        if joined:
            self._client.incr(f"IPv{family}_S_count")
        if new_name:
            self._client.incr(f"IPv{family}_infohash_count")

    def announce_peers(self, family: int, info_hash: bytes, seeder: bool, num_want: int) -> list[ChihayaPeer]:
        """Leechers for a seeder; seeders, then leechers, for a leecher.

        Raises:
            ValueError: a field is not a peer key; chihaya panics.
        """
        leechers, seeders = (
            [
                _decode(field, family)
                for field in cast(list[bytes], self._client.hkeys(_name(family, letter, info_hash)))
            ]
            for letter in "LS"
        )
        return (leechers if seeder else seeders + leechers)[:num_want]

    def scrape(self, family: int, info_hash: bytes) -> tuple[int, int]:
        """(seeders, leechers)."""
        complete, incomplete = (self._client.hlen(_name(family, letter, info_hash)) for letter in "SL")
        return complete, incomplete

    def collect_garbage(self, cutoff: int) -> int:
        """Remove the peers last heard of at `cutoff` or before; how many.

        Raises:
            ValueError: a value is not a number; the run ends there.
        """
        return sum(
            self._collect_swarm(family, name.decode(), cutoff)
            for family in _PEER_BYTES
            for name in cast(list[bytes], self._client.hkeys(f"IPv{family}"))
        )

    def _delete(self, family: int, letter: str, info_hash: bytes, peer: ChihayaPeer) -> bool:
        name = _name(family, letter, info_hash)
        if not self._client.hdel(name, peer.key()):
            return False
        self._client.decr(f"IPv{family}_{letter}_count")
        return True

    def _collect_swarm(self, family: int, name: str, cutoff: int) -> int:
        seeders = name.startswith(f"IPv{family}_S_")
        removed = 0
        for field, value in cast(dict[bytes, bytes], self._client.hgetall(name)).items():
            _decode(field, family)
            if _parse_int(value) <= cutoff:
                removed += self._client.hdel(name, field)
        if removed:
            self._client.decrby(f"IPv{family}_{'S' if seeders else 'L'}_count", removed)
        transaction = self._client.pipeline(transaction=True)
        transaction.watch(name)  # type: ignore[no-untyped-call]  # as redis-py ships it
        if not transaction.hlen(name):  # at once, since the transaction has not begun
            transaction.multi()
            transaction.hdel(f"IPv{family}", name)
            if seeders:
                transaction.decr(f"IPv{family}_infohash_count")
            with contextlib.suppress(redis.WatchError):  # the swarm came alive
                transaction.execute()
        transaction.reset()
        return removed


def _name(family: int, letter: str, info_hash: bytes) -> str:
    return f"IPv{family}_{letter}_{info_hash.hex()}"


def _decode(field: bytes, family: int) -> ChihayaPeer:
    if len(field) != _PEER_BYTES[family]:
        raise ValueError(f"a peer key of {len(field)} bytes in an IPv{family} swarm")
    return ChihayaPeer(field[:20], int.from_bytes(field[20:22], "big"), field[22:])


def _parse_int(value: bytes) -> int:
    if not re.fullmatch(rb"[+-]?[0-9]{1,19}", value):
        raise ValueError(f"no decimal number: {value!r}")
    return int(value)
