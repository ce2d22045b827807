"""Everything that can be broken is broken, under load; nobody is lost and nobody is told wrong.

The short form takes a few seconds a fault; `--chaos-seconds 60` makes each of them long.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.ordeal import CONFIG, Ordeal, Row, check_counters
from tests.chaos.proxy import Proxy
from tests.conftest import Daemons, StoreServers
from tests.support.cluster import StoreCluster
from tests.support.daemon import Daemon
from tests.support.sentinel import Watched, info
from tests.support.servers import StoreServer
from tests.support.stores import make_redis_store
from tests.support.waiting import eventually
from udptracker.connection_id import ConnectionIds
from udptracker.counters import Counters
from udptracker.policy import Policy
from udptracker.swarm import IPV4, AnnounceOperation, Role, pack_peer_v4
from udptracker.tracker import Tracker
from udptracker.wire import Event

Node = Callable[..., Daemon]


@pytest.fixture
def node(daemons: Daemons) -> Node:
    """Starts a tracker on a store's URL."""

    def start(url: str, *arguments: str) -> Daemon:
        return daemons(
            None, config=CONFIG.format(url=url), hosts=["127.0.0.1"], arguments=arguments or ("--workers", "1")
        )

    return start


def test_a_node_is_killed(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    first, second = node(server.url), node(server.url)
    Ordeal("kill -9 of a node, another goes on", [first, second], rows).endure(first.kill, [second], seconds)
    check_counters(server.url, [server])


def test_a_node_stands_still(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    first, second = node(server.url), node(server.url)

    def harm() -> None:
        first.pause()
        time.sleep(2.0)
        first.resume()

    Ordeal("SIGSTOP of a node for 2 s", [first, second], rows).endure(harm, [first, second], seconds)
    check_counters(server.url, [server])


def test_a_worker_is_killed(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    tracker = node(server.url, "--workers", "2")

    def harm() -> None:
        children = Path(f"/proc/{tracker.pid}/task/{tracker.pid}/children").read_text().split()
        workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(workers) == 2
        for pid in workers:  # whichever the crowd's sockets were given to
            os.kill(pid, signal.SIGKILL)

    Ordeal("kill -9 of both workers", [tracker], rows).endure(harm, [tracker], seconds)
    assert tracker.log.count("died (signal SIGKILL), starting it again") == 2
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


async def test_the_wall_clock_jumps(valkey: StoreServer, monkeypatch: pytest.MonkeyPatch, rows: list[Row]) -> None:
    """Nobody expires, since stores do not look at the wall clock; clients are told to connect anew, and can."""
    store = make_redis_store(valkey.url)
    await store.open()
    peer = pack_peer_v4(b"-CH0001-000000000001", 7001, bytes([127, 0, 0, 1]))
    announce = AnnounceOperation(IPV4, bytes(20), peer, Role.SEEDER, Event.STARTED, 0)
    await store.execute([announce])
    tracker = Tracker(ConnectionIds([b"chaos"]), Policy(), random.random, Counters())
    real = time.time()
    connect = bytes.fromhex("0000041727101980") + bytes(4) + b"abcd"
    for jump in (36_000.0, -36_000.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real + jump)
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: int((real + jump) * 1e9))
        report = await store.reap(store.now() - 1_800 * 1_000_000_000)
        assert (report.ran, report.peers) == (True, 0)
        answer = tracker.receive(connect, "127.0.0.1", real + jump)
        assert isinstance(answer, bytes)
        scrape = answer[8:16] + (2).to_bytes(4, "big") + b"abcd" + bytes(20)
        assert not isinstance(tracker.receive(scrape, "127.0.0.1", real + jump), bytes)
        refused = tracker.receive(scrape, "127.0.0.1", real)
        assert isinstance(refused, bytes)
        assert b"bad connection ID" in refused
    monkeypatch.undo()
    assert (await store.totals())[IPV4].seeders == 1
    await store.close()
    await asyncio.sleep(0)
    rows.append(Row("the wall clock jumps by 10 h, back and forth", 3, 0.0, "none", 0))
