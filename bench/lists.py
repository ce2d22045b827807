"""What a list of a million info hashes costs: `python -m bench.lists`.

Bytes in a process and nanoseconds an announce; seconds for a command to load them into a Valkey; and how late an event
loop comes to what is due while it follows that, reads all of it, and reads a file of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha1
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from bench.footprint import resident
from tests.support.nodes import until
from tests.support.servers import StoreServer, valkey
from udptracker import build
from udptracker.access.lists.part import Lists
from udptracker.access.lists.rules import TorrentRule
from udptracker.access.lists.tables import Torrents
from udptracker.config import from_tree
from udptracker.core.counters import Counters
from udptracker.core.swarm import IPV4, AnnounceOperation, Role
from udptracker.core.tracker import Question
from udptracker.core.wire import Event

_TURN: Final = 64
_BEAT: Final = 0.001
_PATIENCE: Final = 600.0


def _info_hash(number: int) -> bytes:
    return sha1(b"%d" % number).digest()


def _memory(entries: int) -> Torrents:
    gc.collect()
    before = resident()
    table = Torrents()
    for number in range(entries):
        table.put(_info_hash(number), True, 0, "")
    gc.collect()
    print(f"memory: {(resident() - before) / entries:.1f} bytes an entry")
    return table


def _lookups(table: Torrents, entries: int) -> None:
    """Nanoseconds an announce. The questions are in the cache of the processor, as those of a turn that was just read
    are, and what they ask for is most likely not."""
    million, one = TorrentRule(), TorrentRule()
    few = Torrents()
    few.put(_info_hash(-1), True, 0, "")
    million.use([], [table.denied], only_allowed=False)
    one.use([], [few.denied], only_allowed=False)
    for name, first in (("that are not listed", entries), ("that are denied", 0)):
        turns = [
            [_question(_info_hash(first + (turn * _TURN + at) * 7919 % entries)) for at in range(_TURN)]
            for turn in range(1_000)
        ]
        of_one, of_all = [], []
        for questions in turns:
            one.judge(questions)
            began = time.thread_time_ns()
            one.judge(questions)
            middle = time.thread_time_ns()
            million.judge(questions)
            of_all.append((time.thread_time_ns() - middle) / _TURN)
            of_one.append((middle - began) / _TURN)
        print(f"announces {name}: {median(of_all):.0f} ns each, {median(of_one):.0f} ns with a list of one entry")


def _question(info_hash: bytes) -> Question:
    return Question(AnnounceOperation(IPV4, info_hash, bytes(26), Role.LEECHER, Event.NONE, 0), b"", b"", None)


@asynccontextmanager
async def _watched(what: str) -> AsyncIterator[None]:
    """Print how late the loop came to what was due meanwhile, and how much CPU time the thread used in one go: on a
    machine that does other things, it may be late for these."""
    late: list[float] = []
    held: list[float] = []

    async def beat() -> None:
        while True:
            due, used = time.perf_counter() + _BEAT, time.thread_time()
            await asyncio.sleep(_BEAT)
            late.append(time.perf_counter() - due)
            held.append(time.thread_time() - used)

    task = asyncio.create_task(beat())
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - began
        task.cancel()
        late.sort()
        percentile = late[int(len(late) * 0.99)] * 1e3
        print(
            f"{what}: {seconds:.1f} s; late by {late[-1] * 1e3:.1f} ms at the most and {percentile:.1f} ms at the 99th "
            f"percentile; {max(held) * 1e3:.1f} ms of CPU time in one go"
        )


def _lists(**access: object) -> tuple[Lists, Counters]:
    counters = Counters()
    return Lists(from_tree({"access": access}, "udptracker", {}).settings, counters, speaks=True), counters


async def _shared(url: str, file: Path, cache: Path, entries: int) -> None:
    lists, counters = _lists(shared=url, cache=str(cache))
    await lists.open()
    command = [sys.executable, "-m", "udptracker", "torrent", "deny", "--from", str(file), "--storage", url]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    async with _watched("follow the command and keep it in a file"):
        await process.wait()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = time.perf_counter() - began
        print(
            f"command: {seconds:.1f} s for {entries:,} info hashes, {used.ru_utime + used.ru_stime:.1f} s of CPU time"
        )
        await until(lambda: counters.access_entries["torrents deny"] == entries, _PATIENCE)
        print(f"in force {time.perf_counter() - began:.1f} s after it was given")
        await asyncio.sleep(15)  # the file is written
    await lists.close()
    again, counters = _lists(shared=url)
    async with _watched("read all from Redis"):
        await again.open()
    assert counters.access_entries["torrents deny"] == entries
    await again.close()


async def _from(what: str, opened: Callable[[], tuple[Lists, Counters]], entries: int) -> None:
    lists, counters = opened()
    async with _watched(what):
        await lists.open()
    assert counters.access_entries["torrents deny"] == entries
    await lists.close()


async def _reload(file: Path, entries: int) -> None:
    lists, _ = _lists(torrents={"deny_from": str(file)})
    async with _watched("read a file"):
        await lists.open()
    before = lists.unwanted
    assert before(_info_hash(entries - 1))
    async with _watched("read it again in place of what it was"):
        with file.open("a") as opened:
            opened.write(f"{_info_hash(entries).hex()}\n")
        await until(lambda: lists.unwanted(_info_hash(entries)), _PATIENCE)
        await asyncio.sleep(1)  # what it was is let go of
    await lists.close()


def main() -> None:
    """Measure one after the other, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.lists", description="What a long list costs.")
    parser.add_argument("--entries", type=int, default=1_000_000)
    entries = parser.parse_args().entries
    print(f"{entries:,} info hashes, {build.kind()} code")
    _lookups(_memory(entries), entries)
    gc.freeze()
    gc.set_threshold(5_000, 1, 1_000_000_000)  # as a node has it
    with TemporaryDirectory() as directory, StoreServer(valkey()) as server:
        server.start()
        file, cache = Path(directory, "hashes"), Path(directory, "cache")
        with file.open("w") as opened:
            opened.writelines(f"{_info_hash(number).hex()}\n" for number in range(entries))
        asyncio.run(_shared(server.url, file, cache, entries))
        server.stop()
        print(f"the kept file: {cache.stat().st_size / entries:.1f} bytes an entry")
        url = server.url
        asyncio.run(_from("read the kept file", lambda: _lists(shared=url, cache=str(cache)), entries))
        asyncio.run(_reload(file, entries))


if __name__ == "__main__":
    main()
