"""What systemd is told, and the sockets it hands over: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final, NamedTuple

_FIRST_DESCRIPTOR: Final = 3


class Notifier:
    """Speaks to systemd if that started this process, else to nobody.

    Args:
        environment: of this process; what is meant for it alone is taken out.

    Attributes:
        watchdog_seconds: after how long without a `beat` systemd ends the process; None for never.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if path else None
        microseconds, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        ours = path and microseconds.isdecimal() and pid in ("", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / 1e6 if ours else None

    @property
    def is_heard(self) -> bool:
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Requests are served, for the first time or with another configuration."""
        self._tell("READY=1", _status(status))

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._tell(_status(status))

    def reloading(self) -> None:
        """Until `ready`."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", _status("stopping"))

    def beat(self) -> None:
        """All is well."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nobody reads it at the moment: the next word tells more
                self._socket.sendto("\n".join(lines).encode(), self._address)


class Inherited(NamedTuple):
    """A socket that was handed over, and the name that its unit gave it."""

    name: str
    socket: socket.socket


def inherited(environment: MutableMapping[str, str]) -> list[Inherited]:
    """The sockets that systemd opened for this process; what names them is taken out of the environment."""
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for place in range(int(count)):
        os.set_inheritable(_FIRST_DESCRIPTOR + place, False)
        sock = socket.socket(fileno=_FIRST_DESCRIPTOR + place)
        sock.setblocking(False)
        found.append(Inherited(names[place] if place < len(names) else "", sock))
    return found


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"
