"""What a fuzzer drives: targets, and inputs made of inputs by whoever has no better fuzzer at hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Protocol

MOST_BYTES: Final = 4096
"""The longest input."""
_INTERESTING: Final = (0, 1, 2, 3, 4, 16, 20, 26, 38, 98, 110, 127, 128, 200, 255)
"""Bytes that stand for a limit, a length or an action somewhere."""


class Target(Protocol):
    """Something that strangers feed."""

    def seeds(self) -> Sequence[bytes]:
        """Inputs that get far."""

    def feed(self, data: bytes) -> None:
        """Take an input of any bytes.

        Raises:
            Exception: a finding. What the code under test may raise, by its documents, is caught here.
        """

    def close(self) -> None:
        """Let go of everything."""


class Reader:
    """Takes an input apart; what is missing at its end is zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def byte(self) -> int:
        return self.number(1)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size).ljust(size, b"\0"), "little")

    def take(self, size: int) -> bytes:
        """So many bytes, or what is left."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        return self.take(self.left)


class Mutator:
    """Inputs without end, the same for the same seed: pieces of what is known, changed in a few places."""

    def __init__(self, seeds: Sequence[bytes], seed: int) -> None:
        self._random = random.Random(seed)
        self._known = list(seeds)

    def next(self) -> bytes:
        rng = self._random
        data = bytearray(rng.choice(self._known))
        for _ in range(rng.choice((1, 1, 2, 3, 5, 9))):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(7)
            if kind == 0 and data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            elif kind == 1 and data:
                data[at % len(data)] = rng.choice(_INTERESTING)
            elif kind == 2:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 20)))
            elif kind == 3:
                del data[at : at + rng.choice((1, 2, 8, 20, 64))]
            elif kind == 4:
                data[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
            elif kind == 5:
                other = rng.choice(self._known)
                begin = rng.randrange(len(other) + 1)
                data[at:] = other[begin:]
            else:
                data[at:at] = data[at : at + rng.choice((1, 8, 20, 100))]
        del data[MOST_BYTES:]
        return bytes(data)
