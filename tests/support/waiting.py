"""Waiting for what other processes do, and ports they may have."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds after which a test gives up on what should take a fraction of one: a busy machine is no failure."""

_PORTS: Final = range(10000, 20000)
"""Below the kernel's ephemeral ports, so that no client socket takes one in between; a Redis cluster node's bus,
10000 above its port, stays below them too, and is nobody else's choice."""


class Expired(AssertionError):
    """What was waited for did not happen in time."""


def eventually(probe: Callable[[], T], what: str, timeout: float = PATIENCE, every: float = 0.01) -> T:
    """The first true value that `probe` returns.

    Args:
        probe: called until it returns something true.
        what: names what is waited for, in the failure.
        timeout: seconds.
        every: seconds between two calls.

    Raises:
        Expired: it never did.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Expired(f"waited {timeout:.0f} s for {what}; the last answer was {value!r}")
        time.sleep(every)


def free_port() -> int:
    """A port that is free for TCP and UDP, on IPv4 and IPv6 loopback."""
    return eventually(lambda: _if_free(random.SystemRandom().choice(_PORTS)), "a free port")


def _if_free(port: int) -> int:
    """The port if it can be bound in all four ways, else 0."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as sock:
                try:
                    sock.bind((host, port))
                except OSError:
                    return 0
    return port
