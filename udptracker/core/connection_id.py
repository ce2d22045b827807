"""Connection ids without state (BEP 15, "Connect": they keep a sender from announcing for an address it lacks).

An id is 8 bytes: the Unix time it was issued as 4 big-endian bytes, then the first 4 bytes of
HMAC-SHA256(key, those 4 bytes + the packed source address). It is chihaya's scheme to the byte, so ids are valid
on every node, worker and port that shares the key, chihaya's included.

Threat model. An attacker who cannot receive at an address must guess 32 bits for each datagram it wants believed
for it, and each wrong guess is answered with fewer bytes than it brought or not at all. One who can receive there
may keep using an id for its lifetime, from any port, which BEP 15 accepts. The port is not hashed, since clients
behind a NAT announce from another port than they connected from. Comparison takes constant time.

What was issued or found valid is remembered for once or twice its lifetime, up to a bound, since most ids are seen
again by whoever issued them: it saves the HMAC of that announce. The memory decides nothing that the HMAC would not,
and time is checked all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from hmac import compare_digest
from math import ceil, floor

from udptracker.core.recent import Recent

_BLOCK = hashlib.sha256().block_size
_REMEMBERED = 32_768
"""Ids in each of two sets."""


class ConnectionIds:
    """Issues and checks ids.

    Args:
        keys: the first issues, all verify, so that a key can be rotated without refusing anyone.
        lifetime: seconds an id stays valid.
        max_clock_skew: seconds an id may lie in the future, for a node whose clock runs ahead.
    """

    def __init__(self, keys: Sequence[bytes], lifetime: float = 120.0, max_clock_skew: float = 10.0) -> None:
        self.replace_keys(keys)
        self._lifetime = lifetime
        self._max_clock_skew = max_clock_skew
        self._remembered = Recent(max(int(lifetime), 1), _REMEMBERED)
        self._now = -1.0
        """When, in Unix seconds, an id was checked last; between which two all that hold then are in order."""
        self._first = self._last = b""

    def replace_keys(self, keys: Sequence[bytes]) -> None:
        """Take other keys, at least one; what is remembered of an id that was valid stays until it is too old."""
        if not keys:
            raise ValueError("at least one key")
        self._macs = [_keyed(key) for key in keys]

    def issue(self, address: bytes, now: float) -> bytes:
        """The id for a packed address (4 or 16 bytes) at `now`, Unix seconds."""
        issued = (int(now) & 0xFFFFFFFF).to_bytes(4, "big")
        inner, outer = self._macs[0]
        inner = inner.copy()
        inner.update(issued + address)
        outer = outer.copy()
        outer.update(inner.digest())
        connection_id = issued + outer.digest()[:4]
        self._remembered.is_news(connection_id + address, now)
        return connection_id

    def valid(self, connection_id: bytes, address: bytes, now: float) -> bool:
        """Whether the id was issued to this packed address, and neither too long ago nor in the future."""
        if now != self._now:  # many are checked at one time
            self._now = now
            self._first = _packed(ceil(now - self._lifetime))
            self._last = _packed(floor(now + self._max_clock_skew)) + b"\xff\xff\xff\xff"
        if connection_id < self._first or connection_id > self._last:
            return False
        known = connection_id + address
        if self._remembered.has(known):
            return True
        message = connection_id[:4] + address
        for inner, outer in self._macs:
            inner = inner.copy()
            inner.update(message)
            outer = outer.copy()
            outer.update(inner.digest())
            if compare_digest(outer.digest()[:4], connection_id[4:]):
                self._remembered.is_news(known, now)
                return True
        return False


def _packed(second: int) -> bytes:
    """A second of the Unix time as an id has it; the nearest there is, if it is none of those."""
    return min(max(second, 0), 0xFFFFFFFF).to_bytes(4, "big")


def _keyed(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """The two hash states of HMAC (RFC 2104) with the key absorbed: copying them costs a third of `hmac.digest`."""
    if len(key) > _BLOCK:
        key = hashlib.sha256(key).digest()
    key = key.ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))
    return inner, outer
