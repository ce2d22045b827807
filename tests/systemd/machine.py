"""A Debian that boots: made by debootstrap, booted by systemd-nspawn, with a network and a file system of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.waiting import eventually

RELEASE: Final = "bookworm"
REPOSITORY: Final = Path(__file__).parents[2]

_PACKAGES: Final = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates"
_MIRROR: Final = "http://deb.debian.org/debian"
_NEEDED: Final = ("debootstrap", "systemd-nspawn", "nsenter")
_BOOT_SECONDS: Final = 120.0


def why_not() -> str:
    """Why no machine can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "it takes root"
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    return f"there is no {', '.join(missing)}" if missing else ""


def build(folder: Path) -> None:
    """Debian with the tracker as docs/deployment.md installs it, in this folder; what is there of it is used again."""
    if not (folder / "etc/debian_version").exists():
        _run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", RELEASE, str(folder), _MIRROR])
    source = folder / "usr/src/udptracker"
    shutil.rmtree(source, ignore_errors=True)
    listed = _run(["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    # The index is reached as from here, and whoever is trusted here for it is trusted there.
    for name in ("/etc/resolv.conf", "/etc/pip.conf", os.environ.get("PIP_CERT", "")):
        with contextlib.suppress(OSError):
            (folder / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name.lstrip("/"))
    inside = ["chroot", str(folder), "sh", "-ec"]
    _run([*inside, "python3 -m venv /opt/udptracker && cd /usr/src/udptracker && /opt/udptracker/bin/pip install -q ."])
    for line in _install_lines():
        _run([*inside, f"cd /usr/src/udptracker && {line}"])


def _install_lines() -> list[str]:
    """The lines of docs/deployment.md that put files in their places."""
    section = (REPOSITORY / "docs" / "deployment.md").read_text().partition("## Under systemd")[2].partition("\n## ")[0]
    return [line.removeprefix("sudo ") for line in section.splitlines() if line.startswith("sudo install")]


class Machine:
    """One that runs, from `with` to its end. Nothing that it writes stays in the folder.

    Args:
        folder: as `build` left it.
        log: where its console goes.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self._leader = 0

    def __enter__(self) -> Self:
        command = ["systemd-nspawn", "-q", "-D", str(self._folder), "--volatile=overlay", "-b", "--private-network"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--register=no", "--keep-unit", "--console=pipe"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(self._is_up, f"the machine to be up; see {self._log}", timeout=_BOOT_SECONDS, every=0.5)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *command: str, check: bool = True) -> str:
        """What a command in the machine prints."""
        return _run(["nsenter", "-t", str(self._leader), "-a", *command], check=check)

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", *arguments)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        text = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in text.splitlines())

    def journal(self, *arguments: str) -> str:
        """The messages of the service's log."""
        return self.run("journalctl", "-u", "udptracker", "-o", "cat", *arguments)

    def write(self, path: str, text: str) -> None:
        """A file in the machine."""
        (Path(f"/proc/{self._leader}/root") / path.lstrip("/")).write_text(text)

    def udptracker(self, *arguments: str) -> Any:
        """What a command of this repository's tracker says as JSON, over the machine's network."""
        return json.loads(_run([*self._from_outside(), "-m", "udptracker", *arguments]))

    def start_udptracker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The same, in the background."""
        return subprocess.Popen([*self._from_outside(), "-m", "udptracker", *arguments], stdout=subprocess.DEVNULL)

    def _from_outside(self) -> Sequence[str]:
        return ["nsenter", "-t", str(self._leader), "-n", sys.executable]

    def _is_up(self) -> bool:
        assert self._process.poll() is None, f"the machine does not boot:\n{self._log.read_text(errors='replace')}"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])  # its first process, once those that prepare it are gone
        state = self.run("systemctl", "is-system-running", check=False).strip()
        return state in ("running", "degraded")

    def _end(self) -> None:
        """Power off as the console's user would; killed if it takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _run(command: Sequence[str], *, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
