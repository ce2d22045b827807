"""What a daemon loads, since each library costs memory and time at every start."""

from __future__ import annotations

from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer
from tests.support.waiting import eventually

ONLY_FOR_COMMANDS = {"rich", "matplotlib", "multiprocessing", "udptracker.client", "udptracker.load"}
ONLY_FOR_REDIS = {"redis", "hiredis", "udptracker.redis.link", "udptracker.storage.redis", "udptracker.storage.standby"}
ONLY_FOR_A_NODE = {"udptracker.service.node", "udptracker.core.tracker", "udptracker.storage.memory"}
ONLY_FOR_WORKERS = {"udptracker.service.supervisor", "udptracker.service.worker"}
ONLY_FOR_A_SCRAPE = {"prometheus_client", "http.server"}


def loaded(daemon: Daemon) -> set[str]:
    """Every module that a daemon and its workers have tried to import, by the interpreter's own account."""
    return {line.rpartition("|")[2].strip() for line in daemon.log.splitlines() if line.startswith("import time:")}


def traced(daemons: Daemons, storage: str, workers: int) -> Daemon:
    """One that has answered an announce."""
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    daemon = daemons(storage, arguments=["--workers", str(workers)], environment=environment)
    daemon.announce(bytes(20), 6881)
    return daemon


def test_on_memory(daemons: Daemons) -> None:
    daemon = traced(daemons, "memory", 1)
    assert loaded(daemon) >= ONLY_FOR_A_NODE
    assert not loaded(daemon) & (ONLY_FOR_COMMANDS | ONLY_FOR_REDIS | ONLY_FOR_WORKERS | ONLY_FOR_A_SCRAPE)
    assert daemon.get("/metrics")[0] == 200
    assert loaded(daemon) >= ONLY_FOR_A_SCRAPE


def test_on_redis(daemons: Daemons, valkey: StoreServer) -> None:
    """One server needs no redis-py, which is for clusters."""
    daemon = traced(daemons, valkey.url, 1)
    assert not loaded(daemon) & (ONLY_FOR_COMMANDS | ONLY_FOR_WORKERS | ONLY_FOR_A_SCRAPE | {"redis"})
    eventually(lambda: ONLY_FOR_REDIS - {"redis"} <= loaded(daemon), "what Redis needs")


def test_workers_need_not_check_the_settings_again(daemons: Daemons, valkey: StoreServer) -> None:
    """They write to the log of their parent, which has loaded each of these once."""
    daemon = traced(daemons, valkey.url, 2)
    for name in ("pydantic", "yaml"):
        lines = [line for line in daemon.log.splitlines() if line.rpartition("|")[2].strip() == name]
        assert len(lines) == 1, name
    assert daemon.get("/readyz") == (200, "ready\n")
