"""Faults of a store that is there: cut off from one node of two, refusing, busy, emptied, poisoned, of another time."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import Final

import redis

from tests.chaos.conftest import Node
from tests.chaos.crowd import SWARMS, info_hash
from tests.chaos.ordeal import CONFIG, Ordeal, Row, check_counters
from tests.chaos.test_chaos import exceeds, metric
from tests.conftest import Daemons, StoreServers
from tests.support.cluster import StoreCluster
from tests.support.daemon import Daemon
from tests.support.proxy import Proxy
from tests.support.waiting import eventually, free_port
from udptracker.service.lifecycle import STOP_SECONDS

_CLOCK: Final = Path(__file__).parent / "clock"


def is_away(tracker: Daemon) -> bool:
    """Whether it serves from its stand-in, and says so."""
    return tracker.get("/readyz")[0] == 503


def test_one_node_of_two_is_cut_off(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    """Its peers move to the other and back meanwhile; what was on its way arrives when the network is whole again."""
    server = store_servers()
    with Proxy(server.port) as proxy:
        first, second = node(f"redis://127.0.0.1:{proxy.port}/0"), node(server.url)

        def harm() -> None:
            proxy.stall()
            eventually(lambda: is_away(first), "the node to notice")
            time.sleep(seconds)
            proxy.flow()

        Ordeal("one of two nodes cut off from Redis", [first, second], rows).endure(harm, [first, second], seconds)
        check_counters(server.url, [server])


def test_slots_migrate(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    cluster = StoreCluster(store_servers)
    tracker = node(cluster.url)

    def harm() -> None:
        for swarm in range(0, SWARMS, 4):
            for letter in "SL":
                key = f"IPv4_{letter}_{info_hash(swarm).hex()}".encode()
                source = cluster.owner(key)
                target = next(server for server in cluster.masters if server is not source)
                cluster.begin_move(key, target)
                time.sleep(seconds / 10)
                cluster.finish_move(key, target)

    Ordeal("slots of a cluster migrate", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(cluster.url, cluster.masters)


def test_rights_are_taken_and_given_back(
    node: Node, store_servers: StoreServers, rows: list[Row], seconds: float
) -> None:
    server = store_servers()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "node", "on", ">secret", "~*", "&*", "+@all")
        tracker = node(f"redis://node:secret@127.0.0.1:{server.port}/0")

        def harm() -> None:
            client.execute_command("ACL", "SETUSER", "node", "-hset")
            eventually(lambda: is_away(tracker), "the node to notice")
            time.sleep(seconds)
            client.execute_command("ACL", "SETUSER", "node", "+hset")

        Ordeal("the right to HSET taken and given back", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(server.url, [server])


def test_a_script_keeps_redis_busy(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers(["--lua-time-limit", "50"])
    tracker = node(server.url)

    def run_for_ever() -> None:
        with server.client() as client:
            try:
                client.execute_command("EVAL", "while true do end", 0)
            except redis.RedisError:
                return

    def harm() -> None:
        script = threading.Thread(target=run_for_ever)
        script.start()
        eventually(lambda: is_away(tracker), "the node to notice")
        time.sleep(seconds)
        with server.client() as client:
            client.script_kill()
        script.join()

    Ordeal("a script that keeps Redis busy", [tracker], rows).endure(harm, [tracker], seconds)
    check_counters(server.url, [server])


def test_redis_is_flushed(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    server = store_servers()
    first, second = node(server.url), node(server.url)

    def harm() -> None:
        server.flush()
        eventually(lambda: all("it has been emptied" in each.log for each in (first, second)), "the nodes to notice")

    Ordeal("FLUSHALL, two nodes", [first, second], rows).endure(harm, [first, second], seconds)
    check_counters(server.url, [server])


def test_a_swarm_is_poisoned(node: Node, store_servers: StoreServers, rows: list[Row], seconds: float) -> None:
    """One that nobody of the crowd is in, since what is broken cannot be kept."""
    server = store_servers()
    with Proxy(server.port) as proxy:
        tracker = node(f"redis://127.0.0.1:{proxy.port}/0")
        key = f"IPv4_L_{info_hash(SWARMS).hex()}"

        def harm() -> None:
            proxy.stall()
            eventually(lambda: is_away(tracker), "the node to notice")
            tracker.announce(info_hash(SWARMS), 1)
            with server.client() as client:
                client.delete(key)
                client.set(key, "x")
                proxy.flow()
                eventually(lambda: exceeds(tracker, "udptracker_standby_broken_total", 0), "the poison to be met")
                tracker.wait_until_ready()
                client.delete(key)

        Ordeal("a poisoned key", [tracker], rows).endure(harm, [tracker], seconds)
        assert f"{key}: WRONGTYPE" in tracker.log
        check_counters(server.url, [server])


def test_a_node_with_another_time_starts_while_redis_is_away(
    daemons: Daemons, node: Node, store_servers: StoreServers, rows: list[Row], seconds: float
) -> None:
    """Three hours behind the others; and though the reaper runs all the time, nobody expires."""
    server = store_servers()
    first = node(server.url)
    second = daemons(
        None,
        config=CONFIG.format(url=server.url).replace("gc_interval: 1h", "gc_interval: 300ms"),
        hosts=["127.0.0.1"],
        arguments=("--workers", "1"),
        environment={"PYTHONPATH": os.pathsep.join(map(str, (_CLOCK, _CLOCK.parents[2]))), "HOURS_AHEAD": "-3"},
    )

    def harm() -> None:
        assert second.stop(2 * STOP_SECONDS) == 0
        with server.client() as client:
            client.save()  # what only the node that is stopped has heard is nowhere else
        server.kill()
        eventually(lambda: is_away(first), "the node to notice")
        second.start(wait=False)
        eventually(lambda: is_away(second), "the other to serve without Redis")
        time.sleep(seconds)
        server.start()
        second.wait_until_ready()
        runs = metric(second, "udptracker_reaper_runs_total")
        eventually(lambda: exceeds(second, "udptracker_reaper_runs_total", runs), "the reaper to run")
        assert metric(second, "udptracker_reaper_removed_peers_total") == 0

    ordeal = Ordeal("a node 3 h behind starts without Redis", [first, second], rows, errors={"refused by the kernel"})
    ordeal.endure(harm, [first, second], seconds)
    check_counters(server.url, [server])


def test_a_node_is_restarted_while_redis_is_away(
    daemons: Daemons, store_servers: StoreServers, rows: list[Row], seconds: float
) -> None:
    """What it had heard alone is lost by nature, and the log says of how many; whoever announces again is back."""
    server = store_servers()
    tracker = daemons(
        None, config=CONFIG.format(url=server.url), hosts=["127.0.0.1"], arguments=("--workers", "1"), port=free_port()
    )

    errors = {"refused by the kernel", "bad connection ID"}
    ordeal = Ordeal("a node restarted while Redis is away", [tracker], rows, errors=errors)

    def harm() -> None:
        began = time.monotonic()
        server.pause()
        eventually(lambda: is_away(tracker), "the node to notice")
        time.sleep(seconds)
        buffered = metric(tracker, "udptracker_standby_buffered_peers")
        assert buffered > 0
        assert tracker.stop(2 * STOP_SECONDS) == 0
        said = re.findall(r"(\d+) peers heard while the store was away are not in it", tracker.log)
        assert len(said) == 1
        assert int(said[0]) >= buffered
        ordeal.loses_by_nature(began, time.monotonic())
        tracker.start(wait=False)
        eventually(lambda: is_away(tracker), "the node to serve without Redis")
        time.sleep(seconds)
        server.resume()

    ordeal.endure(harm, [tracker], seconds)
    check_counters(server.url, [server])
