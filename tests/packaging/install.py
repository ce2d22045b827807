"""`pip install`, `pipx install` and `uvx` of what a build makes, in a Debian 12 and a 13 that have nothing else.

It takes root, debootstrap and a mirror of Debian, so `make packaging` runs it, and not the README's test command, which
finds no file of this name. UDPTRACKER_DIST names the folder with an sdist and wheels, see `make dist`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.serving import serves
from tests.support import debian
from tests.support.debian import RELEASES, Debian
from udptracker import __version__

PYTHONS: Final = {"bookworm": "cp311", "trixie": "cp313"}
_DIST: Final = "/dist"


@pytest.fixture(scope="module")
def dist() -> Path:
    assert not debian.why_not(), f"no Debian can be made here: {debian.why_not()}"
    return Path(os.environ["UDPTRACKER_DIST"])


@pytest.fixture(scope="module", params=RELEASES)
def machine(request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A Debian with what the three ways need, and the files of a release beside them."""
    with Debian(tmp_path_factory.mktemp("install") / "root", request.param, ["ca-certificates"]) as made:
        made.install("python3", "python3-venv", "pipx")
        made.path(_DIST).mkdir()
        for file in dist.glob("udptracker-*"):
            shutil.copy(file, made.path(_DIST))
        yield made


def pure(machine: Debian) -> str:
    (wheel,) = machine.path(_DIST).glob("udptracker-*-py3-none-any.whl")
    return f"{_DIST}/{wheel.name}"


def pip(machine: Debian, name: str, file: str) -> str:
    """The command that a file installs, in an environment of its own."""
    machine.run("python3", "-m", "venv", f"/opt/{name}")
    machine.run(f"/opt/{name}/bin/pip", "install", "-q", file)
    return f"/opt/{name}/bin/udptracker"


def works(machine: Debian, command: str, tmp_path: Path, kind: str = "plain") -> None:
    """Its version is ours, it has its files, and it serves."""
    assert machine.run(*command.split(), "-V") == f"udptracker {__version__} ({kind})\n"
    files = machine.run(*command.split(), "files").splitlines()
    assert {"systemd/udptracker.service", "configs/minimal.yaml", "share/man/man1/udptracker.1"} <= set(files)
    serves(machine, command.split(), tmp_path / "log")


def test_pip_install_of_the_pure_wheel(machine: Debian, tmp_path: Path) -> None:
    works(machine, pip(machine, "pure", pure(machine)), tmp_path)


def test_pip_install_of_a_compiled_wheel_where_there_is_one(machine: Debian, tmp_path: Path) -> None:
    """Otherwise pip is offered it as well, and takes the pure one."""
    fitting = [file.name for file in machine.path(_DIST).glob(f"udptracker-*-{PYTHONS[machine.release]}-*.whl")]
    machine.run("python3", "-m", "venv", "/opt/offered")
    offer = ["--find-links", _DIST, f"udptracker=={__version__}"]
    machine.run("/opt/offered/bin/pip", "install", "-q", *offer)
    works(machine, "/opt/offered/bin/udptracker", tmp_path, "compiled" if fitting else "plain")


def test_pip_install_of_the_sdist(machine: Debian, tmp_path: Path) -> None:
    """Without a compiler, as on most machines."""
    (sdist,) = machine.path(_DIST).glob("udptracker-*.tar.gz")
    works(machine, pip(machine, "sdist", f"{_DIST}/{sdist.name}"), tmp_path)


def test_pipx_install(machine: Debian, tmp_path: Path) -> None:
    machine.run("pipx", "install", pure(machine))
    works(machine, "/root/.local/bin/udptracker", tmp_path)


def test_uvx(machine: Debian, tmp_path: Path) -> None:
    machine.run("sh", "-ec", "python3 -m venv /opt/uv && /opt/uv/bin/pip install -q uv")
    works(machine, f"/opt/uv/bin/uvx --from {pure(machine)} udptracker", tmp_path)
