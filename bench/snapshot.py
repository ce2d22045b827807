"""What a snapshot of the memory store costs: `python -m bench.snapshot`.

For each number of swarms that the peers are spread over, a store is filled, written by a `Keeper` as its process would,
published, and read by another one. Beside it a task asks the event loop for its turn all the time. CPU is the
process's, threads included; the longest wait is the CPU time of the loop's thread between two turns of that task, so
that what other processes take meanwhile is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import uvloop

from udptracker import build
from udptracker.core.counters import Counters
from udptracker.core.swarm import FAMILIES, IPV6, AnnounceOperation, Role, pack_peer_v4, pack_peer_v6
from udptracker.core.wire import Event
from udptracker.service.claim import Claim
from udptracker.service.keeper import Keeper
from udptracker.storage.memory import MemoryStore

_SPREADS: Final = (1, 10_000, 100_000, 1_000_000)
_LIFETIME: Final = 2_100.0
_COLLECT: Final = (5_000, 1, 1_000_000_000)
"""As a node has it."""
_MILLI: Final = 1e3


def _filled(peers: int, swarms: int, family: int) -> MemoryStore:
    store = MemoryStore(random.Random(1).random)
    store.begin()
    for n in range(peers):
        # Spread over all first bytes, as real ones are.
        info_hash = (n % swarms * 2_654_435_761 % 2**32).to_bytes(4, "big") + bytes(16)
        peer_id, number = b"-UB0000-%012d" % n, 0x0A000000 + n
        if family == IPV6:
            peer = pack_peer_v6(peer_id, 6881, number.to_bytes(16, "big"))
        else:
            peer = pack_peer_v4(peer_id, 6881, number.to_bytes(4, "big"))
        store.apply(AnnounceOperation(family, info_hash, peer, Role(n % 3 == 0), Event.STARTED, 0))
    return store


async def _measured(work: Awaitable[object]) -> tuple[float, float, float, float]:
    """Seconds by the wall, CPU seconds, and the longest and the third longest wait of another task in CPU seconds."""
    task, waits = asyncio.ensure_future(work), []
    wall, cpu = time.perf_counter(), time.process_time()
    while not task.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        waits.append(time.thread_time() - began)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await task
    waits.sort()
    return wall, cpu, waits[-1], waits[max(-3, -len(waits))]


async def _run(directory: Path, peers: int, swarms: int, family: int) -> None:
    path = directory / "peers"
    claim = Claim.of(str(path))
    store = _filled(peers, swarms, family)
    keeper = Keeper(store, Counters(), "", _LIFETIME)
    keeper.start(0, 1)
    await asyncio.sleep(0)
    written = await _measured(keeper.write(str(path)))
    began = time.perf_counter()
    size = claim.publish(1).size
    published = time.perf_counter() - began
    again = MemoryStore(random.Random(2).random)
    reader = Keeper(again, Counters(), str(path), _LIFETIME)
    reader.start(0, 1)
    assert reader.reading is not None
    read = await _measured(reader.reading)
    assert await again.totals() == await store.totals()
    claim.release()
    print(f"| IPv{family} | {swarms:,} | {size / 1e6:.1f} |", end="")
    for wall, cpu, longest, third in (written, read):
        print(f" {wall:.2f} | {cpu:.2f} | {longest * _MILLI:.1f} | {third * _MILLI:.1f} |", end="")
    print(f" {published * _MILLI:.0f} |")


def main() -> None:
    """Write and read them all, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.snapshot", description="What a snapshot costs.")
    parser.add_argument("--peers", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="where it is written; a temporary one if it is not given")
    chosen = parser.parse_args()
    gc.set_threshold(*_COLLECT)
    print(f"{build.kind()}, {chosen.peers:,} peers; seconds, CPU seconds, and milliseconds that others wait:\n")
    print(
        "| family | swarms | MB | write s | CPU s | longest ms | third ms | read s | CPU s | longest ms | third ms |",
        end="",
    )
    print(" publish ms |\n|" + " --- |" * 12)
    for family in FAMILIES:
        for swarms in (spread for spread in _SPREADS if spread <= chosen.peers):
            with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
                uvloop.run(_run(Path(name), chosen.peers, swarms, family))
            gc.collect()


if __name__ == "__main__":
    main()
