"""A child process that a test starts, disturbs and always ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE, eventually


class ChildProcess:
    """A program with its output in a file. As a context manager it is killed at the end, whatever state it is in.

    Args:
        log_path: where stdout and stderr go; starts append, so that a restart's story is one.
    """

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything it has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def launch(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start the program in the background, without stdin, in the given environment or our own, with these files
        of ours open."""
        assert not self.running, f"already running as {self.pid}"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log_path.parent,
                env=environment,
                pass_fds=descriptors,
            )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def pause(self) -> None:
        """Stop it in the middle of whatever it does (SIGSTOP); return when it stands still."""
        self.signal(signal.SIGSTOP)
        eventually(lambda: self._state() == "T", f"process {self.pid} to stand still")

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status, negative for a signal; at most `timeout` seconds from now."""
        return self.process.wait(timeout)

    def stop(self, timeout: float = PATIENCE) -> int:
        """Ask it to end (SIGTERM) and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it (SIGKILL), paused or not, if it runs."""
        if self.running:
            self.process.kill()
            self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it for good."""
        self.kill()

    def _state(self) -> str:
        """The state letter of proc(5): what follows the name in parentheses."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0]
