"""An hour, or a minute, of each store: what it holds at the end is what it held when everything had settled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Daemons, StoreServers
from tests.soak.soak import CONFIG, Outcome, processes, soak
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer
from tests.support.waiting import eventually

GROWTH = 1.15
"""Of resident memory, as far as it may be more than at the mark: allocators keep some."""
SLACK_BYTES = 4 << 20
SLACK_FILES = 8
"""Connections of the status page and to the store come and go."""
SLACK_THREADS = 4
SLACK_TASKS = 8
"""Questions of the status page, batches in flight, and what makes a connection anew."""
P99_GROWTH = 2.0
P99_SECONDS = 0.05
"""Below which a 99th percentile is noise on a machine that others use."""
KEPT = 0.99
"""Of its schedule, as much as the load must have kept for its latencies to tell anything: if it did not, the machine
had no time for them. The table has the rate, so that it shows."""


def kill_a_worker(daemon: Daemon) -> None:
    """The youngest, so that the others live from the start to the end."""
    workers = processes(daemon.pid)[1:]
    os.kill(workers[-1], signal.SIGKILL)


def restart(store: StoreServer) -> None:
    """End the store, and start it again, empty, a second later."""
    store.kill()
    time.sleep(1.0)
    store.start()


def reload(daemon: Daemon) -> None:
    daemon.signal(signal.SIGHUP)


@pytest.mark.parametrize("kind", ["memory", "valkey"])
def test_nothing_grows(
    kind: str,
    daemons: Daemons,
    store_servers: StoreServers,
    outcomes: list[Outcome],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    incidents: dict[str, Callable[[], None]] = {}
    url = "memory"
    if kind == "valkey":
        store = store_servers()
        url = store.url
        incidents["store restarted"] = lambda: restart(store)
    daemon = daemons(url, config=CONFIG, arguments=("--workers", "2"))
    incidents["reload"] = lambda: reload(daemon)
    incidents["worker killed"] = lambda: kill_a_worker(daemon)
    rate: int = request.config.getoption("--soak-rate")
    outcome = soak(
        daemon,
        kind,
        seconds=request.config.getoption("--soak-seconds"),
        rate=rate,
        incidents=incidents,
        folder=tmp_path,
    )
    outcomes.append(outcome)
    if (folder := request.config.getoption("--soak-report")) is not None:
        outcome.write(folder)
    mark, end = outcome.mark, outcome.end
    assert end.resident <= mark.resident * GROWTH + SLACK_BYTES
    assert end.files <= mark.files + SLACK_FILES
    assert end.threads <= mark.threads + SLACK_THREADS
    assert end.tasks <= mark.tasks + SLACK_TASKS
    if outcome.rate >= KEPT * rate:
        assert end.p99 <= max(mark.p99 * P99_GROWTH, P99_SECONDS)
    eventually(lambda: daemon.get("/readyz")[0] == 200, "it to be ready at the end")
    daemon.stop()
    assert "Traceback" not in daemon.log
