"""`interval variation` of chihaya: some peers are told to come back later, each always by the same.

What is drawn is drawn from the info hash and the peer id as in chihaya (`middleware/varinterval` and
`middleware/pkg/random`): by xorshift128+, whose state is two sums of eight bytes each.
"""

from __future__ import annotations

import struct
from typing import Final

from udptracker.access.hooks.at_once import AtOnce
from udptracker.core.counters import Counters
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question

_BITS: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
_STEPS: Final = 1 << 24
"""Of the share that is drawn."""

_TWO = struct.Struct(">QQ").unpack_from


class IntervalVariation(AtOnce):
    """Adds 1 to `most` seconds to the interval of a share of peers.

    Args:
        interval: seconds that others are told, unless a hook before has said something else.
        share: of peers, above 0, up to 1.
    """

    def __init__(self, name: str, counters: Counters, interval: int, share: float, most: int) -> None:
        super().__init__(name, counters)
        self._interval = interval
        (self._share,) = struct.unpack("f", struct.pack("f", share))
        self._most = most

    def decide(self, question: Question, announce: AnnounceOperation) -> str:
        added = _added(announce.info_hash, announce.peer, self._share, self._most)
        if added:
            question.interval = max((question.interval or self._interval) + added, 1)
        return ""


def _added(info_hash: bytes, peer_id: bytes, share: float, most: int) -> int:
    """Seconds to add."""
    first, second = _TWO(info_hash)
    third, fourth = _TWO(peer_id)
    left, right = (first + second) & _BITS, (third + fourth) & _BITS
    if share != 1 and _drawn(left + right, _STEPS) / _STEPS >= share:
        return 0
    left ^= (left << 23) & _BITS
    mixed = left ^ right ^ (left >> 18) ^ (right >> 5)
    return _drawn(right + mixed, most) + 1


def _drawn(number: int, below: int) -> int:
    """As Go has it: of 64 bits with a sign, which is taken off save that of the smallest: the remainder keeps it."""
    number &= _BITS
    if number < _SIGN:
        return number % below
    return (_BITS + 1 - number) % below if number != _SIGN else -(_SIGN % below)
