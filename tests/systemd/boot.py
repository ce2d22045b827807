"""The service under a systemd that boots: installed, started, reloaded, restarted under load, killed, starved, denied.

It takes root, Debian's debootstrap and systemd-container, and a mirror of Debian, so `.ci/run` runs it, and not the
README's test command, which finds no file of this name. UDPTRACKER_MACHINE names a folder that is used again.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import PATIENCE, eventually
from tests.systemd.machine import REPOSITORY, Machine, build, why_not

URL = "udp://127.0.0.1:6969"
HASH = "00" * 20
CONFIG = "/etc/udptracker/udptracker.yaml"
BASE = "udptracker:\n  udp: {private_key: secret}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert not why_not(), f"no machine can be booted here: {why_not()}"
    made = Path(os.environ.get("UDPTRACKER_MACHINE") or tmp_path_factory.mktemp("machine"))
    build(made)
    return made


@pytest.fixture(scope="module")
def machine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One with the units of docs/deployment.md, started."""
    with Machine(folder, tmp_path_factory.mktemp("console") / "log") as booted:
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
    drop_in = "/etc/systemd/system/udptracker.service.d/key.conf"
    machine.run("mkdir", "-p", drop_in.rpartition("/")[0])
    machine.write(drop_in, "[Service]\nLoadCredential=private_key:/etc/udptracker/private_key\n")
    machine.write("/etc/udptracker/private_key", "one\n")
    machine.write(CONFIG, "udptracker:\n  udp: {private_key: '${file:private_key}'}\n")
    machine.run("chmod", "600", "/etc/udptracker/private_key", CONFIG)
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "udptracker")
    settle(machine)
    pid = main_pid(machine)
    machine.write("/etc/udptracker/private_key", "two\n")
    machine.systemctl("reload", "udptracker")
    reloaded = "configuration reloaded: udp.private_key"
    eventually(lambda: reloaded in machine.show("udptracker", "StatusText")["StatusText"], "the other key")
    assert main_pid(machine) == pid
    machine.run("rm", drop_in, "/etc/udptracker/private_key")
    machine.write(CONFIG, BASE)
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "udptracker")
    settle(machine)


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


def test_restarts_and_reloads_under_load_lose_nothing(machine: Machine, tmp_path: Path) -> None:
    def restart() -> None:
        began = time.monotonic()
        machine.systemctl("restart", "udptracker")
        print(f"\nthe restart took {time.monotonic() - began:.2f} s")

    def reload() -> None:
        for number in range(10):
            machine.write(CONFIG, f"{BASE}  announce_interval: {20 + number}m\n")
            machine.systemctl("reload", "udptracker")

    for do in (restart, reload):
        pid = main_pid(machine)
        found = under_load(machine, tmp_path / "load.json", do)
        assert found["requests"]["answered"] == found["requests"]["sent"], found["requests"]
        assert not found["errors"], "connection ids did not hold"
        assert (main_pid(machine) == pid) == (do is reload)
    eventually(lambda: announce(machine)["interval"] == 29 * 60, "the last interval")


def test_killed_it_is_started_again(machine: Machine) -> None:
    pid = main_pid(machine)
    machine.systemctl("kill", "-s", "KILL", "--kill-whom=main", "udptracker")
    eventually(lambda: main_pid(machine) not in (0, pid), "another process", timeout=PATIENCE)
    settle(machine)
    assert announce(machine)["leechers"] == 1


def test_one_that_stands_still_is_bitten_by_the_watchdog(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/run/systemd/system/udptracker.service.d")
    machine.write("/run/systemd/system/udptracker.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "udptracker")
    settle(machine)
    pid = main_pid(machine)
    machine.systemctl("kill", "-s", "STOP", "--kill-whom=main", "udptracker")
    eventually(lambda: main_pid(machine) not in (0, pid), "the watchdog", timeout=2 * PATIENCE)
    settle(machine)
    assert "Watchdog timeout" in machine.journal()


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
    began = f"@{time.time():.0f}"
    machine.systemctl("stop", "udptracker")
    state = machine.show("udptracker", "ActiveState", "Result")
    assert state == {"ActiveState": "inactive", "Result": "success"}
    assert machine.journal("-p", "warning", "--since", began).strip() in ("", "-- No entries --")
