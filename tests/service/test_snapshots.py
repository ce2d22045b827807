"""Daemons on memory that are ended and started again, and their peers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Daemons
from tests.service.test_supervisor import metric, runs, workers_of
from tests.support.daemon import Daemon
from tests.support.waiting import eventually
from udptracker.core.wire import Event, SwarmStats

INFO_HASHES = [bytes([number * 83 % 256, number]) + bytes(18) for number in range(6)]
"""Some for each of two workers, and of three."""
PEERS = 4 * len(INFO_HASHES)

Start = Callable[..., Daemon]


def config(path: Path, interval: str = "0s") -> str:
    return (
        "udptracker: {udp: {private_key: a key that outlives it}, storage: {config: "
        f"{{snapshot: {path}, snapshot_interval: {interval}}}}}}}"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the snapshot, in a folder of its own."""
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "peers"


@pytest.fixture
def start(daemons: Daemons, path: Path) -> Start:
    """Starts a daemon that keeps its peers there, and returns when it has read those of before."""

    def make(workers: int = 1, *, restored: int = 0, interval: str = "0s") -> Daemon:
        daemon = daemons("memory", config=config(path, interval), arguments=["--workers", str(workers)])
        eventually(lambda: metric(daemon, "snapshot_restored_peers_total") == restored, "its peers to be back")
        return daemon

    return make


def fill(daemon: Daemon) -> None:
    """A seeder that has downloaded all of it and a leecher, of both families, in each swarm."""
    for family in (4, 6):
        for info_hash in INFO_HASHES:
            daemon.announce(info_hash, 6881, family=family)
            daemon.announce(info_hash, 6881, family=family, left=0, event=Event.COMPLETED)
            daemon.announce(info_hash, 6882, family=family)


def all_there(daemon: Daemon) -> bool:
    expected = (SwarmStats(1, 1, 1),) * len(INFO_HASHES)
    return all(daemon.scrape(*INFO_HASHES, family=family) == expected for family in (4, 6))


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


@pytest.mark.parametrize("workers", [(1, 1), (2, 3), (3, 1)], ids=["one", "two, then three", "three, then one"])
def test_peers_survive_a_restart(start: Start, path: Path, workers: tuple[int, int]) -> None:
    first = start(workers[0])
    assert f"memory: kept in {path} over a restart" in first.log
    fill(first)
    assert first.stop() == 0
    assert f"wrote {PEERS} peers to {path}" in first.log
    assert names(path) == ["peers", "peers.lock"]
    again = start(workers[1], restored=PEERS)
    assert all_there(again)
    assert again.announce(INFO_HASHES[0], 6883, event=Event.NONE, num_want=1).peers[4:] == (6881).to_bytes(
        2, "big"
    )  # the seeder, as it was
    assert "Traceback" not in first.log + again.log


@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_is_killed_has_the_last_of_its_interval(start: Start, path: Path, workers: int) -> None:
    first = start(workers, interval="1s")
    fill(first)
    eventually(lambda: metric(first, "snapshot_peers") == PEERS, "all peers to be in a snapshot")
    assert metric(first, "snapshot_last_success_timestamp_seconds") > 1_700_000_000
    assert metric(first, "snapshot_failures_total") == 0
    children = workers_of(first)
    first.kill()
    eventually(lambda: not any(map(runs, children)), "its workers to end")
    path.with_name("peers.part-0").write_text("what it was about to write")
    again = start(workers, restored=PEERS)
    assert all_there(again)
    assert names(path) == ["peers", "peers.lock"]


def test_a_worker_that_died_reads_its_share_again(start: Start) -> None:
    daemon = start(2, interval="1s")
    fill(daemon)
    eventually(lambda: metric(daemon, "snapshot_peers") == PEERS, "all peers to be in a snapshot")
    for pid in workers_of(daemon):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: metric(daemon, "snapshot_restored_peers_total") == PEERS, "both shares to be back")
    eventually(lambda: all_there(daemon), "all to be answered for")
    assert "is read from the last snapshot" in daemon.log


def test_a_worker_that_does_not_write_in_time(start: Start, path: Path) -> None:
    """One that stands still: there is no part of it, so the last snapshot stays whole."""
    first = start(2)
    fill(first)
    first.stop()
    before = path.read_bytes()
    second = start(2, restored=PEERS)
    os.kill(workers_of(second)[0], signal.SIGSTOP)
    second.stop()
    assert path.read_bytes() == before
    assert names(path) == ["peers", "peers.lock"]
    assert f"no snapshot was written, and {path} is as it was before: worker " in second.log
    assert "did not write its part" in second.log


def test_one_that_cannot_be_trusted_is_named_and_counted(start: Start, path: Path) -> None:
    path.write_text("no snapshot at all")
    daemon = start(2)
    eventually(lambda: metric(daemon, "snapshot_failures_total", step="read") == 1, "it to be counted")
    assert f"{path}: no snapshot of udptracker; nobody is kept from it, and it is {path}.bad-1 now" in daemon.log
    fill(daemon)
    assert all_there(daemon)
    daemon.stop()
    assert names(path) == ["peers", "peers.bad-1", "peers.lock"]


def test_two_of_one_path(start: Start, daemons: Daemons, tmp_path: Path, path: Path) -> None:
    first = start()
    with Daemon(tmp_path / "second", "memory", config=config(path)) as second:
        second.start(wait=False)
        assert second.wait() == 2
        assert "storage.config.snapshot: found" in second.log
        assert "another process keeps" in second.log
    fill(first)
    assert first.stop() == 0
    assert f"wrote {PEERS} peers" in first.log


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with Daemon(tmp_path / "daemon", "memory", config=config(tmp_path / "nowhere" / "peers")) as daemon:
        daemon.start(wait=False)
        assert daemon.wait() == 2
        assert "storage.config.snapshot: found" in daemon.log
        assert "(No such file or directory), expected a file in a directory that can be written to" in daemon.log


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_takes_another_path(start: Start, path: Path, workers: int) -> None:
    daemon = start(workers)
    (file,) = path.parent.parent.glob("*.yaml")
    fill(daemon)
    file.write_text(config(path.with_name("other"), "1s"))
    daemon.signal(signal.SIGHUP)
    eventually(lambda: metric(daemon, "snapshot_peers") == PEERS, "the first snapshot at the new path")
    assert "reloaded: storage.config.snapshot, storage.config.snapshot_interval" in daemon.log
    file.write_text(config(path.parent / "nowhere" / "peers"))
    daemon.signal(signal.SIGHUP)
    eventually(lambda: metric(daemon, "config_reloads_total", result="refused") == 1, "it to be refused")
    assert daemon.stop() == 0
    assert names(path) == ["other", "other.lock", "peers.lock"]
    assert daemon.log.count(f"wrote {PEERS} peers to {path.with_name('other')}") >= 2
