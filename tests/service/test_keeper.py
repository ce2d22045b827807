"""A memory store kept over a restart: files, what is wrong with them, and clocks."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.service.keeping import (
    HOUR,
    Process,
    beside,
    cut,
    kept,
    read,
    settings,
    write,
    written_by,
)
from tests.support.turns import until
from udptracker.service import keeper as module
from udptracker.service.saver import Saver
from udptracker.service.snapshot_file import MOST_BAD, part_of
from udptracker.storage.snapshot import NO_BOOT, Moment


class TestOverARestart:
    async def test_everybody_comes_back(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        await kept(path)
        again = Process(path)
        await again.start()
        assert await again.peers() == again.counters.restored == 100
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert beside(path) == ["peers"]
        assert "wrote 100 peers" in caplog.text
        assert "read 100 peers" in caplog.text

    async def test_nothing_is_there_yet(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        first = Process(path)
        await first.start()
        assert "is not there yet" in caplog.text
        assert first.counters.snapshots_refused == 0

    async def test_another_number_of_workers(self, path: Path) -> None:
        saver = Saver(settings(path, workers=2), 2)
        two = [Process("", (place, 2)) for place in range(2)]
        for place, process in enumerate(two):
            process.tell(range(place, 100, 2))  # of swarms that are its own
            await process.start()
        await saver.save(written_by(*two))
        assert saver.figures["peers"] == 100
        assert beside(path) == ["peers"]
        found = []
        for place in range(3):
            process = Process(path, (place, 3))
            await process.start()
            found.append(await process.peers())
        assert sum(found) == 100
        assert min(found) > 0

    async def test_the_last_is_written_once_nothing_is_served(self, path: Path) -> None:
        process, saver = Process(), Saver(settings(path, "0s"), 1)
        await process.start()
        saver.stopping(process.keeper.write_at_stop)
        process.tell(range(20))
        await process.keeper.stop()
        await saver.finish()
        assert saver.figures["peers"] == 20
        assert beside(path) == ["peers"]

    async def test_who_is_still_reading_writes_nothing(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        before = await kept(path)
        again, saver = Process(path), Saver(settings(path), 1)
        again.keeper.start(0, 1)
        saver.stopping(again.keeper.write_at_stop)
        await again.keeper.stop()
        await saver.finish()
        assert read(path) == before
        assert "still being read" in caplog.text
        assert saver.figures["failures"] == 1

    async def test_a_stop_does_not_wait_for_one_that_is_on_its_way(self, path: Path) -> None:
        process, saver = Process(), Saver(settings(path), 1)
        process.tell(range(50_000), 10_000)
        await process.start()
        saving = asyncio.create_task(saver.save(written_by(process)))
        await until(part_of(path, 0).exists, "it to be on its way")
        saver.stopping(process.keeper.write_at_stop)
        process.tell(range(50_000, 50_010))
        await process.keeper.stop()
        await saving
        await saver.finish()
        assert saver.figures == {**saver.figures, "peers": 50_010, "failures": 0}

    @pytest.mark.parametrize("workers", [1, 2])
    async def test_a_stop_while_a_disk_keeps_the_one_before_waiting(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
    ) -> None:
        """What is written at the stop is neither put in place half done, nor taken away with what is left of that."""
        processes, saver = [Process("", (place, workers)) for place in range(workers)], Saver(settings(path), workers)
        for process in processes:
            process.tell(range(100))
            await process.start()
        waits, goes_on, fsync = threading.Event(), threading.Event(), os.fsync

        def slow(descriptor: int) -> None:
            waits.set()
            goes_on.wait()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", slow)
        saving = asyncio.create_task(saver.save(written_by(*processes)))
        await until(waits.is_set, "the disk to be waited for")
        for process in processes:
            saver.stopping(process.keeper.write_at_stop)
            process.tell(range(100, 120))
            await process.keeper.stop()
        finishing = asyncio.create_task(saver.finish())
        goes_on.set()
        await saving
        assert saver.figures["peers"] == 100 * workers
        await finishing
        assert saver.figures == {**saver.figures, "peers": 120 * workers, "failures": 0}
        assert beside(path) == ["peers"]

    async def test_requests_are_answered_meanwhile(self, path: Path) -> None:
        """By turns of the loop: others have many of them while it is written, and while it is read."""
        process, saver = Process(), Saver(settings(path), 1)
        process.tell(range(100_000), 20_000)
        await process.start()
        turns = await turns_beside(saver.save(written_by(process)))
        assert turns > 50
        again = Process(path)
        assert await turns_beside(again.start()) > 50
        assert await again.peers() == 100_000


async def turns_beside(work: Awaitable[None]) -> int:
    """How many turns of the event loop there are until it is done."""
    task, turns = asyncio.ensure_future(work), 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    await task
    return turns


class TestClocks:
    """What a restart finds by its clocks: who is stale by then does not come back, and nobody else is lost."""

    @pytest.mark.parametrize(
        ("case", "wall", "since_boot", "boot", "peers"),
        [
            ("a moment", 0.0, 0.0, None, 100),
            ("an hour, longer than a peer lives", 1.0, 1.0, None, 0),
            ("the wall clock went back by a day", -24.0, 0.01, None, 100),
            ("the wall clock went back, and it was an hour", -24.0, 1.0, None, 0),
            ("the wall clock jumped a year ahead", 24.0 * 365, 0.01, None, 100),
            ("the machine was started again", 0.1, -0.1, bytes(range(16)), 100),
            ("the machine was started again with a clock at the end of time", 2_000_000.0, -0.1, bytes(range(16)), 0),
            ("the machine was off for an hour", 1.0, -0.1, bytes(range(16)), 0),
            ("the machine was started again without a clock", -400_000.0, -0.1, bytes(range(16)), 100),
            ("it cannot be known, and the wall clock went back", -24.0, 0.01, NO_BOOT, 100),
        ],
    )
    async def test_they_decide(
        self,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        case: str,
        wall: float,
        since_boot: float,
        boot: bytes | None,
        peers: int,
    ) -> None:
        then = Moment(time.time_ns(), HOUR // 2, bytes(16 * [7]))
        monkeypatch.setattr(module, "this_moment", lambda: then)
        await kept(path)
        now = Moment(then.wall + int(wall * HOUR), then.since_boot + int(since_boot * HOUR), boot or then.boot)
        monkeypatch.setattr(module, "this_moment", lambda: now)
        again = Process(path)
        await again.start()
        assert await again.peers() == peers, case
        assert again.counters.snapshots_refused == 0

    async def test_ages_go_on_while_it_is_down(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        await kept(path)
        real = module.this_moment()
        later = Moment(real.wall, real.since_boot + int(1000e9), real.boot)
        monkeypatch.setattr(module, "this_moment", lambda: later)
        again = Process(path)
        await again.start()
        assert (await again.store.reap(again.store.now() - int(1100e9))).peers == 0
        assert (await again.store.reap(again.store.now() - int(999e9))).peers == 100

    def test_a_service_is_told_what_it_cannot_see(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As systemd tells, without dashes, and as the kernel does."""
        seen = module.this_moment().boot
        monkeypatch.setattr(module, "_BOOT_ID", tmp_path / "nothing")
        monkeypatch.setenv("BOOT_ID", seen.hex())
        assert module.this_moment().boot == seen != NO_BOOT
        for unknown in ("", "something else", "00ff"):
            monkeypatch.setenv("BOOT_ID", unknown)
            assert module.this_moment().boot == NO_BOOT


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def _foreign(path: Path) -> None:
    path.write_text("something else")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    """What even root cannot open."""
    path.unlink()
    path.symlink_to(path.name)


class TestWhatCannotBeTrusted:
    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (cut, "cut short"),
            (_flip, "corrupt"),
            (_foreign, "no snapshot of udptracker"),
            (_empty, "empty"),
            (_pipe, "no file"),
            (_loop, "symbolic links"),
        ],
    )
    async def test_is_named_and_moved_aside(
        self, path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], why: str
    ) -> None:
        await kept(path)
        spoil(path)
        again = Process(path)
        await again.start()
        assert await again.peers() == again.counters.restored == 0
        assert again.counters.snapshots_refused == 1
        assert why in caplog.text
        assert str(path) in caplog.text
        assert beside(path) == ["peers.bad-1"]
        await Saver(settings(path), 1).save(written_by(again))  # and the next is written all the same
        assert beside(path) == ["peers", "peers.bad-1"]

    async def test_the_last_few_are_kept(self, path: Path) -> None:
        for number in range(MOST_BAD + 2):
            write(path, b"bad %d" % number)
            await Process(path).start()
        texts = {read(path.with_name(f"peers.bad-{place}")) for place in range(1, MOST_BAD + 1)}
        assert texts == {b"bad %d" % number for number in range(2, MOST_BAD + 2)}

    async def test_several_workers_name_it_once(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write(path, b"bad")
        workers = [Process(path, (place, 3)) for place in range(3)]
        await asyncio.gather(*(worker.start() for worker in workers))
        assert sum(worker.counters.snapshots_refused for worker in workers) == 1
        assert caplog.text.count("no snapshot of udptracker") == 1

    async def test_what_is_announced_meanwhile_stays(self, path: Path) -> None:
        await kept(path)
        _flip(path)
        again = Process(path)
        again.tell(range(5))
        await again.start()
        assert await again.peers() == 5
