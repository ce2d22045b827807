"""The trackers that are compared, each started anew for a run, on a free port and on its own cores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

from bench import rivals
from bench.builds import Builds
from bench.cores import Cores, available, pinned
from bench.running import HOST, Running, Start
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer, valkey
from udptracker.load import LoadError, LoadOptions

_Tree = Callable[[], Path]
"""Says where to import our tracker from."""

PLAIN: Final = ("memory, plain", "valkey, plain")
"""Those of ours that are interpreted."""

SLOW: Final = ("chihaya, valkey",)
"""Takes minutes to be filled, so it runs where it is asked for by name."""


@contextmanager
def _on_memory(_: LoadOptions, tree: _Tree, workers: int = 1) -> Iterator[Running]:
    cores = Cores.divide(available(), workers)
    with _daemon("memory", tree(), cores, workers) as daemon:
        yield Running(daemon.port, (daemon.pid,), (), cores)


@contextmanager
def _on_valkey(_: LoadOptions, tree: _Tree, workers: int = 1) -> Iterator[Running]:
    cores = Cores.divide(available(), workers)
    with StoreServer(valkey()) as store:
        with pinned(cores.store):
            store.start()
        with _daemon(store.url, tree(), cores, workers) as daemon:
            yield Running(daemon.port, (daemon.pid,), (store.pid,), cores)


@contextmanager
def _daemon(storage: str, tree: Path, cores: Cores, workers: int) -> Iterator[Daemon]:
    arguments, environment = ("--workers", str(workers)), {"PYTHONPATH": str(tree)}
    with (
        TemporaryDirectory() as directory,
        Daemon(Path(directory), storage, arguments=arguments, hosts=(HOST,), environment=environment) as daemon,
    ):
        with pinned(cores.tracker):
            try:
                daemon.start()
            except AssertionError as error:  # as tests want to hear it
                raise LoadError(str(error)) from error
        yield daemon
        daemon.stop()


def ours(builds: Builds) -> dict[str, Start]:
    """Our own, by name."""

    def compiled() -> Path:
        return builds.compiled

    def plain() -> Path:
        return builds.plain

    return {
        "memory": partial(_on_memory, tree=compiled),
        PLAIN[0]: partial(_on_memory, tree=plain),
        "memory, 2 workers": partial(_on_memory, tree=compiled, workers=2),
        "valkey, 1 worker": partial(_on_valkey, tree=compiled),
        PLAIN[1]: partial(_on_valkey, tree=plain),
        "valkey, 2 workers": partial(_on_valkey, tree=compiled, workers=2),
    }


def trackers(builds: Builds, chihaya: Path | None = None, aquatic: Path | None = None) -> Mapping[str, Start]:
    """All that can be started here, by name.

    Args:
        builds: of ours.
        chihaya, aquatic: programs that somebody built; of aquatic `aquatic_udp`.
    """
    found = ours(builds)
    if chihaya:
        found["chihaya"] = partial(rivals.chihaya, binary=chihaya)
        found["chihaya, valkey"] = partial(rivals.chihaya_on_valkey, binary=chihaya)
    if aquatic:
        found["aquatic"] = partial(rivals.aquatic, binary=aquatic)
    if shutil.which(rivals.OPENTRACKER):
        found[rivals.OPENTRACKER] = rivals.opentracker
    return MappingProxyType(found)
