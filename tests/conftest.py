"""Fixtures that every test may use: real stores and daemons that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.storage.contract import Clock
from tests.support import servers
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer

StoreServers = Callable[..., StoreServer]
"""Makes and starts a Valkey, or another `binary`; takes the arguments of `StoreServer`."""

Daemons = Callable[..., Daemon]
"""Makes and starts a tracker; takes the arguments of `Daemon` after the directory."""

# A slow machine is no failure: what must be fast is measured on its own.
hypothesis.settings.register_profile("udptracker", deadline=None, print_blob=True)
hypothesis.settings.load_profile("udptracker")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-seconds", default=1.0, type=float, help="how long tests/chaos loads before, during and after a fault"
    )


@pytest.fixture
def clock() -> Clock:
    """A store's clock that the test moves."""
    return Clock()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[StoreServer]:
    """One Valkey 8 for the whole run; whoever uses it flushes it first."""
    with StoreServer(servers.valkey()) as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def redis6_server() -> Iterator[StoreServer]:
    """One Redis 6.2 for the whole run; whoever uses it flushes it first."""
    with StoreServer(servers.redis6()) as server:
        server.start()
        yield server


@pytest.fixture
def valkey(valkey_server: StoreServer) -> StoreServer:
    """The Valkey of the run, empty."""
    valkey_server.flush()
    return valkey_server


@pytest.fixture(params=["valkey_server", "redis6_server"])
def store_server(request: pytest.FixtureRequest) -> StoreServer:
    """Each of the two servers of the run in turn, empty."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, StoreServer)
    server.flush()
    return server


@pytest.fixture
def store_servers() -> Iterator[StoreServers]:
    """Starts servers of a test's own that end with it, as in `store_servers(["--cluster-enabled", "yes"])`."""
    with ExitStack() as stack:

        def start(arguments: Sequence[str] = (), *, binary: Path | None = None, **options: Any) -> StoreServer:
            server = stack.enter_context(StoreServer(binary or servers.valkey(), arguments, **options))
            server.start()
            return server

        yield start


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    """Starts trackers that end with the test, as in `daemons("memory")`; each is ready when it is returned."""
    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> Daemon:
            daemon = stack.enter_context(Daemon(tmp_path, *args, **options))
            daemon.start()
            return daemon

        yield start
