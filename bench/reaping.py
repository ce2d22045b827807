"""What the reaper does to latency: `python -m bench.reaping`.

A Valkey is filled with peers, a tenth of them stale. Then a tracker on it gets the mixed load on schedule, at a rate
it can serve, once without a reaper and once with one that begins again as soon as it is through.
"""

from __future__ import annotations

import argparse
import socket
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.cores import Cores, available, pinned
from bench.footprint import resident
from bench.loads import OPEN_LOOP, load_options
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer, valkey
from udptracker.core.swarm import IPV4, Role, pack_peer_v4
from udptracker.load import run
from udptracker.storage.redis.layout import command, group, swarm_key

_SWARM_PEERS: Final = 20
_STALE: Final = 10
_DAY: Final = 86_400 * 10**9
_CHUNK: Final = 10_000
_INTERVALS: Final = {"without": "24h", "with": "100ms"}
_CONFIG: Final = "udptracker:\n  storage:\n    name: redis\n    config:\n      gc_interval: {}\n"
_READY: Final = b"+PONG\r\n"


def _fill(port: int, peers: int) -> None:
    """Write peers as a tracker would have, each `_STALE`-th with a time of yesterday."""
    now = time.time_ns()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(command(b"CLIENT", b"REPLY", b"OFF"))
        for start in range(0, peers, _CHUNK):
            sock.sendall(b"".join([_put(n, now) for n in range(start, min(start + _CHUNK, peers))]))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(command(b"PING"))
        assert sock.recv(len(_READY)) == _READY


def _put(n: int, now: int) -> bytes:
    swarm, stamp = n // _SWARM_PEERS, now if n % _STALE else now - _DAY
    key = swarm_key(IPV4, Role(n % 2), swarm.to_bytes(20, "big"))
    peer = pack_peer_v4(b"-UB0000-%012d" % n, 6881, (0x0A000000 + n).to_bytes(4, "big"))
    written = command(b"HSET", key, peer, b"%d" % stamp)
    return written if n % _SWARM_PEERS > 1 else written + command(b"HSET", group(IPV4), key, b"%d" % stamp)


def main() -> None:
    """Fill, load, load again, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.reaping", description="Latency with and without the reaper.")
    parser.add_argument("--peers", type=int, default=2_000_000)
    parser.add_argument("--rate", type=float, default=20_000, help="requests a second: half of what the tracker can do")
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    cores = Cores.divide(available(), 1)
    with TemporaryDirectory() as name, StoreServer(valkey()) as store:
        with pinned(cores.store):
            store.start()
        _fill(store.port, chosen.peers)
        for reaper, interval in _INTERVALS.items():
            arguments = ("--workers", "1")
            with Daemon(Path(name), store.url, config=_CONFIG.format(interval), arguments=arguments) as daemon:
                with pinned(cores.tracker):
                    daemon.start()
                before = resident(daemon.pid)
                with pinned(cores.generator):
                    options = load_options(OPEN_LOOP, daemon.port, chosen.seconds, 1.0, chosen.rate)
                    report = run(replace(options, prefill=True))  # so that both runs are of peers that are known
                grown = (resident(daemon.pid) - before) / 1e6
                percentiles = (
                    f"p50 {report.latency.p50} us, p99 {report.latency.p99} us, p99.9 {report.latency.p99_9} us"
                )
                reaped = [line.partition("reaped ")[2] for line in daemon.log.splitlines() if "reaped " in line]
                print(f"{reaper} reaper: {percentiles}; {report.lost} lost; memory {grown:+.1f} MB")
                print(*(f"  {line}" for line in reaped), sep="\n", end="\n" if reaped else "")
                daemon.stop()


if __name__ == "__main__":
    main()
