"""What keeps the peers of a memory store over a restart, in the process that holds them.

When it serves, it reads the last snapshot; when it is told to, and at its stop, it writes its part of the next one.
Both go by slices of about a millisecond, between which requests are served, and disks are waited for in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import os
import time
from pathlib import Path
from typing import Final

from udptracker.aside import aside
from udptracker.core.counters import Counters
from udptracker.net.sockets import since_boot
from udptracker.service.snapshot_file import create, discard, open_to_read, part_of, set_aside
from udptracker.storage.blocks import BLOCK
from udptracker.storage.memory import MemoryStore
from udptracker.storage.snapshot import (
    HEADER_BYTES,
    NO_BOOT,
    Header,
    Moment,
    SnapshotError,
    elapsed,
    examine,
    read_blocks,
)

log = logging.getLogger(__name__)

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PENDING: Final = 1 << 20
_SECOND: Final = 1_000_000_000


class Keeper:
    """See the module.

    Args:
        store: what is kept.
        counters: for what was read, and what could not be.
        path: of the snapshot to begin with, empty for none.
        lifetime: seconds after which a peer is stale.
    """

    def __init__(self, store: MemoryStore, counters: Counters, path: str, lifetime: float) -> None:
        self._store = store
        self._counters = counters
        self._path = path
        self._lifetime = lifetime
        self._place, self._places = 0, 1
        self.reading: asyncio.Task[None] | None = None
        self._has_read = False
        self._writing = asyncio.Lock()
        self._last: Path | None = None
        self._stops = False

    def start(self, place: int, places: int) -> None:
        """Begin to read, as one of several workers that have a share of the swarms each."""
        self._place, self._places = place, places
        self.reading = asyncio.create_task(self._read())

    async def write(self, path: str) -> str:
        """Write a part beside the path, once the last snapshot is read; why it was not written, or nothing."""
        if self.reading is not None:
            await asyncio.wait({self.reading})
        return await self._written(Path(path), last=False)

    def write_at_stop(self, path: str) -> None:
        """The same as the last that `stop` does."""
        self._last = Path(path)

    async def stop(self) -> None:
        """Read no more; write if told to, now that nothing is served any more."""
        self._stops = True
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.wait({self.reading})
        if self._last is not None:
            why_not = await self._written(self._last, last=True)
            if why_not:
                log.error("%s", why_not)

    async def _written(self, path: Path, *, last: bool) -> str:
        if not self._has_read:
            return f"{path} is still being read"
        part = part_of(path, self._place)
        async with self._writing:
            try:
                return await self._write(part, last=last)
            except OSError as error:
                return f"{part}: {error.strerror}"

    async def _write(self, part: Path, *, last: bool) -> str:
        moment, age = this_moment(), self._store.age
        file = await aside(create, part)
        whole = False
        try:
            digest = hashlib.sha256()
            file.seek(HEADER_BYTES)  # the header comes last: without it the part is none
            pending: list[bytes] = []
            pended = size = peers = 0
            for block in self._store.blocks():
                if self._stops and not last:
                    return "it is about to stop"
                pending += (block.head(), block.data)
                pended += BLOCK.size + len(block.data)
                peers += block.peers
                if pended >= _PENDING:
                    await aside(_put, file, digest, pending)
                    size, pending, pended = size + pended, [], 0
                else:
                    await asyncio.sleep(0)
            header = Header(self._place, self._places, HEADER_BYTES + size + pended, peers, age, moment)
            await aside(_finish, file, digest, pending, header)
            whole = True
        finally:
            file.close()
            if not whole:
                await aside(discard, part)
        return ""

    async def _read(self) -> None:
        """Read the last snapshot; one that cannot be trusted, or not be read, is moved aside."""
        path = Path(self._path)
        try:
            if self._path:
                await self._restore(path)
        except FileNotFoundError:
            log.info("%s is not there yet: nobody is kept from before", path)
        except SnapshotError as error:
            await self._set_aside(path, str(error))
        except OSError as error:
            await self._set_aside(path, f"it cannot be read: {error.strerror}")
        except Exception:
            log.exception("%s was not read for a reason unforeseen", path)
            await self._set_aside(path, "it could not be taken")
        self._has_read = True

    async def _restore(self, path: Path) -> None:
        began = time.monotonic()
        with await aside(open_to_read, path) as file:
            parts = await aside(examine, file)
            restoring = self._store.restore(self._lifetime, self._place, self._places)
            try:
                for part in parts:
                    age, then = self._store.age, part.header
                    restoring.date((age - elapsed(then.moment, this_moment()) - then.age) // _SECOND)
                    at = part.start
                    while at < part.stop:
                        blocks, at = await aside(read_blocks, file, at, part.stop)
                        for block in blocks:
                            for _ in restoring.take(block):
                                await asyncio.sleep(0)
            finally:
                self._store.restored()
                self._counters.restored += restoring.peers
        log.info(
            "read %d peers from %s, written %.0f s ago, in %.3f s; %d others were stale by now, and %d had no room",
            *(restoring.peers, path, elapsed(parts[0].header.moment, this_moment()) / _SECOND),
            *(time.monotonic() - began, restoring.stale, restoring.unkept),
        )

    async def _set_aside(self, path: Path, why: str) -> None:
        try:
            target = await aside(set_aside, path)
        except OSError as error:
            log.error("%s: %s; nobody is kept from it, and it cannot be moved: %s", path, why, error.strerror)
        else:
            if target is None:  # another worker has found the same
                return
            log.error("%s: %s; nobody is kept from it, and it is %s now", path, why, target)
        self._counters.snapshots_refused += 1


def this_moment() -> Moment:
    """Now, by the clocks of this machine."""
    return Moment(time.time_ns(), since_boot(), _boot())


def _boot() -> bytes:
    """What tells this start of the machine from others. A service that does not see the kernel's may be told."""
    try:
        text = _BOOT_ID.read_text()
    except OSError:
        text = os.environ.get("BOOT_ID", "")
    try:
        boot = bytes.fromhex(text.strip().replace("-", ""))
    except ValueError:
        return NO_BOOT
    return boot if len(boot) == len(NO_BOOT) else NO_BOOT


def _put(file: io.FileIO, digest: hashlib._Hash, pending: list[bytes]) -> None:
    """Write them all, and add them to the digest."""
    data = memoryview(b"".join(pending))
    digest.update(data)
    while data:
        data = data[file.write(data) :]


def _finish(file: io.FileIO, digest: hashlib._Hash, pending: list[bytes], header: Header) -> None:
    """The rest, and the header in front."""
    _put(file, digest, pending)
    file.seek(0)
    file.write(header.pack(digest))
    file.close()
