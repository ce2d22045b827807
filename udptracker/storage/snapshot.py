"""The format of a snapshot of what memory stores hold, to outlive the processes that held it.

A snapshot is one or more parts, one after the other, each by one worker: a header, then blocks (see `blocks`). Numbers
are in the byte order of the machine; to one of the other order it is of another version. A header tells where its part
ends, when it was written, and has the SHA-256 of the blocks and of all else in it. So what was cut, changed or put
together of others is found out before a single peer is taken.
"""

from __future__ import annotations

import hashlib
from struct import Struct
from typing import BinaryIO, Final, NamedTuple

from udptracker.storage.blocks import BLOCK, Block

MAGIC: Final = b"UDPpeers"
VERSION: Final = 1
NO_BOOT: Final = bytes(16)

_HEADER: Final = Struct("=8sIIIxxxxQQQqQ16s32s")
HEADER_BYTES: Final = _HEADER.size
_DIGEST_BYTES: Final = 32
_CHUNK: Final = 1 << 20


class SnapshotError(Exception):
    """Why a snapshot cannot be trusted."""


class Moment(NamedTuple):
    """By the wall clock, Unix nanoseconds; nanoseconds since the machine was started, sleep included; and 16 bytes that
    are others after each start of the machine, `NO_BOOT` where they are not known."""

    wall: int
    since_boot: int
    boot: bytes


class Header(NamedTuple):
    """Of a part: its number of how many, its bytes with the header, the peers in it, and when it was begun, also by the
    age of its store in nanoseconds."""

    part: int
    parts: int
    length: int
    peers: int
    age: int
    moment: Moment

    def pack(self, blocks: hashlib._Hash) -> bytes:
        """As it is written: `blocks` is the SHA-256 of all that follows, and is used up."""
        packed = _HEADER.pack(MAGIC, VERSION, *self[:-1], *self.moment, bytes(_DIGEST_BYTES))
        blocks.update(packed)
        return packed[:-_DIGEST_BYTES] + blocks.digest()


class Part(NamedTuple):
    """A part that can be trusted, and where in the file its blocks are."""

    header: Header
    start: int
    stop: int


def read_header(data: bytes) -> Header:
    """The header that `data` begins with.

    Raises:
        SnapshotError: there is none, or one of another version.
    """
    if len(data) < HEADER_BYTES and MAGIC.startswith(data[: len(MAGIC)]):
        raise SnapshotError(f"cut short: {len(data)} bytes where a header has {HEADER_BYTES}")
    if not data.startswith(MAGIC):
        raise SnapshotError("no snapshot of udptracker")
    _, version, part, parts, length, peers, age, wall, since_boot, boot, _ = _HEADER.unpack_from(data)
    if version != VERSION:
        raise SnapshotError(f"of version {version}, and this program reads version {VERSION}")
    return Header(part, parts, length, peers, age, Moment(wall, since_boot, boot))


def examine(file: BinaryIO) -> list[Part]:
    """The parts of a snapshot, read whole and found to be as they were written.

    Raises:
        SnapshotError: it is not, and none of it can be trusted.
        OSError: it cannot be read.
    """
    size = file.seek(0, 2)
    if not size:
        raise SnapshotError("empty")
    found: list[Part] = []
    at = 0
    while at < size:
        file.seek(at)
        packed = file.read(HEADER_BYTES)
        header = read_header(packed)
        if at + header.length > size or header.length < HEADER_BYTES:
            raise SnapshotError(f"cut short: {size} bytes where there should be {at + header.length}")
        start, at = at + HEADER_BYTES, at + header.length
        digest = hashlib.sha256()
        left = at - start
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise SnapshotError("cut short while it was read")
            digest.update(chunk)
            left -= len(chunk)
        digest.update(packed[:-_DIGEST_BYTES] + bytes(_DIGEST_BYTES))
        if digest.digest() != packed[-_DIGEST_BYTES:]:
            raise SnapshotError("corrupt: its checksum is another one")
        if (header.part, header.parts) != (len(found), found[0].header.parts if found else header.parts):
            raise SnapshotError(f"put together of others: part {header.part} of {header.parts} is in the wrong place")
        found.append(Part(header, start, at))
    if len(found) != found[0].header.parts:
        raise SnapshotError(f"cut short: {len(found)} parts of {found[0].header.parts}")
    return found


def read_blocks(file: BinaryIO, at: int, stop: int) -> tuple[list[Block], int]:
    """Some of the blocks of a part that was examined, from `at` on, and where the rest of them are.

    Raises:
        SnapshotError: the file is not what was examined any more.
        OSError: it cannot be read.
    """
    file.seek(at)
    found: list[Block] = []
    began = at
    while at < stop and at - began < _CHUNK:
        head = file.read(BLOCK.size)
        if len(head) < BLOCK.size:
            raise SnapshotError("cut short while it was read")
        kind, length, peers, swarms = BLOCK.unpack(head)
        data = file.read(length)
        if len(data) < length:
            raise SnapshotError("cut short while it was read")
        found.append(Block(kind, peers, swarms, data))
        at += BLOCK.size + length
    return found, at


def elapsed(then: Moment, now: Moment) -> int:
    """Nanoseconds from one moment to the other.

    The clock that runs since the machine was started tells exactly, unless it was started again in between; then the
    wall clock must. One that went back meanwhile is taken to have gone on for as long as the machine has certainly run
    since. One that went far ahead cannot be told from a machine that was off.
    """
    ran = now.since_boot - then.since_boot
    known = NO_BOOT not in (then.boot, now.boot)
    if known and then.boot == now.boot and ran >= 0:
        return ran
    return max(now.wall - then.wall, now.since_boot if known or ran < 0 else ran)
