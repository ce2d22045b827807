"""The trackers that are compared, each started anew for a run, on a free port and on its own cores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

from bench.cores import Cores, available, pinned
from tests.support.daemon import Daemon
from tests.support.process import ChildProcess
from tests.support.servers import StoreServer, valkey
from tests.support.waiting import free_port
from udptracker.load import InfoHashes, LoadOptions

_HOST: Final = "127.0.0.1"
_WHITELIST: Final = "whitelist"
OPENTRACKER: Final = "opentracker"


@dataclass(frozen=True, slots=True)
class Running:
    """A tracker that answers, and the processes to charge."""

    port: int
    pids: tuple[int, ...]
    store_pids: tuple[int, ...]
    cores: Cores


Start = Callable[[LoadOptions], AbstractContextManager[Running]]
"""Starts a tracker fit for the world of these options; it ends with the block."""


@contextmanager
def _on_memory(_: LoadOptions) -> Iterator[Running]:
    cores = Cores.divide(available(), 1)
    with TemporaryDirectory() as directory, _daemon(Path(directory), "memory", cores) as daemon:
        yield Running(daemon.port, (daemon.pid,), (), cores)


@contextmanager
def _on_valkey(_: LoadOptions, workers: int) -> Iterator[Running]:
    cores = Cores.divide(available(), workers)
    with StoreServer(valkey()) as store:
        with pinned(cores.store):
            store.start()
        arguments = ("--workers", str(workers))
        with TemporaryDirectory() as directory, _daemon(Path(directory), store.url, cores, *arguments) as daemon:
            yield Running(daemon.port, (daemon.pid,), (store.pid,), cores)


@contextmanager
def _daemon(directory: Path, storage: str, cores: Cores, *arguments: str) -> Iterator[Daemon]:
    with Daemon(directory, storage, arguments=arguments, hosts=(_HOST,)) as daemon:
        with pinned(cores.tracker):
            daemon.start()
        yield daemon
        daemon.stop()


@contextmanager
def _opentracker(options: LoadOptions) -> Iterator[Running]:
    """Debian's build answers only for the info hashes of a file, which it reads after it has changed its root
    directory to -d (as root) and given up its rights: hence a relative name, and a directory open to all."""
    port, cores = free_port(), Cores.divide(available(), 1)
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / _WHITELIST).write_text("".join(f"{info_hash.hex()}\n" for info_hash in InfoHashes(options)))
        with ChildProcess(directory / "log") as process:
            with pinned(cores.tracker):
                listen = ("-i", _HOST, "-p", str(port), "-P", str(port))
                process.launch([OPENTRACKER, *listen, "-w", _WHITELIST, "-d", directory])
            yield Running(port, (process.pid,), (), cores)


def trackers() -> Mapping[str, Start]:
    """Those that can be started here, by name."""
    found: dict[str, Start] = {
        "memory": _on_memory,
        "valkey, 1 worker": partial(_on_valkey, workers=1),
        "valkey, 2 workers": partial(_on_valkey, workers=2),
    }
    if shutil.which(OPENTRACKER):
        found[OPENTRACKER] = _opentracker
    return MappingProxyType(found)
