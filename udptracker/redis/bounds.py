"""How large a reply may be: what a hostile or broken server sends costs neither memory nor time.

The reader of hiredis makes room for an array when it has read its header, 8 bytes for each element: `*500000000` is a
few bytes, and so is one array in the other many times over. So what was received is cut before each header of a long
array, which is looked at before the reader has it. Short ones are summed up while a reply goes on over several pieces.

So it is with maps, sets, pushes and attributes, which are of a newer protocol that nobody has asked a server for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

MOST_BYTES: Final = 16 << 20
"""The most bytes of one reply."""
MOST_ELEMENTS: Final = 4_000_000
"""The most elements of all arrays in one reply together."""
_PIECE: Final = 1 << 16
"""The most bytes between two looks."""
_HEADER: Final = rb"[*%~>|](?:([1-9][0-9]{3,})|[0-9]{0,3}\Z)"
"""What may say that 1,000 elements or more follow, or the beginning of that at the end of what came."""
_FIRST: Final = re.compile(_HEADER)
_NEXT: Final = re.compile(rb"\n" + _HEADER)
"""That it begins with a plain character, which is looked for fastest, keeps it at 0.8 ns a byte."""
_SHORT: Final = re.compile(rb"[*%~>|]([1-9][0-9]{0,2})\r")
_LONGEST_HEADER: Final = 32


class TooMuch(Exception):
    """A reply beyond its bounds."""


class Bounds:
    """What has come of one reply."""

    __slots__ = ("_bytes", "_elements", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._bytes = self._elements = 0

    def cut(self, data: bytes, unread: Callable[[], bool]) -> Iterator[bytes]:
        """What came in pieces, each to be read before the next is asked for.

        Args:
            unread: whether the reader holds bytes that it could not read yet.

        Raises:
            TooMuch: an array is too long.
        """
        if self._held:
            data, self._held = self._held + data, b""
        done = 0
        first = _FIRST.match(data)
        for found in _NEXT.finditer(data) if first is None else chain((first,), _NEXT.finditer(data)):
            at, end = found.start() + (found is not first), found.end()
            if at > 1 and data[at - 2 : at] != b"\r\n":
                continue  # in the middle of a text
            yield from _pieces(data, done, at)
            done = at
            if end == len(data) and end - at < _LONGEST_HEADER:
                self._held = data[at:]
                return
            # A header if all before it is read. Otherwise the reader waits for the rest of a text, and this is of it.
            if found[1] is not None and not unread():
                self._count(int(found[1]))
        yield from _pieces(data, done, len(data))

    def begin(self) -> None:
        """A reply is complete: what comes now is of others."""
        self._bytes = self._elements = 0

    def go_on(self, piece: bytes) -> None:
        """A whole piece was of one reply, which is not complete.

        Raises:
            TooMuch: it will not be.
        """
        self._bytes += len(piece)
        if self._bytes > MOST_BYTES:
            raise TooMuch(f"a reply of more than {MOST_BYTES >> 20} MiB")
        self._count(sum(map(int, _SHORT.findall(piece))))

    def _count(self, elements: int) -> None:
        self._elements += elements  # of a map there are twice as many, which is bounded as well
        if self._elements > MOST_ELEMENTS:
            raise TooMuch(f"a reply of more than {MOST_ELEMENTS:,} elements")


def _pieces(data: bytes, start: int, end: int) -> Iterator[bytes]:
    if start == 0 and end == len(data) <= _PIECE:
        yield data
        return
    for at in range(start, end, _PIECE):
        yield data[at : min(at + _PIECE, end)]
