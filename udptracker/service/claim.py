"""The path of a snapshot, as the one process has it that may replace what is there."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import io
import os
import shutil
import stat
from pathlib import Path
from typing import Final, NamedTuple

from udptracker.config import ConfigError, Fault
from udptracker.service.snapshot_file import MODE, beside, create, discard, part_of
from udptracker.storage.snapshot import HEADER_BYTES, SnapshotError, read_header

KEY: Final = "storage.config.snapshot"
_COPIED: Final = 1 << 20


class Written(NamedTuple):
    """What a snapshot came to."""

    peers: int
    size: int


class Claim:
    """The right to replace a snapshot. What waits for a disk is called in a thread where requests are served."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def of(cls, path: str) -> Claim:
        """Make sure that a snapshot can be written there and that nobody else does, and clear away what a process left
        that was killed.

        Raises:
            ConfigError: it cannot, or somebody does.
        """
        real = Path(os.path.realpath(path))
        try:
            if real.exists() and not stat.S_ISREG(real.stat().st_mode):
                raise ConfigError([Fault(KEY, f"{path!r}, which is there and no file", "a file, or none yet")])
            lock = os.open(beside(real, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, MODE)
        except OSError as error:
            expected = "a file in a directory that can be written to"
            raise ConfigError([Fault(KEY, f"{path!r} ({error.strerror})", expected)]) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            expected = "a path of its own for each tracker"
            raise ConfigError([Fault(KEY, f"{path!r}, which another process keeps", expected)]) from None
        begin = glob.escape(str(real))
        parts = map(Path, (*glob.glob(f"{begin}.part-*"), *glob.glob(f"{begin}.taken-*")))
        for left in (beside(real, "new"), *parts):
            discard(left)
        return cls(real, lock)

    def publish(self, parts: int) -> Written:
        """Put the parts of all workers in the place of the last snapshot, which stays as it is if that fails.

        Raises:
            SnapshotError: one of them is not there, or not whole.
            OSError: the system has no room for them, or the like.
        """
        # Out of the way of whoever writes the next, as at a stop while a disk keeps this one waiting.
        taken = [beside(self.path, f"taken-{number}") for number in range(parts)]
        whole = taken[0] if parts == 1 else beside(self.path, "new")
        try:
            for number, part in enumerate(taken):
                with contextlib.suppress(FileNotFoundError):
                    part_of(self.path, number).replace(part)
            peers = sum([_peers_of(part, number, parts) for number, part in enumerate(taken)])
            if parts > 1:
                with io.BufferedWriter(create(whole)) as target:
                    for part in taken:
                        with part.open("rb") as source:
                            shutil.copyfileobj(source, target, _COPIED)
            with whole.open("rb+") as file:
                os.fsync(file.fileno())
                size = file.seek(0, os.SEEK_END)
            whole.replace(self.path)
        finally:
            for left in (whole, *taken):
                discard(left)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return Written(peers, size)

    def clear(self, parts: int) -> None:
        """Take away the parts of a snapshot that comes to nothing."""
        for number in range(parts):
            discard(part_of(self.path, number))

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._lock)


def _peers_of(part: Path, number: int, parts: int) -> int:
    """The peers in a part, if all of it was written."""
    try:
        with part.open("rb") as file:
            header = read_header(file.read(HEADER_BYTES))
            whole = header.length == os.fstat(file.fileno()).st_size
    except (FileNotFoundError, SnapshotError):
        whole = False
    if not whole or (header.part, header.parts) != (number, parts):
        raise SnapshotError(f"worker {number} did not write its part")
    return header.peers
