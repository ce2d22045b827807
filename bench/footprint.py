"""Bytes of memory a peer takes in the memory store: `python -m bench.footprint`."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path
from typing import Final

from udptracker.core.swarm import IPV4, AnnounceOperation, Role, pack_peer_v4
from udptracker.core.wire import Event
from udptracker.storage.memory import MemoryStore

_PEERS: Final = 1_000_000
_SWARMS: Final = 100_000


def resident(pid: int | str = "self") -> int:
    """Bytes of memory that a process holds (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _announce(n: int) -> AnnounceOperation:
    info_hash = (n % _SWARMS).to_bytes(20, "little")
    peer = pack_peer_v4(b"-UB0000-%012d" % n, 6881, (0x0A000000 + n).to_bytes(4, "big"))
    return AnnounceOperation(IPV4, info_hash, peer, Role(n % 3 == 0), Event.STARTED, 0)


def main() -> None:
    """Announce them all, and print."""
    store = MemoryStore(random.Random(1).random)
    gc.collect()
    before = resident()
    for n in range(_PEERS):
        store.apply(_announce(n))
    gc.collect()
    print(f"{(resident() - before) / _PEERS:.0f} bytes a peer: {_PEERS:,} peers in {_SWARMS:,} swarms")


if __name__ == "__main__":
    main()
