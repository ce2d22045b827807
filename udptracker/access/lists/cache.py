"""The shared lists in a file of this node, for a start while Redis is away.

The first line says what it is and, as JSON, of which version; the changes that make the lists follow (`changes`), and
at the end the SHA-256 of all before it. A file that is not whole, or that somebody has changed, is not used at all. It
is written beside the old one, as `.NAME.PID`, and then replaces it, and nobody else may read it. Whoever writes one has
a lock on it as long as it lives, so that what somebody left who was killed is told from what is being written.
"""

from __future__ import annotations

import asyncio
import fcntl
import glob
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from udptracker.access.lists.changes import ALLOW, DENY, Change, pack_change, unpack_changes
from udptracker.access.lists.ledger import Version
from udptracker.access.lists.tables import Table, make_table
from udptracker.core.listed import LISTS

_MAGIC: Final = b"udptracker lists 1 "
_DIGEST_BYTES: Final = 32
_LONGEST_HEAD: Final = 256
_SLICE: Final = 200


class BadCache(Exception):
    """The file is not what was written; the text says why."""


async def write_cache(path: Path, version: Version, tables: Mapping[str, Table]) -> None:
    """Keep these lists. They may change meanwhile: then what is kept has some later changes already, which are done
    once more by whoever reads it.

    Raises:
        OSError: it cannot be written; the old file stays.
    """
    await asyncio.to_thread(_clear_away, path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: ASYNC230  # writes go to the page cache, in small pieces
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            digest = sha256()
            async for piece in _pieces(version, tables):
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())
            file.flush()
            await asyncio.to_thread(os.fsync, descriptor)
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


async def read_cache(path: Path) -> tuple[Version, dict[str, Table]]:
    """What was kept.

    Raises:
        OSError: it cannot be read.
        BadCache: it is not used.
    """
    data = await asyncio.to_thread(path.read_bytes)
    head, end, _ = data[:_LONGEST_HEAD].partition(b"\n")
    if not head.startswith(_MAGIC) or not end:
        raise BadCache("it is no file of lists")
    if await asyncio.to_thread(_digest, data) != data[-_DIGEST_BYTES:]:
        raise BadCache("it is not as it was written")
    tables = {which: make_table(which) for which in LISTS}
    try:
        version = Version(**json.loads(head[len(_MAGIC) :]))
        for part in unpack_changes(data, _SLICE, len(head) + 1, len(data) - _DIGEST_BYTES):
            for which, what, entry, expires, user in part:
                tables[which].put(entry, what == DENY, expires, user)
            await asyncio.sleep(0)
    except (ValueError, TypeError) as error:  # by whatever wrote it, as the digest is right
        raise BadCache(str(error)) from None
    return version, tables


async def _pieces(version: Version, tables: Mapping[str, Table]) -> AsyncIterator[bytes]:
    yield _MAGIC + json.dumps(version._asdict()).encode() + b"\n"
    for which in LISTS:
        for part in tables[which].entries():
            for at in range(0, len(part), _SLICE):
                changes = [
                    Change(which, DENY if found.denied else ALLOW, found.entry, found.expires, found.user)
                    for found in part[at : at + _SLICE]
                ]
                yield b"".join(map(pack_change, changes))
                await asyncio.sleep(0)


def _clear_away(path: Path) -> None:
    """Take away what was left beside a file by those who wrote it and were killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if left.suffix[1:].isdecimal():
            with suppress(OSError):  # it is being written, is gone by now, or is not ours
                descriptor = os.open(left, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
                finally:
                    os.close(descriptor)


def _digest(data: bytes) -> bytes:
    return sha256(memoryview(data)[:-_DIGEST_BYTES]).digest()
