"""An image that runs: processes in its root, which is mounted read-only, with namespaces and a user of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.packaging.containerfile import Image
from tests.support.debian import run


class Container:
    """One in which nothing runs yet but its first process, which waits, from `with` to its end.

    Its network is a loopback of its own, its capabilities are none, and no file is writable for it.
    """

    def __init__(self, image: Image, log: Path) -> None:
        self._image = image
        self._log = log
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        root = self._image.root.folder
        steps = [
            f"mount --bind {root} {root}",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mount -o remount,ro,bind {root}",
            "ip link set lo up",
            "echo ready",
            "exec sleep infinity",
        ]
        apart = ["unshare", "--mount", "--propagation", "private", "--net", "--ipc", "--pid", "--fork", "--kill-child"]
        self._first = subprocess.Popen([*apart, "sh", "-ec", "\n".join(steps)], stdout=subprocess.PIPE)
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == b"ready\n"
        (leader,) = _children(self._first.pid)
        self._leader = str(leader)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._first.kill()  # and with it everything in its process namespace
        self._first.communicate()
        for process in self._started:
            process.wait()

    def start(self, command: Sequence[str]) -> None:
        """In the background."""
        with self._log.open("wb") as log:
            self._started.append(subprocess.Popen(self._inside(command), stdout=log, stderr=log))

    def run(self, *command: str) -> str:
        """What a command prints."""
        return run(self._inside(command))

    def succeeds(self, *command: str) -> bool:
        return subprocess.run(self._inside(command), capture_output=True, check=False).returncode == 0

    def stop(self) -> int:
        """End what was started as an engine does; its exit status."""
        process = self._started[-1]
        (inside,) = _children(process.pid)  # of `nsenter`, which waits for it
        os.kill(inside, signal.SIGTERM)
        return process.wait(30.0)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _inside(self, command: Sequence[str]) -> list[str]:
        environment = [f"{name}={value}" for name, value in self._image.environment.items()]
        user, group = self._image.user.split(":")
        return [
            *["nsenter", "-t", self._leader, "--mount", "--net", "--ipc", "--pid"],
            *["chroot", str(self._image.root.folder), "setpriv", f"--reuid={user}", f"--regid={group}"],
            *["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"],
            *["env", "-i", *environment, *command],
        ]


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
