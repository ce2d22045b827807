"""Files of a snapshot: one that is only ever replaced as a whole, and what stands beside it.

Beside `PATH` there are `PATH.lock`, held by the one process that may replace it; `PATH.part-N`, what worker N writes;
`PATH.taken-N`, the same once it is written; `PATH.new`, the parts of all of them, which then becomes `PATH`; and
`PATH.bad-N`, the last few that could not be trusted. All of this may wait for a disk, so it is called in a thread where
requests are served.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from udptracker.storage.snapshot import SnapshotError, examine

MOST_BAD: Final = 3
MODE: Final = 0o600


def beside(path: Path, name: str) -> Path:
    """What stands beside a snapshot under such a name."""
    return path.with_name(f"{path.name}.{name}")


def part_of(path: Path, number: int) -> Path:
    """Where a worker writes its part."""
    return beside(path, f"part-{number}")


def discard(path: Path) -> None:
    """Take a file away that is of no use, if that can be done."""
    with contextlib.suppress(OSError):
        path.unlink()


def create(path: Path) -> io.FileIO:
    """A new file, which only this user may read, in the place of one that was left.

    Raises:
        OSError: it cannot be made.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE)
    return io.FileIO(descriptor, "r+")


def open_to_read(path: Path) -> BinaryIO:
    """A snapshot.

    Raises:
        FileNotFoundError: there is none.
        SnapshotError: it is no file, but a pipe or the like.
        OSError: it cannot be opened.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # who opens a pipe would wait
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise SnapshotError("no file")
    return file


def told(path: Path) -> str:
    """What a start would find there, in a line.

    Raises:
        SnapshotError: what is there cannot be trusted.
        OSError: it cannot be read, or has no directory to be in.
    """
    try:
        with open_to_read(path) as file:
            parts = examine(file)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        path.parent.stat()
        return f"{path} is not there yet"
    peers = sum(part.header.peers for part in parts)
    written = datetime.fromtimestamp(parts[0].header.moment.wall / 1e9).astimezone()
    return f"{path} has {peers} peers in {size} bytes, written at {written.isoformat(' ', 'seconds')}"


def set_aside(path: Path) -> Path | None:
    """Move a snapshot that cannot be trusted to where the last few of these are: where that is, or None if it is gone
    from its place already.

    Raises:
        OSError: it cannot be moved.
    """
    real = Path(os.path.realpath(path))
    try:
        places = [beside(real, f"bad-{number}") for number in range(1, MOST_BAD + 1)]
        free = [place for place in places if not os.path.lexists(place)]
        target = free[0] if free else min(places, key=lambda place: os.lstat(place).st_ctime_ns)
        real.rename(target)
    except FileNotFoundError:
        return None
    return target
