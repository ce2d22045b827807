"""A list in a file: an entry a line, `#` begins a comment; for passkeys the name of the user follows a blank.

A file is read again when something about it changes: it is looked at by its name, so that one that replaces it, or a
symbolic link that is turned to another, is noticed as well. It is read in slices, between which requests are answered.
One that cannot be read, or has a bad line, leaves in force what was read before.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import Final, NamedTuple

from udptracker.access.base import AccessError
from udptracker.access.lists.tables import Table, make_table
from udptracker.core.listed import EXPECTED, PARSE, PASSKEYS, split_passkey
from udptracker.core.text import printable

_READ_BYTES: Final = 1 << 20
_SLICE_BYTES: Final = 1 << 13
"""Bytes read at once, and looked at between two pauses: some 200 info hashes, half a millisecond."""
_LONGEST_LINE: Final = 1 << 13
_MOST_SHOWN: Final = 60


class _State(NamedTuple):
    """By what a change of a file is noticed."""

    device: int
    inode: int
    changed: int
    size: int
    is_file: bool


class ListFile:
    """A file that a list is read from.

    Attributes:
        table: what it said when it could be read last.
        is_good: whether that is the last time that it was tried.
    """

    def __init__(self, path: str, which: str, *, denied: bool) -> None:
        self.path = path
        self.which = which
        self.denied = denied
        self.table = make_table(which)
        self.is_good = False
        self._state: _State | None = None

    def has_changed(self) -> bool:
        """Whether it is another than when it was last read, or tried to be."""
        return _state_of(self.path) != self._state

    async def read(self) -> Table:
        """Read all of it into a new table, which takes the place of the old one; that one is returned.

        Raises:
            AccessError: it cannot be read, or a line is bad; the old table stays, until the file changes again.
        """
        self._state, self.is_good = _state_of(self.path), False
        if self._state is not None and not self._state.is_file:
            raise AccessError(f"{self.path}: found no file but something else of that name, expected a text file")
        table = make_table(self.which)
        number, rest = 0, b""
        try:
            with await asyncio.to_thread(open, self.path, "rb") as file:
                while True:
                    data = await asyncio.to_thread(file.read, _READ_BYTES)
                    for at in range(0, len(data), _SLICE_BYTES):
                        lines = (rest + data[at : at + _SLICE_BYTES]).split(b"\n")
                        rest = lines.pop()
                        for line in lines:
                            number += 1
                            self._take(table, line, number)
                        if len(rest) > _LONGEST_LINE:
                            raise self._bad(number + 1, f"a line of more than {_LONGEST_LINE} bytes")
                        await asyncio.sleep(0)
                    if not data:
                        break
        except OSError as error:
            raise AccessError(f"{self.path}: {error.strerror}") from None
        self._take(table, rest, number + 1)
        before, self.table, self.is_good = self.table, table, True
        return before

    def _take(self, table: Table, line: bytes, number: int) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise self._bad(number, "what is no text") from None
        text = text.removeprefix("\ufeff") if number == 1 else text
        text = text.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            return
        user = ""
        try:
            if self.which == PASSKEYS:
                text, user = split_passkey(text)
            table.put(PARSE[self.which](text), self.denied, 0, user)
        except ValueError:
            found = repr(text) if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]!r}..."
            raise self._bad(number, "something else" if self.which == PASSKEYS else found) from None

    def _bad(self, number: int, found: str) -> AccessError:
        where = f"{self.path}, line {number}"
        return AccessError(printable(f"{where}: found {found}, expected {EXPECTED[self.which]}"))


def _state_of(path: str) -> _State | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _State(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, stat.S_ISREG(found.st_mode))
