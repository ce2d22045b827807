"""A tracker that was started for a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from bench.cores import Cores
from udptracker.load import LoadOptions

HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Running:
    """Where it is to be found, and the processes to charge."""

    port: int
    pids: tuple[int, ...]
    store_pids: tuple[int, ...]
    cores: Cores


Start = Callable[[LoadOptions], AbstractContextManager[Running]]
"""Starts a tracker fit for the world of these options; it ends with the block."""
