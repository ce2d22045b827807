"""Changes of lists as bytes: in the stream that nodes follow, and in the file that a node keeps them in. No I/O.

An item is a byte for the list, a byte for what becomes of the entry, the Unix second in which it ends as 4 bytes, then
the entry and the name of a user, each behind a byte with its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple

from udptracker.core.listed import LISTS, is_entry, is_user

ALLOW: Final = 0
DENY: Final = 1
REMOVE: Final = 2

_HEAD: Final = Struct(">BBIB")


class Change(NamedTuple):
    """What becomes of an entry of a list: `ALLOW`, `DENY` until a Unix second, 0 for always, or `REMOVE`."""

    which: str
    what: int
    entry: bytes
    expires: int = 0
    user: str = ""


def pack_change(change: Change) -> bytes:
    """An item."""
    which, what, entry, expires, user = change
    name = user.encode()
    return _HEAD.pack(LISTS.index(which), what, expires, len(entry)) + entry + bytes((len(name),)) + name


def unpack_changes(data: bytes, most: int, start: int = 0, stop: int | None = None) -> Iterator[Sequence[Change]]:
    """Items that lie one after the other from `start` to `stop`, at most `most` at once.

    Raises:
        ValueError: they are none.
    """
    at, end = start, len(data) if stop is None else stop
    unpack, size = _HEAD.unpack_from, _HEAD.size
    part: list[Change] = []
    while at < end:
        if at + size > end:
            raise ValueError("an item that is cut off")
        which, what, expires, length = unpack(data, at)
        at += size
        middle = at + length
        if middle >= end or middle + 1 + data[middle] > end or which >= len(LISTS) or what > REMOVE:
            raise ValueError("no item of a list")
        if not is_entry(LISTS[which], data[at:middle]):
            raise ValueError("no entry of its list")
        behind = middle + 1 + data[middle]
        user = data[middle + 1 : behind].decode()
        if user and not is_user(user):
            raise ValueError("no name of a user")
        part.append(Change(LISTS[which], what, data[at:middle], expires, user))
        at = behind
        if len(part) >= most:
            yield part
            part = []
    if part:
        yield part
