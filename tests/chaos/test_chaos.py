"""Everything that can be broken is broken, under load; nobody is lost and nobody is told wrong.

The short form takes a few seconds a fault; `--chaos-seconds 60` makes each of them long.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.conftest import Node
from tests.chaos.ordeal import CONFIG, Ordeal, Row, check_counters
from tests.conftest import Daemons, StoreServers
from tests.support.cluster import StoreCluster
from tests.support.daemon import Daemon
from tests.support.proxy import Proxy
from tests.support.sentinel import Watched, info
from tests.support.servers import StoreServer
from tests.support.waiting import eventually

_HERE: Final = Path(__file__).parent
_RUNS: Final = "udptracker_reaper_runs_total"


def workers_of(tracker: Daemon) -> list[int]:
    """The process ids of its two workers."""
    children = Path(f"/proc/{tracker.pid}/task/{tracker.pid}/children").read_text().split()
    workers = [
        int(pid) for pid in children if b"udptracker.service.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(workers) == 2
    return workers


def metric(tracker: Daemon, name: str) -> float:
    """What one of its metrics says, 0 if it is not there."""
    lines = (line.rpartition(" ") for line in tracker.get("/metrics")[1].splitlines())
    return next((float(value) for found, _, value in lines if found == name), 0.0)


def refusals(tracker: Daemon) -> float:
    """How many connection ids it refused, in words or, soon after those, in silence."""
    return sum(
        metric(tracker, f'udptracker_{how}_total{{reason="bad connection ID"}}') for how in ("refusals", "drops")
    )


def _more_refusals(tracker: Daemon, before: float) -> bool:
    return refusals(tracker) > before


def exceeds(tracker: Daemon, name: str, value: float) -> bool:
    """Whether one of its metrics is above a value."""
    return metric(tracker, name) > value


def test_a_node_is_killed(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    first, second = node(server.url), node(server.url)
    ordeal = Ordeal("kill -9 of a node, another goes on", [first, second], rows, errors={"refused by the kernel"})
    ordeal.endure(first.kill, [second], seconds)
    check_counters(server.url, [server])


def test_a_node_stands_still(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    first, second = node(server.url), node(server.url)

    def harm() -> None:
        first.pause()
        time.sleep(2.0)
        first.resume()

    ordeal = Ordeal("SIGSTOP of a node for 2 s", [first, second], rows, stands_still=True)
    ordeal.endure(harm, [first, second], seconds)
    check_counters(server.url, [server])


def test_a_worker_is_killed(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    tracker = node(server.url, "--workers", "2")

    def harm() -> None:
        for pid in workers_of(tracker):
            os.kill(pid, signal.SIGKILL)

    Ordeal("kill -9 of both workers", [tracker], rows, sockets=8).endure(harm, [tracker], seconds)
    assert tracker.log.count("died (signal SIGKILL), starting it again") == 2
    check_counters(server.url, [server])


def test_a_worker_stands_still(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    tracker = node(server.url, "--workers", "2")

    def harm() -> None:
        victim = workers_of(tracker)[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            eventually(lambda: tracker.get("/readyz")[0] == 503, "the parent to notice")
        finally:
            os.kill(victim, signal.SIGCONT)

    ordeal = Ordeal("SIGSTOP of one of two workers", [tracker], rows, sockets=8, stands_still=True)
    ordeal.endure(harm, [tracker], seconds)
    check_counters(server.url, [server])


def test_redis_is_killed_and_comes_back_empty(
    node: Node, store_servers: StoreServers, rows: list[Row], seconds: float
) -> None:
    server = store_servers()
    tracker = node(server.url)

    def harm() -> None:
        server.kill()
        eventually(lambda: tracker.get("/readyz")[0] == 503, "the node to notice")
        time.sleep(seconds)
        server.start()

    Ordeal("kill -9 of Redis, back empty", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(server.url, [server])


def test_redis_is_restarted_empty_at_once(
    node: Node, store_servers: StoreServers, rows: list[Row], seconds: float
) -> None:
    server = store_servers()
    first, second = node(server.url), node(server.url)
    Ordeal("Redis restarted empty, two nodes", [first, second], rows).endure(server.restart, [first, second], seconds)
    check_counters(server.url, [server])


def test_redis_stands_still(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    tracker = node(server.url)

    def harm() -> None:
        server.pause()
        eventually(lambda: tracker.get("/readyz")[0] == 503, "the node to notice")
        time.sleep(seconds)
        server.resume()

    Ordeal("SIGSTOP of Redis, longer than its timeout", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(server.url, [server])


def test_redis_is_full(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    tracker = node(server.url)

    def harm() -> None:
        with server.client() as client:
            client.config_set("maxmemory", 1)
            eventually(lambda: tracker.get("/readyz")[0] == 503, "the node to notice")
            time.sleep(seconds)
            client.config_set("maxmemory", 0)

    Ordeal("Redis out of memory", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(server.url, [server])


def test_a_sentinel_fails_over(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    watched = Watched(store_servers)
    tracker = node(watched.url)

    def harm() -> None:
        watched.master.kill()
        eventually(lambda: info(watched.replica, "replication")["role"] == "master", "the failover")

    Ordeal("failover by a sentinel", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(watched.url, [watched.replica])


def test_a_cluster_node_is_replaced(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    cluster = StoreCluster(store_servers, replicas=True)
    tracker = node(cluster.url)
    victim = cluster.masters[0]

    def masters() -> list[StoreServer]:
        alive = [server for server in (*cluster.masters, *cluster.replicas) if server.running]
        return [server for server in alive if info(server, "replication")["role"] == "master"]

    def harm() -> None:
        victim.kill()
        eventually(lambda: len(masters()) == 3, "a replica to take over")

    Ordeal("kill -9 of a cluster's node, a replica takes over", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(cluster.url, masters())


@pytest.mark.parametrize("how", ["stalls", "is cut in the middle of a reply"])
def test_a_connection_breaks(
    node: Node, store_servers: StoreServers, rows: list[Row], seconds: float, how: str
) -> None:
    server = store_servers()
    with Proxy(server.port) as proxy:
        tracker = node(f"redis://127.0.0.1:{proxy.port}/0")

        def harm() -> None:
            if how == "stalls":
                proxy.stall()
                eventually(lambda: tracker.get("/readyz")[0] == 503, "the node to notice")
                time.sleep(seconds)
                proxy.flow()
            else:
                proxy.cut_in_a_reply()
                eventually(lambda: "the store is back" in tracker.log, "the node to have been away")

        Ordeal(f"a connection {how}", [tracker], rows).endure(harm, [tracker], seconds)
        check_counters(server.url, [server])


def test_the_wall_clock_jumps(daemons: Daemons, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    """Nobody expires, though the reaper runs all the time; clients are told to connect anew, and can."""
    server = store_servers()
    tracker = daemons(
        None,
        config=CONFIG.format(url=server.url).replace("gc_interval: 1h", "gc_interval: 300ms"),
        hosts=["127.0.0.1"],
        arguments=("--workers", "1"),
        environment={"PYTHONPATH": os.pathsep.join(map(str, (_HERE / "clock", _HERE.parents[1])))},
    )

    def harm() -> None:
        for jump in (signal.SIGRTMIN + 1, signal.SIGRTMIN + 2):
            refused = refusals(tracker)
            tracker.signal(jump)
            eventually(partial(_more_refusals, tracker, refused), "old connection ids to be refused")
            eventually(partial(exceeds, tracker, _RUNS, metric(tracker, _RUNS) + 1), "the reaper to run")
        assert metric(tracker, "udptracker_reaper_removed_peers_total") == 0

    ordeal = Ordeal("the wall clock jumps by 10 h, and back", [tracker], rows, errors={"bad connection ID"})
    ordeal.endure(harm, [tracker], seconds)
    check_counters(server.url, [server])
