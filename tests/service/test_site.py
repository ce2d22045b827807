"""What is served over HTTP, put together from what serves."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.config.support import settings
from tests.conftest import Daemons
from tests.support.servers import StoreServer
from tests.support.waiting import free_port
from udptracker.core.busiest import BusySwarm
from udptracker.core.counters import Counters
from udptracker.observe.http import HttpServer
from udptracker.service.site import start_site

SWARMS = [BusySwarm(f"{number:040x}", 10.0 - number, number, number) for number in range(10)]


def start(**changes: Any) -> HttpServer | None:
    """A site with settings among the changes, or other sources."""
    sources: dict[str, Any] = {
        "snapshots": lambda: {"0": Counters().snapshot()},
        "kernel_drops": lambda: 7,
        "saved": lambda: {},
        "chores": lambda: {"snapshot": 2},
        "reloads": lambda: {"taken": 2, "refused": 1},
        "alive": lambda: True,
        "ready": lambda: (False, "the store does not answer"),
        "busiest": lambda: SWARMS,
        "listeners": (),
    }
    sources = {name: changes.pop(name, source) for name, source in sources.items()}
    running = settings(**changes)
    return start_site(lambda: running, **sources)


@contextmanager
def site(**changes: Any) -> Iterator[str]:
    """The URL of a site of 127.0.0.1, without the path."""
    port = free_port()
    server = start(metrics_addr=f"127.0.0.1:{port}", **changes)
    assert server is not None
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10.0) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_off_is_none() -> None:
    assert start(metrics_addr="off") is None


def test_each_page_has_its_source() -> None:
    with site() as url:
        assert "udptracker_kernel_drops_total 7.0" in get(f"{url}/metrics")[1]
        assert 'udptracker_chore_failures_total{chore="snapshot"} 2.0' in get(f"{url}/metrics")[1]
        assert get(f"{url}/healthz") == (200, "alive\n")
        assert get(f"{url}/readyz") == (503, "the store does not answer\n")
        assert get(f"{url}/")[1].startswith("<!doctype html>")
        stats = json.loads(get(f"{url}/stats.json")[1])
    assert stats["kernel_drops"] == 7
    assert stats["store"]["word"] == "the store does not answer"
    assert [swarm["info_hash"] for swarm in stats["busiest"]] == [swarm.info_hash for swarm in SWARMS]
    assert stats["settings"]["announce_interval"] == "30m"


def fields(value: Any, path: str = "") -> set[str]:
    """The path of every field, as docs/stats.md writes it."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return fields(value[0], f"{path}[]")
    if not isinstance(value, dict):
        return {path}
    named = {"settings": "PATH", "refused": "REASON", "dropped": "REASON", "errors": "KIND", "latency": "ANSWER"}
    found: set[str] = set()
    for name, item in value.items():
        if name in ("connect", "announce", "scrape") and not path.endswith("latency"):
            name = "ACTION"
        elif name in ("ipv4", "ipv6"):
            name = "FAMILY"
        elif path.rpartition(".")[2] in named and name != "all":
            name = named[path.rpartition(".")[2]]
        found |= fields(item, f"{path}.{name}" if path else name)
    return found


def test_every_field_is_documented_and_every_documented_field_is_there() -> None:
    counters = Counters()
    counters.totals.update({4: (1, 2, 3)})
    with site(snapshots=lambda: {"0": counters.snapshot()}, storage={"name": "redis"}) as url:
        told = fields(json.loads(get(f"{url}/stats.json")[1]))
    text = (Path(__file__).parents[2] / "docs" / "stats.md").read_text()
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)) - {"store.standby"}
    assert told == documented


def test_a_socket_that_was_handed_over_takes_the_place_of_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        server = start(metrics_addr="off", listeners=[opened])
        assert server is not None
        try:
            assert get(f"http://127.0.0.1:{server.port}/healthz") == (200, "alive\n")
        finally:
            server.stop()


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"^cannot serve metrics on 127\.0\.0\.1 port {port}: "):
            start(metrics_addr=f"127.0.0.1:{port}")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_tracker_tells_of_its_swarms(daemons: Daemons, valkey: StoreServer, workers: int) -> None:
    daemon = daemons(valkey.url, arguments=("--workers", str(workers)))
    busy, calm = bytes(range(20)), bytes(20)
    for number in range(2, 22):
        daemon.announce(busy, 6881, source=f"127.0.0.{number}", left=number % 2)
    daemon.announce(calm, 6881, left=0)
    first, second = json.loads(daemon.get("/stats.json")[1])["busiest"]
    assert (first["info_hash"], first["seeders"], first["leechers"]) == (busy.hex(), 10, 10)
    assert (second["info_hash"], second["seeders"], second["leechers"]) == (calm.hex(), 1, 0)
    assert first["announces"] == pytest.approx(20 * second["announces"], rel=0.5), "of clocks that differ a little"


def test_no_swarm_is_told_of_where_the_operator_wants_none(daemons: Daemons) -> None:
    daemon = daemons("memory", config="udptracker: {status_swarms: 0}")
    daemon.announce(bytes(20), 6881)
    assert json.loads(daemon.get("/stats.json")[1])["busiest"] == []
