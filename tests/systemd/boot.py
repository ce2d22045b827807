"""The service under a systemd that boots: installed, started, reloaded, restarted under load, killed, starved, denied.

It takes root, Debian's debootstrap and systemd-container, and a mirror of Debian, so `.ci/run` runs it, and not the
README's test command, which finds no file of this name. UDPTRACKER_DEBIAN names a folder that keeps what it is made of.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import PATIENCE, eventually
from tests.systemd.machine import REPOSITORY, Machine, installed, why_not

URL = "udp://127.0.0.1:6969"
HASH = "00" * 20
CONFIG = "/etc/udptracker/udptracker.yaml"
BASE = "udptracker:\n  udp: {private_key: secret}\n"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One with the units of docs/deployment.md, started."""
    assert not why_not(), f"no machine can be booted here: {why_not()}"
    scratch = tmp_path_factory.mktemp("boot")
    with installed(scratch / "root") as folder, Machine(folder, scratch / "log") as booted:
        booted.write(CONFIG, BASE)
        booted.systemctl("enable", "--now", "udptracker.socket", "udptracker")
        yield booted


def main_pid(machine: Machine) -> int:
    return int(machine.show("udptracker", "MainPID")["MainPID"])


def announce(machine: Machine) -> dict[str, object]:
    answer = machine.udptracker("announce", URL, HASH, "--json")
    assert isinstance(answer, dict)
    return answer


def settle(machine: Machine) -> None:
    """Return when the service is as it is after a start."""
    eventually(lambda: machine.show("udptracker", "ActiveState")["ActiveState"] == "active", "the service")


@contextmanager
def changed(machine: Machine, unit: str, lines: str) -> Iterator[None]:
    """A unit with other lines as well, and the service started anew with it. At the end all is as it was."""

    def start() -> str:
        machine.systemctl("daemon-reload")
        machine.systemctl("stop", "udptracker")  # whoever uses a socket keeps its unit from being started anew
        if unit.endswith(".socket"):
            machine.systemctl("restart", unit)
        return machine.run("systemctl", "start", "udptracker", check=False)

    folder = f"/run/systemd/system/{unit}.d"
    machine.run("mkdir", "-p", folder)
    machine.write(f"{folder}/changed.conf", lines)
    try:
        start()
        yield
    finally:
        machine.run("rm", f"{folder}/changed.conf")
        machine.write(CONFIG, BASE)
        start()
        settle(machine)


@contextmanager
def on_sockets_of_three_workers(machine: Machine) -> Iterator[None]:
    """Each address three times in the socket unit, and as many workers on memory."""
    addresses = 3 * "ListenDatagram=0.0.0.0:6969\n" + 3 * "ListenDatagram=[::]:6969\n"
    machine.write(CONFIG, f"{BASE}  workers: 3\n")
    with changed(machine, "udptracker.socket", f"[Socket]\nListenDatagram=\nReusePort=yes\n{addresses}"):
        settle(machine)
        yield


def is_another(machine: Machine, pid: int) -> bool:
    """Whether the main process is one, and not this one any more."""
    return main_pid(machine) not in (0, pid)


def children(machine: Machine, pid: int) -> list[int]:
    return [int(child) for child in machine.run("cat", f"/proc/{pid}/task/{pid}/children").split()]


def test_it_is_exposed_to_little() -> None:
    unit = REPOSITORY / "systemd/udptracker.service"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(said.rpartition("udptracker.service: ")[2].split()[0]) <= 1.2


def test_started_it_is_ready_and_serves_on_the_sockets_of_systemd(machine: Machine) -> None:
    assert machine.show("udptracker", "ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    assert announce(machine)["interval"] == 1800
    eventually(lambda: "requests/s" in machine.show("udptracker", "StatusText")["StatusText"], "the status")
    assert "listening on udp 0.0.0.0:6969" in machine.journal()


def test_reload_takes_a_new_interval_and_refuses_a_bad_file(machine: Machine) -> None:
    pid = main_pid(machine)
    machine.write(CONFIG, BASE + "  announce_interval: 11m\n")
    machine.systemctl("reload", "udptracker")
    eventually(lambda: announce(machine)["interval"] == 660, "the new interval")
    machine.write(CONFIG, BASE + "  announce_interval: soon\n")
    machine.systemctl("reload", "udptracker")
    eventually(lambda: "still holds" in machine.show("udptracker", "StatusText")["StatusText"], "the refusal")
    assert announce(machine)["interval"] == 660
    machine.write(CONFIG, BASE)
    machine.systemctl("reload", "udptracker")
    eventually(lambda: announce(machine)["interval"] == 1800, "the old interval")
    assert main_pid(machine) == pid


def test_a_secret_in_a_credential_is_read_again_by_a_reload(machine: Machine) -> None:
    key = "/etc/udptracker/private_key"
    machine.write(key, "one\n")
    machine.write(CONFIG, "udptracker:\n  udp: {private_key: '${file:private_key}'}\n")
    machine.run("chmod", "600", key, CONFIG)
    with changed(machine, "udptracker.service", f"[Service]\nLoadCredential=private_key:{key}\n"):
        settle(machine)
        pid = main_pid(machine)
        machine.write(key, "two\n")
        machine.systemctl("reload", "udptracker")
        reloaded = "configuration reloaded: udp.private_key"
        eventually(lambda: reloaded in machine.show("udptracker", "StatusText")["StatusText"], "the other key")
        assert main_pid(machine) == pid
    machine.run("rm", key)


def under_load(machine: Machine, report: Path, do: Callable[[], None]) -> dict[str, Any]:
    """What a load of 5,000 requests a second came to, in the middle of which something is done.

    A request is lost if it is not answered within 15 s, longer than any restart takes.
    """
    world = ["--torrents", "100", "--peers", "1000"]  # small, since the load begins once it has been announced
    rate = ["--rate", "5000", "--duration", "12", "--timeout", "15"]
    load = machine.start_udptracker("load", URL, *world, *rate, "--json", str(report))
    time.sleep(5.0)
    do()
    assert load.wait(120.0) == 0
    found: dict[str, Any] = json.loads(report.read_text())
    longest = found["latency_us"]["all"]["max"] / 1e6
    print(f"\n{found['requests']}, p50 {found['latency_us']['all']['p50'] / 1e3:.1f} ms, longest {longest:.2f} s")
    return found


def restart(machine: Machine) -> None:
    began = time.monotonic()
    machine.systemctl("restart", "udptracker")
    print(f"\nthe restart took {time.monotonic() - began:.2f} s")


def test_restarts_and_reloads_under_load_lose_nothing(machine: Machine, tmp_path: Path) -> None:
    def reload() -> None:
        for number in range(10):
            machine.write(CONFIG, f"{BASE}  announce_interval: {20 + number}m\n")
            machine.systemctl("reload", "udptracker")

    for do in (partial(restart, machine), reload):
        pid = main_pid(machine)
        found = under_load(machine, tmp_path / "load.json", do)
        assert found["requests"]["answered"] == found["requests"]["sent"], found["requests"]
        assert not found["errors"], "connection ids did not hold"
        assert (main_pid(machine) == pid) == (do is reload)
    eventually(lambda: announce(machine)["interval"] == 29 * 60, "the last interval")


def test_killed_it_is_started_again(machine: Machine) -> None:
    pid = main_pid(machine)
    machine.systemctl("kill", "-s", "KILL", "--kill-whom=main", "udptracker")
    eventually(partial(is_another, machine, pid), "another process", timeout=PATIENCE)
    settle(machine)
    assert announce(machine)["leechers"] == 1


def test_a_worker_that_is_killed_is_replaced(machine: Machine) -> None:
    with on_sockets_of_three_workers(machine):
        pid, began = main_pid(machine), f"@{int(time.time())}"
        before = children(machine, pid)
        assert len(before) == 3
        machine.run("sh", "-c", f"kill -KILL {before[0]}")
        eventually(lambda: len({*children(machine, pid)} - {*before}) == 1, "its successor")
        for place in range(6):
            machine.udptracker("announce", URL, f"{place:08x}{'00' * 16}", "--json")
        assert main_pid(machine) == pid
        said = "died (signal SIGKILL), starting it again"
        eventually(lambda: said in machine.journal("-p", "warning", "--since", began), "a word on it")


def test_each_swarm_has_one_worker_on_sockets_of_systemd_on_memory(machine: Machine, tmp_path: Path) -> None:
    hashes = [f"{place:08x}{'ab' * 16}" for place in range(9)]

    def announced_are_found() -> None:
        for info_hash in hashes:
            machine.udptracker("announce", URL, info_hash, "--port", "7777", "--json")
        # A scrape asks the siblings by their numbers: it would find nothing if these were not their sockets' places.
        rows = machine.udptracker("scrape", URL, *hashes, "--json")["swarms"]
        assert [row["leechers"] for row in rows] == [1] * len(hashes)

    with on_sockets_of_three_workers(machine):
        announced_are_found()
        # systemd hands its sockets to itself, and those of one address are told apart by their order alone.
        for change in ("daemon-reload", "daemon-reexec"):
            machine.systemctl(change)
            machine.systemctl("restart", "udptracker")
            settle(machine)
            announced_are_found()
        found = under_load(machine, tmp_path / "load.json", partial(restart, machine))
        assert found["requests"]["answered"] == found["requests"]["sent"], found["requests"]


def test_the_socket_for_metrics_is_known_by_its_name(machine: Machine) -> None:
    source = "/usr/src/udptracker/systemd/udptracker-metrics.socket"
    machine.run("install", "-Dm644", source, "/run/systemd/system/udptracker-metrics.socket")
    ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:6880/healthz').read().decode())"
    machine.write(CONFIG, f"{BASE}  metrics_addr: 'off'\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("stop", "udptracker")
    machine.systemctl("start", "udptracker-metrics.socket", "udptracker")
    settle(machine)
    assert machine.run("python3", "-c", ask) == "alive\n\n"
    assert announce(machine)["interval"] == 1800
    machine.write(CONFIG, BASE)
    machine.systemctl("stop", "udptracker", "udptracker-metrics.socket")
    machine.systemctl("start", "udptracker")
    settle(machine)


def test_one_that_stands_still_is_bitten_by_the_watchdog(machine: Machine) -> None:
    """The parent of the workers, and then one of these."""
    machine.write(CONFIG, f"{BASE}  workers: 2\n  storage: {{name: redis}}\n")
    with changed(machine, "udptracker.service", "[Service]\nWatchdogSec=5s\n"):
        settle(machine)
        for of_a_worker in (False, True):
            pid = main_pid(machine)
            stopped = children(machine, pid)[1] if of_a_worker else pid
            machine.run("sh", "-c", f"kill -STOP {stopped}")
            eventually(partial(is_another, machine, pid), "the watchdog", timeout=2 * PATIENCE)
            settle(machine)
        assert machine.journal().count("Watchdog timeout") >= 2  # more on a machine that stands still itself


def test_denied_its_sockets_it_says_so_and_tries_again(machine: Machine) -> None:
    machine.systemctl("disable", "--now", "udptracker.socket")
    machine.systemctl("stop", "udptracker")
    hold = "import socket, time; taken = socket.socket(type=socket.SOCK_DGRAM); taken.bind(('', 6969)); time.sleep(999)"
    machine.run("systemd-run", "--unit=holder", "python3", "-c", hold)
    eventually(lambda: ":1B39 " in machine.run("cat", "/proc/net/udp"), "the port to be taken")
    said = "cannot listen on 0.0.0.0 port 6969: Address already in use"
    machine.run("systemctl", "start", "udptracker", check=False)
    eventually(lambda: said in machine.journal("-p", "err"), "the reason")
    machine.systemctl("stop", "holder")
    settle(machine)  # it was tried again until it could
    assert announce(machine)["interval"] == 1800
    said = "cannot listen on any address: Address family not supported by protocol"
    denied = "[Service]\nRestrictAddressFamilies=none\nRestrictAddressFamilies=AF_UNIX\n"
    with changed(machine, "udptracker.service", denied):
        eventually(lambda: said in machine.journal("-p", "err"), "the reason")
    machine.systemctl("stop", "udptracker")
    machine.systemctl("enable", "--now", "udptracker.socket", "udptracker")
    settle(machine)


def test_a_refused_configuration_is_not_tried_again(machine: Machine) -> None:
    machine.write(CONFIG, "udptracker: {announce_interval: soon}\n")
    machine.run("systemctl", "restart", "udptracker", check=False)
    eventually(lambda: machine.show("udptracker", "ActiveState")["ActiveState"] == "failed", "it to fail")
    assert "announce_interval: found 'soon'" in machine.journal()
    machine.write(CONFIG, BASE)
    machine.systemctl("reset-failed", "udptracker")
    machine.systemctl("start", "udptracker")
    settle(machine)


def test_without_the_socket_unit_it_opens_its_own(machine: Machine) -> None:
    machine.systemctl("disable", "--now", "udptracker.socket")
    machine.systemctl("restart", "udptracker")
    settle(machine)
    assert announce(machine)["interval"] == 1800


def test_stopped_it_ends_in_order(machine: Machine) -> None:
    began = f"@{int(time.time())}"
    machine.systemctl("stop", "udptracker")
    state = machine.show("udptracker", "ActiveState", "Result")
    assert state == {"ActiveState": "inactive", "Result": "success"}
    assert machine.journal("-p", "warning", "--since", began).strip() in ("", "-- No entries --")
