"""What the parent and a worker say to each other."""

from __future__ import annotations

from typing import Final, NamedTuple

from udptracker.config import Settings

WORKER: Final = "udptracker.service.worker"
"""The module that a worker runs."""

SERVING: Final = "serving"
REFUSED: Final = "refused"
"""From a worker: that it serves, or why it never can."""
SNAPSHOT: Final = "snapshot"
READY: Final = "ready"
BUSIEST: Final = "busiest"
USE: Final = "use"
"""Questions to a worker, each with what is given with it, and the names of its answers."""


class Orders(NamedTuple):
    """The first message to a worker. `sockets` are inherited file descriptors of bound UDP sockets."""

    number: int
    settings: Settings
    keys: tuple[bytes, ...]
    sockets: tuple[int, ...]
