"""Processes that keep a memory store over a restart, and the files they keep it in."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.storage.contract import LEECHER, STARTED, announce
from udptracker import config
from udptracker.config import Settings
from udptracker.core.counters import Counters
from udptracker.service.keeper import Keeper
from udptracker.service.saver import Saver
from udptracker.storage.memory import MemoryStore

LIFETIME: Final = 2100.0
HOUR: Final = 3600 * 10**9


class Process:
    """What one process has: a store, and what keeps it."""

    def __init__(self, path: Path | str = "", share: tuple[int, int] = (0, 1)) -> None:
        self.store = MemoryStore(random.Random(1).random)
        self.store.begin()
        self.counters = Counters()
        self.keeper = Keeper(self.store, self.counters, str(path), LIFETIME)
        self._share = share

    def tell(self, peers: range, swarms: int = 10) -> None:
        for number in peers:
            self.store.apply(announce(number, LEECHER, STARTED, 0, number % swarms << 128))

    async def start(self) -> None:
        """Begin, and return when the last snapshot is read."""
        self.keeper.start(*self._share)
        assert self.keeper.reading is not None
        await self.keeper.reading

    async def peers(self) -> int:
        return sum(totals.seeders + totals.leechers for totals in (await self.store.totals()).values())


def settings(path: Path | str, interval: str = "1h", workers: int = 1) -> Settings:
    tree = {"workers": workers, "storage": {"config": {"snapshot": str(path), "snapshot_interval": interval}}}
    return config.from_tree(tree, "udptracker", {}).settings


def written_by(*processes: Process) -> Callable[[str], Awaitable[list[str]]]:
    """What has these write."""

    async def write(path: str) -> list[str]:
        return [why for process in processes if (why := await process.keeper.write(path))]

    return write


async def kept(path: Path, peers: int = 100) -> bytes:
    """Have a snapshot written; its bytes."""
    process, saver = Process(), Saver(settings(path), 1)
    process.tell(range(peers))
    await process.start()
    await saver.save(written_by(process))
    saver.use(settings(""))
    return read(path)


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def beside(path: Path) -> list[str]:
    """The names of what is there besides its lock."""
    return sorted(each.name for each in path.parent.iterdir() if each.name != f"{path.name}.lock")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
