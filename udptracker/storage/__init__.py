"""Where peers are kept: the contract in `base`, a store in each of the other modules, and the table of stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore

if TYPE_CHECKING:
    from udptracker.config import StorageSettings
    from udptracker.counters import Counters


def make_store(settings: StorageSettings, draw: Callable[[], float], counters: Counters) -> PeerStore:
    """The store that the configuration names.

    Args:
        draw: a source of uniform numbers in [0, 1).
        counters: where a store that has a stand-in counts what it does.
    """
    return MemoryStore(draw)
