"""From SIGTERM to the first answer of the next process, on a socket that is handed over: `python -m bench.restart`.

The socket is this script's, as it is systemd's under `udptracker.socket`: the next process is started once the last one
has ended, and answers what has waited. What systemd itself takes comes on top.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from udptracker.core import wire

_PATIENCE_SECONDS: Final = 30.0
_SHELL: Final = 'export LISTEN_PID=$$; exec "${@:2}" 3<&"$1"'
"""Hands a descriptor over, as the one at which a process looks for what systemd gave it, and says which process."""


class Restart(NamedTuple):
    """Seconds: until the former process had ended, until the next one answered after that, and of its CPU by then."""

    stop: float
    start: float
    cpu: float

    @property
    def total(self) -> float:
        """From the signal to the answer."""
        return self.stop + self.start


def main(arguments: Sequence[str] | None = None) -> None:
    """Restart a tracker on memory without peers so many times, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args(arguments).rounds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handed:
        handed.bind(("127.0.0.1", 0))
        process = _start(handed)
        try:
            _answered(handed.getsockname())
            found = []
            for _ in range(rounds):
                process, one = _restart(process, handed)
                found.append(one)
                print(f"stopped in {one.stop:.3f} s, answered {one.start:.3f} s later: {one.total:.3f} s", flush=True)
        finally:
            process.kill()
            process.wait()
    stop, start, cpu = (median(column) for column in zip(*found, strict=True))
    total = median(one.total for one in found)
    print(f"median of {rounds}: {total:.3f} s (stop {stop:.3f}, start {start:.3f}, of which {cpu:.3f} s of CPU)")


def _restart(process: subprocess.Popen[bytes], handed: socket.socket) -> tuple[subprocess.Popen[bytes], Restart]:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(_PATIENCE_SECONDS)
    ended = time.monotonic()
    fresh = _start(handed)
    try:
        _answered(handed.getsockname())
    except BaseException:
        fresh.kill()
        raise
    return fresh, Restart(ended - began, time.monotonic() - ended, _cpu_seconds(fresh.pid))


def _start(handed: socket.socket) -> subprocess.Popen[bytes]:
    """A tracker on this socket, as systemd starts one."""
    serve = [sys.executable, "-m", "udptracker", "serve", "--storage", "memory", "--metrics", "off"]
    return subprocess.Popen(
        ["bash", "-c", _SHELL, "bash", str(handed.fileno()), *serve, "--log-level", "error"],
        env=os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "udptracker"},
        pass_fds=(handed.fileno(),),
        stdin=subprocess.DEVNULL,
    )


def _answered(address: tuple[str, int]) -> None:
    """Return when a connect has been answered; it waits in the socket until somebody reads from that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(_PATIENCE_SECONDS)
        client.connect(address)
        client.send(wire.encode_connect_request(1))
        client.recv(64)


def _cpu_seconds(pid: int) -> float:
    """What a process has used until now (proc(5), stat: utime and stime)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
