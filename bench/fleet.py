"""What an announce costs on one shard and on three, by one node and by two: `python -m bench.fleet`.

The mixed load, in closed loop, at every node at once. CPU is that of all nodes and of all shards, from their clocks, a
request; requests are what the nodes counted meanwhile. All nodes share the tracker's core, so that they are what is
full, as in `python -m bench`; rates say nothing here.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, cast

from bench.builds import Builds
from bench.cores import Cores, available, pinned
from bench.loads import LOADS, MIXED
from bench.results import machine
from bench.running import HOST
from tests.support.cluster import StoreCluster
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer, valkey
from udptracker.load import LoadError, cpu

log = logging.getLogger("bench")

FLEETS: Final = ((1, 1), (3, 1), (1, 2))
"""Shards and nodes."""

_WARM: Final = 1.5
"""Seconds of load before CPU is counted."""

_PATIENCE: Final = 600.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Medians of the rounds; CPU is in microseconds a request. `peer_bytes` is what a peer takes in the store."""

    shards: int
    nodes: int
    node_us: float
    store_us: float
    peer_bytes: float


def measure(tree: Path, shards: int, nodes: int, seconds: float, scale: float) -> Fleet:
    """One round.

    Raises:
        LoadError: a node does not answer.
    """
    torrents, peers = (max(1, int(LOADS[MIXED][name] * scale)) for name in ("torrents", "peers"))
    cores = Cores.divide(available(), 1)
    with ExitStack() as stack:
        with pinned(cores.store):
            servers, url = stack.enter_context(_stores(shards))
        directory = Path(stack.enter_context(TemporaryDirectory()))
        with pinned(cores.tracker):
            trackers = [stack.enter_context(_node(directory, url, tree)) for _ in range(nodes)]
        stack.enter_context(pinned(cores.generator))
        empty = sum(map(_used, servers))
        world = ["--torrents", str(torrents), "--peers", str(peers)]
        _generate(trackers[0], [*world, "--prefill", "--warmup", "0", "--duration", "1"]).wait(_PATIENCE)
        peer_bytes = (sum(map(_used, servers)) - empty) / peers
        known = [_answered(one) for one in trackers]
        running = [_generate(one, [*world, "--duration", str(seconds + 2 * _WARM)]) for one in trackers]
        while not all(_answered(one) > count for one, count in zip(trackers, known, strict=True)):
            time.sleep(_WARM / 10)  # it takes a generator some seconds to make its world
        time.sleep(_WARM)
        before = _reading(trackers, servers)
        time.sleep(seconds)
        after = _reading(trackers, servers)
        for generator in running:
            if generator.wait(_PATIENCE):
                raise LoadError(f"the generator ended with status {generator.returncode}")
        requests = after.requests - before.requests
        if not requests:
            raise LoadError("nothing was answered")
        node, store = cpu.spent(before.nodes, after.nodes), cpu.spent(before.stores, after.stores)
        return Fleet(shards, nodes, 1e6 * node / requests, 1e6 * store / requests, peer_bytes)


@contextmanager
def _stores(shards: int) -> Iterator[tuple[list[StoreServer], str]]:
    with ExitStack() as stack:

        def start(arguments: tuple[str, ...] = ()) -> StoreServer:
            server = stack.enter_context(StoreServer(valkey(), arguments))
            server.start()
            return server

        if shards == 1:
            server = start()
            yield [server], server.url
        else:
            cluster = StoreCluster(start, shards)
            yield cluster.masters, cluster.url


@contextmanager
def _node(directory: Path, url: str, tree: Path) -> Iterator[Daemon]:
    environment = {"PYTHONPATH": str(tree)}
    with Daemon(directory, url, arguments=("--workers", "1"), hosts=(HOST,), environment=environment) as daemon:
        daemon.start()
        yield daemon


def _generate(tracker: Daemon, arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "udptracker", "load", f"udp://{HOST}:{tracker.port}", "--mix", "0:99:1"]
    command += ["--sources", "8", "--in-flight", "256", "--burst", "1", "--rest", "0", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class _Reading(NamedTuple):
    """Requests so far, and the CPU seconds of each process."""

    requests: int
    nodes: dict[int, float]
    stores: dict[int, float]


def _reading(trackers: list[Daemon], servers: list[StoreServer]) -> _Reading:
    nodes, stores = (cpu.cpu_seconds([one.pid for one in those]) for those in (trackers, servers))
    return _Reading(sum(map(_answered, trackers)), nodes, stores)


def _answered(tracker: Daemon) -> int:
    status = json.loads(tracker.get("/stats.json")[1])
    return sum(count for action in status["requests"].values() for count in action.values())


def _used(server: StoreServer) -> int:
    with server.client() as client:
        return int(cast(dict[str, int], client.info("memory"))["used_memory"])


def medians(rounds: list[Fleet]) -> Fleet:
    """Of rounds of the same shards and nodes."""

    def of(read: Callable[[Fleet], float]) -> float:
        return median(map(read, rounds))

    first = rounds[0]
    figures = of(lambda one: one.node_us), of(lambda one: one.store_us), of(lambda one: one.peer_bytes)
    return Fleet(first.shards, first.nodes, *figures)


def main() -> None:
    """Measure, print and write `fleet.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description="Shards and nodes, by CPU a request.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="that count in each")
    parser.add_argument("--scale", type=float, default=1.0, help="of torrents and peers; below 1 to try it out")
    parser.add_argument("--plain", action="store_true", help="interpreted, so that nothing is compiled first")
    parser.add_argument("--output", type=Path, default=Path("build"), help="directory of fleet.json")
    chosen = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    found: dict[tuple[int, int], list[Fleet]] = {fleet: [] for fleet in FLEETS}
    with TemporaryDirectory() as directory:
        builds = Builds(Path(directory))
        tree = builds.plain if chosen.plain else builds.compiled
        for _ in range(chosen.rounds):
            for (shards, nodes), rounds in found.items():
                rounds.append(measure(tree, shards, nodes, chosen.seconds, chosen.scale))
                log.info("%s", rounds[-1])
    rows = [asdict(medians(rounds)) for rounds in found.values()]
    chosen.output.mkdir(parents=True, exist_ok=True)
    written = {"machine": machine(), "scale": chosen.scale, "rounds": chosen.rounds, "rows": rows}
    (chosen.output / "fleet.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
