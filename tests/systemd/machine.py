"""A Debian that boots: by systemd-nspawn, with a network and a file system of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support import debian
from tests.support.debian import Debian, run
from tests.support.waiting import eventually

REPOSITORY: Final = Path(__file__).parents[2]

_RELEASE: Final = "bookworm"
_PACKAGES: Final = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "ca-certificates")
_SOURCE: Final = "/usr/src/udptracker"
_NEEDED: Final = ("systemd-nspawn", "nsenter")
_BOOT_SECONDS: Final = 120.0


def why_not() -> str:
    """Why no machine can be booted here; empty if one can."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    return debian.why_not() or (f"there is no {', '.join(missing)}" if missing else "")


@contextmanager
def installed(folder: Path) -> Iterator[Path]:
    """A Debian in this folder, with the tracker as docs/deployment.md installs it; both are gone at the end."""
    with Debian(folder, _RELEASE, _PACKAGES) as root:
        run([str(REPOSITORY / ".ci/export"), str(root.path(_SOURCE))])
        for line in [
            f"python3 -m venv /opt/udptracker && cd {_SOURCE} && /opt/udptracker/bin/pip install -q .",
            *[f"cd {_SOURCE} && {line}" for line in _install_lines()],
        ]:
            root.run("sh", "-ec", line)
        yield root.folder


def _install_lines() -> list[str]:
    """The lines of docs/deployment.md that put files in their places."""
    section = (REPOSITORY / "docs" / "deployment.md").read_text().partition("## Under systemd")[2].partition("\n## ")[0]
    return [line.removeprefix("sudo ") for line in section.splitlines() if line.startswith("sudo install")]


class Machine:
    """One that runs, from `with` to its end. Nothing that it writes stays in the folder.

    Args:
        folder: of a Debian that has systemd.
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
        return run(["nsenter", "-t", str(self._leader), "-a", *command], check=check)

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
        return json.loads(run([*self._from_outside(), "-m", "udptracker", *arguments]))

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
