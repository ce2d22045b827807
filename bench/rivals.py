"""Trackers of others: opentracker as Debian has it, and those that somebody built, on configurations of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.cores import Cores, available, pinned
from bench.running import HOST, Running
from tests.support.process import ChildProcess
from tests.support.servers import StoreServer, valkey
from tests.support.waiting import free_port
from udptracker.load import InfoHashes, LoadOptions

OPENTRACKER: Final = "opentracker"
_WHITELIST: Final = "whitelist"

_CHIHAYA: Final = """\
chihaya:
  announce_interval: 30m
  metrics_addr: "{host}:{metrics}"
  udp:
    addr: "{host}:{port}"
    max_clock_skew: 10s
    private_key: benchmark
    max_numwant: 100
    default_numwant: 50
    max_scrape_infohashes: 74
  storage:
"""
_MEMORY: Final = """\
    name: memory
    config:
      gc_interval: 3m
      peer_lifetime: 31m
      shard_count: 1024
      prometheus_reporting_interval: 1s
"""
_REDIS: Final = """\
    name: redis
    config:
      gc_interval: 3m
      peer_lifetime: 31m
      prometheus_reporting_interval: 1s
      redis_broker: {url}
      redis_read_timeout: 15s
      redis_write_timeout: 15s
      redis_connect_timeout: 15s
"""

_AQUATIC: Final = """\
socket_workers = 1
[network]
use_ipv4 = true
use_ipv6 = false
address_ipv4 = "{host}:{port}"
[protocol]
max_scrape_torrents = 74
max_response_peers = 100
"""


@contextmanager
def opentracker(options: LoadOptions) -> Iterator[Running]:
    """Debian's build answers only for the info hashes of a file, which it reads after it has changed its root
    directory to -d (as root) and given up its rights: hence a relative name, and a directory open to all."""
    port = free_port()
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / _WHITELIST).write_text("".join(f"{info_hash.hex()}\n" for info_hash in InfoHashes(options)))
        listen = ("-i", HOST, "-p", str(port), "-P", str(port))
        with _started(directory, port, [OPENTRACKER, *listen, "-w", _WHITELIST, "-d", directory]) as running:
            yield running


@contextmanager
def chihaya(_: LoadOptions, binary: Path) -> Iterator[Running]:
    """On its own memory."""
    with _configured(binary, "--config", _CHIHAYA + _MEMORY) as running:
        yield running


@contextmanager
def chihaya_on_valkey(_: LoadOptions, binary: Path) -> Iterator[Running]:
    """On a Valkey, as ours."""
    with StoreServer(valkey()) as store:
        with pinned(Cores.divide(available(), 1).store):
            store.start()
        with _configured(binary, "--config", _CHIHAYA + _REDIS, store=store) as running:
            yield running


@contextmanager
def aquatic(_: LoadOptions, binary: Path) -> Iterator[Running]:
    """Its `aquatic_udp`, with one socket worker."""
    with _configured(binary, "-c", _AQUATIC) as running:
        yield running


@contextmanager
def _configured(binary: Path, flag: str, config: str, store: StoreServer | None = None) -> Iterator[Running]:
    """A program that is told where its configuration is."""
    port = free_port()
    with TemporaryDirectory() as name:
        path = Path(name, "config")
        url = store.url if store else ""
        path.write_text(config.format(host=HOST, port=port, metrics=free_port(), url=url))
        with _started(Path(name), port, [binary.absolute(), flag, path], store) as running:
            yield running


@contextmanager
def _started(
    directory: Path, port: int, command: Sequence[str | Path], store: StoreServer | None = None
) -> Iterator[Running]:
    cores = Cores.divide(available(), 1)
    with ChildProcess(directory / "log") as process:
        with pinned(cores.tracker):
            process.launch(command)
        yield Running(port, (process.pid,), (store.pid,) if store else (), cores)
