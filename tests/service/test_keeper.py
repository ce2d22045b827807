"""A memory store kept over a restart: files, what is wrong with them, clocks, and what cannot be written."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import shutil
import stat
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.storage.contract import LEECHER, STARTED, announce
from tests.support.turns import until
from udptracker import config
from udptracker.cli import main
from udptracker.config import ConfigError, Settings
from udptracker.core.counters import Counters
from udptracker.service import keeper as module
from udptracker.service.claim import Claim
from udptracker.service.keeper import Keeper
from udptracker.service.saver import Saver
from udptracker.service.snapshot_file import MOST_BAD, part_of, told
from udptracker.storage.memory import MemoryStore
from udptracker.storage.snapshot import NO_BOOT, Moment

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peers"


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


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


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
            (_cut, "cut short"),
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


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond that, as if the disk was full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestWhatCannotBeWritten:
    @pytest.mark.parametrize("workers", [1, 2])
    async def test_a_full_disk_leaves_the_last_one(
        self, path: Path, caplog: pytest.LogCaptureFixture, workers: int
    ) -> None:
        before = await kept(path)
        processes, saver = [Process("", (place, workers)) for place in range(workers)], Saver(settings(path), workers)
        for process in processes:
            process.tell(range(1_000))
            await process.start()
        with files_of_at_most(4_096):
            await saver.save(written_by(*processes))
        assert read(path) == before
        assert beside(path) == ["peers"]
        assert saver.figures["failures"] == 1
        assert "File too large" in caplog.text
        await saver.save(written_by(*processes))
        assert saver.figures["peers"] == 1_000 * workers

    async def test_a_full_disk_when_parts_are_joined(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        before = await kept(path)
        processes, saver = [Process("", (place, 2)) for place in range(2)], Saver(settings(path), 2)
        for process in processes:
            process.tell(range(300))
            await process.start()
        with files_of_at_most(5_000):
            await saver.save(written_by(*processes))
        assert read(path) == before
        assert beside(path) == ["peers"]
        assert "File too large" in caplog.text

    async def test_a_worker_that_has_written_nothing(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        before = await kept(path)
        one, saver = Process("", (0, 2)), Saver(settings(path), 2)
        await one.start()
        await saver.save(written_by(one))
        assert read(path) == before
        assert "worker 1 did not write its part" in caplog.text

    async def test_a_folder_that_is_gone(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = path.parent / "folder"
        os.mkdir(folder)
        process, saver = Process(), Saver(settings(folder / "peers"), 1)
        await process.start()
        shutil.rmtree(folder)
        await saver.save(written_by(process))
        assert "No such file or directory" in caplog.text
        assert saver.figures["failures"] == 1


class TestCheck:
    """`udptracker check FILE --store` looks at what a start would find, and leaves it alone."""

    def check(self, path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
        file = path.with_name("udptracker.yaml")
        file.write_text(f"udptracker: {{storage: {{config: {{snapshot: {path}}}}}}}")
        with pytest.raises(SystemExit) as ended:
            main(["check", str(file), "--store"])
        file.unlink()
        return ended.value.code, capsys.readouterr().err

    def test_of_nothing(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.check(path, capsys) == (0, f"store: {path} is not there yet\n")
        assert beside(path) == []

    def test_of_a_folder_that_is_not_there(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        nowhere = path.with_name("nowhere") / "peers"
        path.with_name("nowhere").mkdir()
        status, said = self.check(nowhere, capsys)
        shutil.rmtree(nowhere.parent)
        assert (status, said) == (0, f"store: {nowhere} is not there yet\n")
        with pytest.raises(FileNotFoundError):
            told(nowhere)

    def test_of_a_good_one_and_of_a_bad_one(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        asyncio.run(kept(path))
        status, said = self.check(path, capsys)
        assert status == 0
        assert f"store: {path} has 100 peers in {path.stat().st_size} bytes, written at 20" in said
        _cut(path)
        status, said = self.check(path, capsys)
        assert status == 1
        assert f"store: {path}: cut short" in said
        assert beside(path) == ["peers"]


class TestClaim:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("nowhere/peers", "No such file or directory"),
            ("file/peers", "Not a directory"),
            ("folder", "which is there and no file"),
            ("pipe", "which is there and no file"),
        ],
    )
    def test_what_can_be_known_is_refused_at_once(self, tmp_path: Path, name: str, found: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError) as caught:
            Saver(settings(tmp_path / name), 1)
        (fault,) = caught.value.faults
        assert fault.path == "storage.config.snapshot"
        assert found in fault.found
        assert str(tmp_path / name) in fault.found

    def test_a_second_one_is_refused_and_leaves_the_first_alone(self, path: Path) -> None:
        first = Claim.of(str(path))
        part_of(path, 0).touch()
        with pytest.raises(ConfigError, match="another process"):
            Claim.of(str(path))
        assert beside(path) == ["peers.part-0"]
        first.release()
        Claim.of(str(path)).release()

    def test_what_a_killed_process_left_is_cleared_away(self, path: Path) -> None:
        for name in (
            "peers.part-0",
            "peers.part-17",
            "peers.taken-0",
            "peers.new",
            "peers",
            "peers.bad-1",
            "peers.party",
            "other.part-0",
        ):
            path.with_name(name).touch()
        Claim.of(str(path)).release()
        assert beside(path) == ["other.part-0", "peers", "peers.bad-1", "peers.party"]

    async def test_a_link_stays_one(self, tmp_path: Path) -> None:
        os.mkdir(tmp_path / "elsewhere")
        path = tmp_path / "peers"
        os.symlink(tmp_path / "elsewhere" / "real", path)
        await kept(path)
        assert stat.S_ISLNK(os.lstat(path).st_mode)
        again = Process(path)
        await again.start()
        assert await again.peers() == 100

    async def test_another_path_takes_effect_with_the_next(self, path: Path) -> None:
        other = path.with_name("other")
        process, saver = Process(), Saver(settings(path), 1)
        await process.start()
        await saver.save(written_by(process))
        before = os.stat(path)
        saver.prepare(settings(other))
        with pytest.raises(ConfigError):  # still held
            Claim.of(str(path))
        saver.use(settings(other))
        await saver.save(written_by(process))
        assert "other" in beside(path)
        assert os.stat(path) == before
        Claim.of(str(path)).release()
        saver.use(settings(""))
        Claim.of(str(other)).release()

    async def test_one_that_is_refused_changes_nothing(self, path: Path) -> None:
        process, saver = Process(), Saver(settings(path), 1)
        await process.start()
        with pytest.raises(ConfigError):
            saver.prepare(settings(path.parent / "nowhere" / "peers"))
        await saver.save(written_by(process))
        assert beside(path) == ["peers"]
