"""Snapshots that are written: what they cannot be written to, who may, and what a check says of it."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service.keeping import (
    Process,
    beside,
    cut,
    kept,
    read,
    settings,
    written_by,
)
from udptracker.cli import main
from udptracker.config import ConfigError
from udptracker.service.claim import Claim
from udptracker.service.saver import Saver
from udptracker.service.snapshot_file import part_of, told


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
        cut(path)
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
