"""What the daemon says to systemd, and what it takes from it: real sockets, with this test in systemd's place."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.service.test_supervisor import workers_of
from tests.support import activation
from tests.support.daemon import HOSTS, Daemon
from tests.support.servers import StoreServer
from tests.support.udp import TrackerClient
from tests.support.waiting import PATIENCE, eventually, free_port
from udptracker.service.notify import Notifier, inherited

INFO_HASH = bytes(range(20))


class Systemd:
    """The other end of sd_notify(3)."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(path)
        self.heard: list[dict[str, str]] = []

    def listen(self) -> list[dict[str, str]]:
        """Everything that was said so far."""
        while True:
            try:
                lines = self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in lines))

    def hear(self, what: str, times: int = 1) -> dict[str, str]:
        """The message of that kind, once as many have come."""

        def of_the_kind() -> list[dict[str, str]]:
            return [message for message in self.listen() if what in message]

        eventually(lambda: len(of_the_kind()) >= times, f"{what} {times} times; {self.heard}")
        return of_the_kind()[times - 1]

    def hear_of(self, words: str) -> None:
        """Return when a status with these words has come."""
        eventually(lambda: any(words in message.get("STATUS", "") for message in self.listen()), words)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify"))
    yield made
    made.close()


class Unit(Daemon):
    """A tracker that is given sockets, started anew as often as one likes."""

    def __init__(self, directory: Path, sockets: Sequence[socket.socket], *args: Any, **options: Any) -> None:
        super().__init__(directory, *args, port=sockets[0].getsockname()[1], **options)
        self._given = sockets

    @property
    def command(self) -> list[str]:
        numbers = [str(sock.fileno()) for sock in self._given]
        names = ":".join("udptracker" for _ in numbers)
        return [sys.executable, activation.__file__, names, *numbers, "--", *super().command]

    def launch(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        super().launch(command, environment, [sock.fileno() for sock in self._given])


def handed_over(hosts: Sequence[str], each: int = 1) -> list[socket.socket]:
    """Bound sockets of one free port, as a socket unit makes them."""
    port = free_port()
    made = []
    for host in hosts:
        for _ in range(each):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if each > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            made.append(sock)
    return made


class TestNotifier:
    def test_without_systemd_it_speaks_to_nobody(self) -> None:
        notifier = Notifier({})
        notifier.ready("serving")
        assert not notifier.is_heard
        assert notifier.watchdog_seconds is None

    def test_nobody_who_reads_is_no_failure(self, tmp_path: Path) -> None:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("serving")

    def test_what_is_meant_for_it_alone_is_taken_out(self, tmp_path: Path) -> None:
        environment = {
            "NOTIFY_SOCKET": str(tmp_path / "nobody"),
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": str(os.getpid()),
            "HOME": "/",
        }
        assert Notifier(environment).watchdog_seconds == 3.0
        assert environment == {"HOME": "/"}

    def test_a_watchdog_of_another_process_is_not_ours(self) -> None:
        assert Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).watchdog_seconds is None

    def test_an_abstract_address(self) -> None:
        name = f"udptracker-{free_port()}"
        there = Systemd(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("all of\nthem")
        assert there.hear("READY") == {"READY": "1", "STATUS": "all of them"}
        there.close()

    @pytest.mark.parametrize("environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}])
    def test_sockets_of_another_process_are_not_ours(self, environment: dict[str, str]) -> None:
        assert inherited(environment) == []
        assert environment == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_life_of_a_service(systemd: Systemd, tmp_path: Path, valkey: StoreServer, workers: int) -> None:
    path = tmp_path / "udptracker.yaml"
    path.write_text("udptracker: {announce_interval: 10m}")
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    arguments = ["--config", str(path), "--workers", str(workers)]
    with Daemon(tmp_path, valkey.url, arguments=arguments, environment=environment) as daemon:
        daemon.start(wait=False)
        assert systemd.hear("READY") == {"READY": "1", "STATUS": "serving"}
        assert daemon.announce(INFO_HASH, 6881).interval == 600, "ready before it served"
        systemd.hear("WATCHDOG", times=2)

        path.write_text("udptracker: {announce_interval: 11m}")
        before = time.monotonic_ns() // 1000
        daemon.signal(signal.SIGHUP)
        assert before < int(systemd.hear("RELOADING")["MONOTONIC_USEC"]) < time.monotonic_ns() // 1000
        assert systemd.hear("READY", times=2)["STATUS"] == "configuration reloaded: announce_interval"

        path.write_text("udptracker: {announce_interval: soon}")
        daemon.signal(signal.SIGHUP)
        assert "refused" in systemd.hear("READY", times=3)["STATUS"]

        systemd.hear_of("requests/s")
        systemd.hear_of("the store answers; ready")
        daemon.signal(signal.SIGTERM)
        assert systemd.hear("STOPPING")
        assert daemon.wait() == 0
        assert all("READY" not in message for message in systemd.heard[-1:])


def test_a_worker_that_stands_still_starves_the_watchdog(systemd: Systemd, tmp_path: Path, valkey: StoreServer) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    with Daemon(tmp_path, valkey.url, arguments=["--workers", "2"], environment=environment) as daemon:
        daemon.start()
        systemd.hear("WATCHDOG", times=3)
        stuck = workers_of(daemon)[0]
        os.kill(stuck, signal.SIGSTOP)
        time.sleep(1.0)  # for what was asked before
        heard = sum("WATCHDOG" in message for message in systemd.listen())
        time.sleep(1.0)
        assert sum("WATCHDOG" in message for message in systemd.listen()) == heard
        os.kill(stuck, signal.SIGCONT)
        systemd.hear("WATCHDOG", times=heard + 2)


def test_a_store_that_is_away_does_not(systemd: Systemd, tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    with Daemon(tmp_path, f"redis://127.0.0.1:{free_port()}/0", environment=environment) as daemon:
        daemon.start(wait=False)
        systemd.hear("WATCHDOG", times=3)


class TestSockets:
    @pytest.mark.parametrize(("workers", "each"), [(1, 1), (2, 1), (2, 2)])
    def test_both_families_and_any_number(self, tmp_path: Path, valkey: StoreServer, workers: int, each: int) -> None:
        sockets = handed_over(list(HOSTS.values()), each)
        with Unit(tmp_path, sockets, valkey.url, arguments=["--workers", str(workers)]) as unit:
            unit.start()
            for family in HOSTS:
                for number in range(4):
                    assert unit.announce(INFO_HASH, 6881 + number, family=family).leechers == number + 1
            assert unit.log.count("listening on udp") == 2
        for sock in sockets:
            sock.close()

    def test_what_arrives_during_a_restart_is_answered_after_it(self, tmp_path: Path) -> None:
        sockets = handed_over([HOSTS[4]])
        with Unit(tmp_path, sockets, config="udptracker: {udp: {private_key: secret}}", storage="memory") as unit:
            unit.start()
            with TrackerClient(HOSTS[4], unit.port, timeout=PATIENCE, attempts=1) as client:
                issued = client.connect()
                assert unit.stop() == 0
                with TrackerClient(HOSTS[4], unit.port, timeout=PATIENCE, attempts=1) as other:
                    other.connection_id = issued
                    unit.start(wait=False)
                    assert other.announce(INFO_HASH, 6881).leechers == 1
        sockets[0].close()

    def test_what_does_not_fit_is_named(self, tmp_path: Path, valkey: StoreServer) -> None:
        sockets = handed_over([HOSTS[4]], each=3)
        with Unit(tmp_path, sockets, valkey.url, arguments=["--workers", "2"]) as unit:
            unit.start(wait=False)
            assert unit.wait() == 1
            assert "3 sockets were handed over on 127.0.0.1" in unit.log
        for sock in sockets:
            sock.close()
