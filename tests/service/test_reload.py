"""A configuration that changes under a running tracker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemons
from tests.service.test_supervisor import metric, workers_of
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer
from tests.support.udp import Refused
from tests.support.waiting import eventually
from udptracker import config
from udptracker.config import Settings
from udptracker.core.wire import SwarmStats
from udptracker.service.reload import NEEDS_A_RESTART, change
from udptracker.storage.redis.keys import KEY_BYTES, SHARED_KEYS

INFO_HASH = bytes(range(20))

Start = Callable[..., Daemon]


def settings(**tree: Any) -> Settings:
    return config.from_tree(tree, "udptracker", {}).settings


class TestChange:
    def test_nothing(self) -> None:
        assert change(settings(), settings()) == (settings(), [], [])

    def test_what_can_be_taken_is(self) -> None:
        new = settings(announce_interval="10m", udp={"max_numwant": 60}, storage={"config": {"gc_interval": "1m"}})
        assert change(settings(), new) == (
            new,
            ["announce_interval", "udp.max_numwant", "storage.config.gc_interval"],
            [],
        )

    def test_what_cannot_is_named_and_left(self) -> None:
        old, new = settings(udp={"addr": ":1"}), settings(udp={"addr": ":2", "max_numwant": 60}, metrics_addr="off")
        taken = change(old, new)
        assert taken.settings == settings(udp={"addr": ":1", "max_numwant": 60})
        assert (taken.taken, taken.left) == (["udp.max_numwant"], ["metrics_addr", "udp.addr"])

    def test_another_store_is_left_with_all_that_is_its_own(self) -> None:
        new = settings(announce_interval="10m", storage={"name": "redis", "config": {"gc_interval": "1m"}})
        assert change(settings(), new) == (settings(announce_interval="10m"), ["announce_interval"], ["storage"])

    @pytest.mark.parametrize("path", NEEDS_A_RESTART)
    def test_each_that_needs_a_restart_is_a_setting(self, path: str) -> None:
        part: Any = settings(storage={"name": "redis"})
        for name in path.split("."):
            part = getattr(part, name)


def write(path: Path, text: str) -> None:
    path.write_text(f"udptracker:\n{text}")


def reload(daemon: Daemon, said: str, number: signal.Signals = signal.SIGHUP) -> None:
    """Tell it to, and return when it has said what came of it once more than before."""
    before = daemon.log.count(said)
    daemon.signal(number)
    eventually(lambda: daemon.log.count(said) > before, f"it to say {said!r}")


@pytest.fixture(params=["one process", "workers"])
def start(request: pytest.FixtureRequest, daemons: Daemons) -> Start:
    """Starts a daemon on a file, by itself on memory or with two workers on Valkey."""

    def make(path: Path, text: str) -> Daemon:
        write(path, text)
        if request.param == "workers":
            valkey: StoreServer = request.getfixturevalue("valkey")
            return daemons(valkey.url, arguments=["--config", str(path), "--workers", "2"])
        return daemons("memory", arguments=["--config", str(path)])

    return make


class TestSighup:
    def test_settings_reach_every_worker_and_nothing_is_dropped(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "udptracker.yaml"
        daemon = start(path, "  udp: {private_key: old}")
        pids = workers_of(daemon)
        daemon.announce(INFO_HASH, 6881)
        with daemon.client() as client:
            issued = client.connect()
            write(path, "  announce_interval: 10m\n  udp: {private_key: [new, old], max_numwant: 60}")
            reload(daemon, "configuration reloaded: announce_interval, udp.private_key, udp.max_numwant")
            assert client.connection_id == issued
            assert client.announce(INFO_HASH, 6882).interval == 600
        for source in (f"127.0.0.{number}" for number in range(2, 12)):
            assert daemon.announce(INFO_HASH, 6883, source=source).interval == 600
        assert daemon.scrape(INFO_HASH) == (SwarmStats(0, 0, 12),)
        assert workers_of(daemon) == pids
        assert metric(daemon, "config_reloads_total", result="taken") == 1
        assert metric(daemon, "config_reloads_total", result="refused") == 0

    def test_a_key_that_is_taken_out_signs_no_more(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "udptracker.yaml"
        daemon = start(path, "  udp: {private_key: old}")
        with daemon.client() as client:
            client.connect()
            write(path, "  udp: {private_key: new}")
            reload(daemon, "configuration reloaded: udp.private_key")
            with pytest.raises(Refused):
                client.announce(INFO_HASH, 6881)
        assert daemon.announce(INFO_HASH, 6881).leechers == 1

    def test_the_page_shows_swarms_and_the_log_is_of_json_from_then_on(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "udptracker.yaml"
        daemon = start(path, "  status_swarms: 0")
        daemon.announce(INFO_HASH, 6881)
        write(path, "  status_swarms: 3\n  log_format: json")
        reload(daemon, "configuration reloaded: status_swarms, log_format")
        (said,) = (line for line in daemon.log.splitlines() if "configuration reloaded" in line)
        assert json.loads(said)["level"] == "INFO"
        daemon.announce(INFO_HASH, 6882)
        (swarm,) = json.loads(daemon.get("/stats.json")[1])["busiest"]
        assert (swarm["info_hash"], swarm["leechers"]) == (INFO_HASH.hex(), 2)
        write(path, "  status_swarms: 0")
        reload(daemon, "configuration reloaded: status_swarms, log_format")
        assert json.loads(daemon.get("/stats.json")[1])["busiest"] == []
        _, said = (line for line in daemon.log.splitlines() if "configuration reloaded" in line)
        assert said.endswith("INFO configuration reloaded: status_swarms, log_format")

    def test_a_bad_file_leaves_what_was(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "udptracker.yaml"
        daemon = start(path, "  announce_interval: 10m")
        write(path, "  announce_interval: soon")
        reload(daemon, "the configuration is refused: what was read before still holds")
        assert "udptracker.announce_interval: found 'soon'" in daemon.log
        path.unlink()
        reload(daemon, "the configuration is refused: what was read before still holds")
        assert daemon.announce(INFO_HASH, 6881).interval == 600
        assert metric(daemon, "config_reloads_total", result="refused") == 2

    def test_what_cannot_change_is_named(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "udptracker.yaml"
        daemon = start(path, "  announce_interval: 10m")
        write(path, "  announce_interval: 11m\n  udp: {receive_buffer: 8192}")
        reload(daemon, "left as it was until a restart: udp.receive_buffer")
        assert daemon.announce(INFO_HASH, 6881).interval == 660


def test_sigusr1_is_chihayas_way_to_say_it(daemons: Daemons, tmp_path: Path) -> None:
    path = tmp_path / "udptracker.yaml"
    write(path, "  announce_interval: 10m")
    daemon = daemons("memory", arguments=["--config", str(path)])
    write(path, "  announce_interval: 11m\n  log_level: warning")
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: daemon.announce(INFO_HASH, 6881).interval == 660, "the new interval")
    write(path, "  announce_interval: 12m\n  log_level: info")
    reload(daemon, "configuration reloaded: announce_interval, log_level")


def test_a_worker_that_is_born_later_has_the_new_settings(
    daemons: Daemons, valkey: StoreServer, tmp_path: Path
) -> None:
    path = tmp_path / "udptracker.yaml"
    write(path, "  announce_interval: 10m")
    daemon = daemons(valkey.url, arguments=["--config", str(path), "--workers", "2"])
    write(path, "  announce_interval: 11m")
    reload(daemon, "configuration reloaded: announce_interval")
    for pid in workers_of(daemon):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: daemon.log.count("died") == 2, "both deaths to be said")
    daemon.wait_until_ready()
    assert daemon.announce(INFO_HASH, 6881).interval == 660


def has_interval(daemon: Daemon, info_hash: bytes, seconds: int) -> bool:
    return daemon.announce(info_hash, 6881).interval == seconds


def test_a_worker_that_stood_still_takes_the_last_settings(
    daemons: Daemons, valkey: StoreServer, tmp_path: Path
) -> None:
    path = tmp_path / "udptracker.yaml"
    write(path, "  announce_interval: 10m")
    daemon = daemons(valkey.url, arguments=["--config", str(path), "--workers", "2"])
    stuck = workers_of(daemon)
    for pid in stuck:
        os.kill(pid, signal.SIGSTOP)
    try:
        for interval in ("11m", "12m"):
            write(path, f"  announce_interval: {interval}")
            reload(daemon, "configuration reloaded: announce_interval")
    finally:
        for pid in stuck:
            os.kill(pid, signal.SIGCONT)
    assert daemon.log.count("not every worker has taken the new configuration yet") == 2
    for last in range(16):  # of swarms of both
        info_hash = bytes(3) + bytes([last]) + bytes(16)
        eventually(partial(has_interval, daemon, info_hash, 720), "the last interval")


def test_without_a_key_nodes_share_a_new_one_and_never_what_was_configured(
    daemons: Daemons, valkey: StoreServer, tmp_path: Path
) -> None:
    path = tmp_path / "udptracker.yaml"
    write(path, "  udp: {private_key: s3cr3t}")
    daemon = daemons(valkey.url, arguments=["--config", str(path)])
    write(path, "  log_level: info")
    reload(daemon, "configuration reloaded: udp.private_key")
    eventually(lambda: "connection ids are valid on all nodes" in daemon.log, "it to agree on a key")
    with valkey.client() as client:
        held = client.get(SHARED_KEYS)
    assert isinstance(held, bytes)
    shared = bytes.fromhex(held.decode())
    assert len(shared) == KEY_BYTES
    assert b"s3cr3t" not in shared


def test_sigusr2_says_how_it_does(daemons: Daemons) -> None:
    daemon = daemons("memory")
    daemon.announce(INFO_HASH, 6881)
    daemon.signal(signal.SIGUSR2)
    eventually(lambda: "status: " in daemon.log, "the report")
    (line,) = [line for line in daemon.log.splitlines() if "status: " in line]
    assert "requests/s, 2 in all" in line
    assert line.endswith("the store answers; ready")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_only_shows_when_it_is_taken_refuses_all_of_it(daemons: Daemons, tmp_path: Path, workers: str) -> None:
    """A bad line of a list: the settings beside it are not taken either, and a worker that is born later serves."""
    path, denied = tmp_path / "udptracker.yaml", tmp_path / "denied"
    write(path, "  announce_interval: 10m")
    daemon = daemons("memory", arguments=["--config", str(path), "--workers", workers])
    denied.write_text("no info hash\n")
    write(path, f"  announce_interval: 11m\n  access: {{torrents: {{deny_from: {denied}}}}}")
    reload(daemon, "the configuration is refused: what was read before still holds")
    assert f"{denied}, line 1: found 'no info hash'" in daemon.log
    assert 'udptracker_config_reloads_total{result="refused"} 1' in daemon.get("/metrics")[1]
    pids = workers_of(daemon)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: daemon.log.count("died") == len(pids), "every death to be said")
    daemon.wait_until_ready()
    assert daemon.announce(INFO_HASH, 6881).interval == 600
    denied.write_text(f"{INFO_HASH.hex()}\n")
    reload(daemon, "configuration reloaded: announce_interval, access.torrents.deny_from")
    with daemon.client() as client, pytest.raises(Refused, match="unapproved torrent"):
        client.announce(INFO_HASH, 6881)


SLOW = """  announce_interval: 11m
  prehooks:
    - name: tests.access.some_hooks:AtOnce
      options: {{opens_in: 3, unable: {unable}}}"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hook_that_takes_its_time_to_open_is_waited_for(daemons: Daemons, tmp_path: Path, workers: str) -> None:
    """Longer than a worker has for other answers: what it says in the end holds for all."""
    path = tmp_path / "udptracker.yaml"
    write(path, "  announce_interval: 10m")
    daemon = daemons("memory", arguments=["--config", str(path), "--workers", workers])
    write(path, SLOW.format(unable="true"))
    reload(daemon, "the configuration is refused: what was read before still holds")
    assert "does not open: ConnectionError: nobody there" in daemon.log
    pids = workers_of(daemon)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: daemon.log.count("died") == len(pids), "every death to be said")
    daemon.wait_until_ready()
    assert daemon.announce(INFO_HASH, 6881).interval == 600
    write(path, SLOW.format(unable="false"))
    reload(daemon, "configuration reloaded: announce_interval, prehooks")
    assert daemon.announce(INFO_HASH, 6881).interval == 660
    assert "not every worker" not in daemon.log


def test_a_worker_that_dies_before_it_has_taken_them_is_born_with_what_holds(daemons: Daemons, tmp_path: Path) -> None:
    path = tmp_path / "udptracker.yaml"
    write(path, "  announce_interval: 10m")
    daemon = daemons("memory", arguments=["--config", str(path), "--workers", "2"])
    write(path, SLOW.format(unable="true"))
    daemon.signal(signal.SIGHUP)
    os.kill(workers_of(daemon)[0], signal.SIGKILL)
    eventually(lambda: "still holds" in daemon.log, "the refusal")
    daemon.wait_until_ready()
    assert daemon.log.count("died") == 1
    assert daemon.announce(INFO_HASH, 6881).interval == 600
