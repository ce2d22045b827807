"""The .deb, built and installed under a systemd that boots: a service from the start, upgraded, removed, purged.

Run as `boot.py` is. UDPTRACKER_DIST names the folder with the sdist that the package is built of, see `make dist`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.debian import Debian
from tests.support.waiting import eventually
from tests.systemd.machine import Machine, why_not

RELEASE: Final = "bookworm"
URL: Final = "udp://127.0.0.1:6969"
CONFIG: Final = "/etc/udptracker/udptracker.yaml"
FIRST: Final = "/packages/first.deb"
NEXT: Final = "/packages/next.deb"
APT: Final = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "-o", "Dpkg::Use-Pty=0")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package, built in a Debian that has what `control` builds with."""
    assert not why_not(), f"no Debian can be made here: {why_not()}"
    (sdist,) = Path(os.environ["UDPTRACKER_DIST"]).glob("udptracker-*.tar.gz")
    with Debian(tmp_path_factory.mktemp("build") / "root", RELEASE, ["ca-certificates"]) as builder:
        builder.install("build-essential", "debhelper", "python3-dev", "python3-venv")
        shutil.copy(sdist, builder.path("/root/sdist.tar.gz"))
        builder.run(
            "sh", "-ec", "cd /root && tar -xf sdist.tar.gz --strip-components=1 --wildcards '*/packaging/build-deb'"
        )
        builder.run("/root/packaging/build-deb", "/root/sdist.tar.gz", "/root/out")
        (built,) = builder.path("/root/out").glob("*.deb")
        yield built


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One that has neither the package nor a network, and the package and its next version at hand."""
    scratch = tmp_path_factory.mktemp("deb")
    with Debian(scratch / "root", RELEASE, ["systemd", "systemd-sysv", "dbus", "python3"]) as root:
        root.path("/packages").mkdir()
        shutil.copy(package, root.path(FIRST))
        root.run("dpkg-deb", "-R", FIRST, "/packages/tree")
        control = root.path("/packages/tree/DEBIAN/control")
        control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
        with root.path(f"/packages/tree{CONFIG}").open("a") as shipped:
            shipped.write("# A default that changed.\n")
        root.run("dpkg-deb", "-Znone", "-b", "/packages/tree", NEXT)
        with Machine(root.folder, scratch / "log") as booted:
            yield booted


def state(machine: Machine, unit: str = "udptracker") -> str:
    return machine.show(unit, "ActiveState")["ActiveState"]


def interval(machine: Machine) -> object:
    answer = machine.udptracker("announce", URL, "00" * 20, "--json")
    assert isinstance(answer, dict)
    return answer["interval"]


def test_installed_it_serves(machine: Machine) -> None:
    machine.run(*APT, "install", FIRST)
    eventually(lambda: state(machine) == "active", "the service")
    assert machine.udptracker("probe", URL, "--json")["ok"]
    assert machine.run("systemctl", "is-enabled", "udptracker.service", "udptracker.socket").split() == ["enabled"] * 2
    assert "(compiled)" in machine.run("udptracker", "-V")
    assert machine.run("stat", "-c", "%a %U", CONFIG) == "600 root\n"
    assert machine.run(
        "find", "/usr/share/man/man1/udptracker.1.gz", "/usr/share/bash-completion/completions/udptracker"
    )


def test_an_upgrade_keeps_a_changed_configuration(machine: Machine) -> None:
    machine.write(CONFIG, "udptracker:\n  udp: {private_key: secret}\n  announce_interval: 11m\n")
    machine.systemctl("reload", "udptracker")
    eventually(lambda: interval(machine) == 660, "the new interval")
    pid = machine.show("udptracker", "MainPID")
    machine.run(*APT, "-o", "Dpkg::Options::=--force-confdef", "install", NEXT)
    assert machine.run("dpkg-query", "-f", "${Version}", "-W", "udptracker").startswith("1:")
    eventually(lambda: state(machine) == "active", "the service")
    assert machine.show("udptracker", "MainPID") != pid, "the new one runs"
    assert interval(machine) == 660


def test_removed_it_ends_and_leaves_its_configuration(machine: Machine) -> None:
    machine.run(*APT, "remove", "udptracker")
    assert state(machine) in ("inactive", "failed")
    assert state(machine, "udptracker.socket") == "inactive"
    assert "announce_interval: 11m" in machine.run("cat", CONFIG)
    assert machine.run("find", "/usr/lib/udptracker", check=False) == ""


def test_installed_again_it_takes_up_what_was_left(machine: Machine) -> None:
    machine.run(*APT, "-o", "Dpkg::Options::=--force-confdef", "install", NEXT)
    eventually(lambda: state(machine) == "active", "the service")
    assert interval(machine) == 660


def test_purged_nothing_is_left(machine: Machine) -> None:
    machine.write("/etc/udptracker/environment", "SECRET=s3cret\n")
    machine.run(*APT, "purge", "udptracker")
    left = machine.run("find", "/etc", "/usr", "/var/lib/systemd", "/lib/systemd", "-name", "*udptracker*", check=False)
    assert left == ""
    assert state(machine) in ("inactive", "failed")
