"""`udptracker load` on real trackers: in good days, and when they are killed, paused, or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.waiting import eventually
from udptracker.load import InfoHashes, Interval, LoadError, LoadOptions, LoadReport, run
from udptracker.load.world import World

SMALL: dict[str, Any] = {"torrents": 200, "peers": 1000, "duration": 1.0, "warmup": 0.2, "num_want": 20}


def load(daemon: Daemon, **more: Any) -> LoadReport:
    report = run(LoadOptions(**{"host": "127.0.0.1", "port": daemon.port, **SMALL, **more}))
    assert report.requests == report.answered + report.failed + report.lost + report.late
    return report


def assert_flawless(report: LoadReport) -> None:
    assert not report.errors
    assert (report.failed, report.lost, report.late, report.unsent) == (0, 0, 0, 0)
    assert report.answered == report.requests > 0


@pytest.fixture
def daemon(daemons: Daemons) -> Daemon:
    return daemons("memory")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_answer_of_our_tracker_is_right(daemon: Daemon, host: str) -> None:
    report = load(daemon, host=host, mix=(1, 8, 1), check_every=1, prefill=True)
    assert_flawless(report)
    assert report.checked >= report.sent["announce"]  # those of the warm-up that were on their way too
    assert all(report.sent.values())
    assert report.sent["announce"] > 4 * report.sent["scrape"]
    assert report.tracker_pids == (daemon.pid,)
    assert report.tracker_cpu > 0
    assert report.generator_cpu > 0
    assert len(report.intervals) == 1
    assert 0 < report.latency.p50 <= report.latency.p99 <= report.latency.max


def test_requests_one_by_one_without_a_rest(daemon: Daemon) -> None:
    assert_flawless(load(daemon, burst=1, rest=0.0))


def test_prefill_leaves_the_whole_world_in_the_tracker(daemon: Daemon) -> None:
    options = LoadOptions(
        host="127.0.0.1", port=daemon.port, **{**SMALL, "duration": 0.2, "warmup": 0.0}, mix=(0, 0, 1), prefill=True
    )
    run(options)
    world = World(options, [bytes([127, 0, 0, 2 + nth]) for nth in range(options.sources)])
    peers = [peer for lane in range(options.sources) for peer in world.peers(lane)]
    for torrent in range(10):
        (counts,) = daemon.scrape(world.info_hashes[torrent])
        members = [peer.seeder for peer in peers if peer.torrent == torrent]
        assert (counts.seeders, counts.leechers) == (sum(members), len(members) - sum(members))


def test_an_open_loop_keeps_to_its_schedule(daemon: Daemon) -> None:
    seen: list[Interval] = []
    options = LoadOptions(
        host="127.0.0.1", port=daemon.port, **{**SMALL, "duration": 2.0}, rate=1500.0, processes=2, sources=3
    )
    report = run(options, seen.append)
    assert_flawless(report)
    # What was due in the warm-up and sent late counts as well.
    assert abs(report.requests - 3000) <= 3 + 1500 * report.worst_lag / 1e6
    assert 0 < report.mean_lag < report.worst_lag
    assert seen == list(report.intervals)
    assert [interval.second for interval in seen] == [1, 2]
    assert seen[1].ended - seen[0].ended == pytest.approx(1.0)
    assert seen[1].ended <= time.monotonic()


def test_a_stall_of_the_tracker_is_not_hidden_by_waiting_for_it(daemon: Daemon) -> None:
    seen: list[Interval] = []

    def pause(interval: Interval) -> None:
        seen.append(interval)
        if interval.second == 1:
            daemon.pause()
            resumer.start()

    def resume() -> None:
        time.sleep(0.6)  # the stall itself, not a wait for something
        daemon.resume()

    resumer = Thread(target=resume)
    report = run(LoadOptions(host="127.0.0.1", port=daemon.port, **{**SMALL, "duration": 3.0}, rate=1000.0), pause)
    resumer.join()
    assert_flawless(report)
    # Of 3000 requests, those due in the 0.6 seconds of the stall waited for its end: a fifth of all.
    assert report.latency.p90 > 150_000
    assert report.latency.max > 500_000


def test_a_killed_tracker_is_loss_and_the_run_ends_in_time(daemon: Daemon) -> None:
    def kill(interval: Interval) -> None:
        if interval.second == 1:
            daemon.kill()

    options = LoadOptions(host="127.0.0.1", port=daemon.port, **{**SMALL, "duration": 3.0}, rate=2000.0, timeout=0.5)
    started = time.monotonic()
    report = run(options, kill)
    assert time.monotonic() - started < 15.0
    assert report.lost > 1000
    assert report.errors["port unreachable"] > 0
    assert report.requests == report.answered + report.lost + report.late + report.failed
    assert report.intervals[0].answered > 1500
    assert report.intervals[2].answered == 0


def test_a_tracker_with_another_key_is_found_again(daemons: Daemons, tmp_path: Path) -> None:
    first = daemons("memory")
    reborn = Daemon(tmp_path / "reborn", "memory", port=first.port)

    def replace(interval: Interval) -> None:
        if interval.second == 1:
            first.kill()
            reborn.start()

    with reborn:
        options = LoadOptions(host="127.0.0.1", port=first.port, **{**SMALL, "duration": 8.0}, timeout=0.5)
        report = run(options, replace)
    assert report.errors["refused: bad connection ID"] > 0
    assert report.intervals[-1].answered > 100
    assert report.intervals[-1].failed == 0


def test_nobody_there(daemon: Daemon) -> None:
    daemon.kill()
    with pytest.raises(LoadError, match="no answer"):
        run(LoadOptions(host="127.0.0.1", port=daemon.port, **SMALL))


def test_a_stranger_is_left_alone() -> None:
    with pytest.raises(LoadError, match="--i-own-this-tracker"):
        run(LoadOptions(host="192.0.2.1", port=6969, **SMALL))


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`udptracker load` as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "udptracker", "load", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "120"},
    )


def test_the_command(daemon: Daemon, tmp_path: Path) -> None:
    small = ["--torrents", "200", "--peers", "1000", "--duration", "1", "--warmup", "0.2"]
    url = f"udp://127.0.0.1:{daemon.port}"
    done = command(url, *small, "--json", "out.json", "--plot", "out.svg", "--mix", "50:50:1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("connect", "announce", "scrape", "p99.9", "throughput", "tracker CPU", "generator CPU"):
        assert part in done.stdout
    outcome = json.loads((tmp_path / "out.json").read_text())
    assert outcome["requests"]["answered"] == outcome["requests"]["sent"] > 0
    assert outcome["options"]["mix"] == [50, 50, 1]
    assert (tmp_path / "out.svg").stat().st_size > 1000

    piped = command(url, *small, "--json", "-", "--pid", str(daemon.pid), cwd=tmp_path)
    assert json.loads(piped.stdout)["tracker"]["pids"] == [daemon.pid]


def test_the_command_prints_the_info_hashes_it_would_use(tmp_path: Path) -> None:
    done = command("udp://127.0.0.1:1", "--torrents", "30", "--seed", "5", "--print-info-hashes", cwd=tmp_path)
    options = LoadOptions(host="127.0.0.1", port=1, torrents=30, seed=5)
    assert done.stdout.split() == [info_hash.hex() for info_hash in InfoHashes(options)]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["udp://192.0.2.1:1"], 1, "--i-own-this-tracker"),
        (["http://127.0.0.1:1"], 2, "bad URL"),
        (["udp://127.0.0.1:1", "--seeders", "2"], 2, "--seeders"),
        (["udp://127.0.0.1:1", "--plot", "out.gif"], 2, "--plot"),
        (["udp://127.0.0.1:1", "--mix", "1:1"], 2, "--mix"),
    ],
)
def test_the_command_refuses(arguments: list[str], status: int, words: str, tmp_path: Path) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.5])
def test_ctrl_c_ends_all_its_processes_at_any_time(delay: float, daemon: Daemon, tmp_path: Path) -> None:
    """A terminal sends it to the whole group: here so many seconds after the first process was born."""
    with subprocess.Popen(
        [sys.executable, "-m", "udptracker", "load", f"udp://127.0.0.1:{daemon.port}", "--duration", "60"],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        eventually(lambda: children_of(process.pid), "the generator's processes", every=0.001)
        time.sleep(delay)
        pids = children_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert errors == b"udptracker: interrupted\n"
        assert process.returncode == 130
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "them to be gone")


def test_ctrl_c_shows_what_was_found_until_then(daemon: Daemon, tmp_path: Path) -> None:
    url, path = f"udp://127.0.0.1:{daemon.port}", tmp_path / "out.json"
    small = ["--torrents", "200", "--peers", "1000", "--processes", "2", "--warmup", "0.1"]
    ours, terminal = os.openpty()
    with (
        open(ours, "rb", buffering=0) as screen,
        subprocess.Popen(
            [sys.executable, "-m", "udptracker", "load", url, *small, "--duration", "60", "--json", path],
            stdout=subprocess.PIPE,
            stderr=terminal,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "120", "TERM": "xterm"},
            start_new_session=True,
        ) as process,
    ):
        os.close(terminal)
        seen = b""
        while b"requests/s" not in seen:  # its line moves after each second
            seen += screen.read(4096)
        os.killpg(process.pid, signal.SIGINT)
        shown, _ = process.communicate(timeout=20)
        assert process.returncode == 130
    outcome = json.loads(path.read_text())
    assert outcome["interrupted"]
    assert 1 <= outcome["seconds"] == len(outcome["intervals"]) < 60
    requests = outcome["requests"]
    assert requests["answered"] == sum(interval["answered"] for interval in outcome["intervals"]) > 0
    assert 0 <= requests["waiting"] <= 2 * outcome["options"]["in_flight"]
    assert outcome["tracker"]["cpu_us_per_request"] > 0
    assert b"of 60 s, then interrupted" in shown


def children_of(pid: int) -> list[str]:
    """The process ids of its children."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
