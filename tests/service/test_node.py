"""One node on this process's event loop, on memory and on a real store."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.access import some_hooks
from tests.support.servers import StoreServer
from tests.support.turns import until
from tests.support.udp import NoAnswer, TrackerClient
from udptracker import config
from udptracker.core.swarm import IPV4
from udptracker.core.wire import AnnounceResponse
from udptracker.net.sockets import bind
from udptracker.service.lifecycle import STOP_SECONDS
from udptracker.service.node import Node

INFO_HASH = bytes(range(20))
HOST = "127.0.0.1"


class RunningNode:
    """A node that serves a free port, and blocking clients of it in threads."""

    def __init__(self, tree: dict[str, Any], number: int) -> None:
        settings = config.from_tree(tree, "udptracker", {}).settings
        sock = bind(HOST, 0, share_port=False, receive_buffer=1 << 18)
        self.port: int = sock.getsockname()[1]
        self.node = Node(settings, [b"secret"], [sock], number=number)

    async def announce(self, port: int, **fields: Any) -> AnnounceResponse:
        def ask() -> AnnounceResponse:
            with TrackerClient(HOST, self.port) as client:
                return client.announce(INFO_HASH, port, **fields)

        return await asyncio.to_thread(ask)


Start = Callable[..., Any]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Starts nodes that stop with the test, as in `await start({"udp": ...})`."""
    running: list[RunningNode] = []
    thresholds = gc.get_threshold()

    async def make(tree: dict[str, Any] | None = None, *, number: int = 0) -> RunningNode:
        running.append(RunningNode(tree or {}, number))
        await running[-1].node.start()
        return running[-1]

    yield make
    for one in running:
        await one.node.stop()
    gc.set_threshold(*thresholds)  # which a node sets for its process, here that of all tests
    gc.unfreeze()


def redis_tree(url: str, **fields: Any) -> dict[str, Any]:
    return {"storage": {"name": "redis", "config": {"redis_broker": url, **fields}}}


async def test_settings_reach_the_part_they_are_for(start: Start) -> None:
    udp = {"max_numwant": 3, "default_numwant": 2, "max_scrape_infohashes": 1, "return_own_peer_when_alone": False}
    running = await start({"announce_interval": "10m", "udp": udp})
    alone = await running.announce(1)
    assert (alone.interval, alone.peers) == (600, b"")
    for port in range(2, 7):
        await running.announce(port)
    assert len((await running.announce(1)).peers) == 2 * 6
    assert len((await running.announce(1, num_want=50)).peers) == 3 * 6

    def scrape() -> int:
        with TrackerClient(HOST, running.port) as client:
            return len(client.scrape(INFO_HASH, INFO_HASH))

    assert await asyncio.to_thread(scrape) == 1


async def test_jitter_and_spoofing_reach_theirs(start: Start) -> None:
    running = await start({"interval_jitter": "1h", "udp": {"allow_ip_spoofing": True}})

    def announce() -> AnnounceResponse:
        with TrackerClient(HOST, running.port) as client:
            return client.announce(INFO_HASH, 6881, ip=bytes((192, 0, 2, 1)))

    answers = [await asyncio.to_thread(announce) for _ in range(20)]
    assert all(1800 <= answer.interval <= 1800 + 3600 for answer in answers)
    assert len({answer.interval for answer in answers}) > 1
    assert answers[0].peers[:4] == bytes((192, 0, 2, 1))


async def test_totals_are_watched(start: Start) -> None:
    running = await start({"storage": {"config": {"prometheus_reporting_interval": "10ms"}}})
    await running.announce(1)
    await running.announce(2, left=0)
    await until(lambda: running.node.counters.totals.get(IPV4) == (1, 1, 1), "the totals of two peers")


@pytest.mark.parametrize("number", [0, 1])
async def test_one_of_several_expires_peers(start: Start, number: int) -> None:
    config = {"gc_interval": "10ms", "peer_lifetime": "1ms", "prometheus_reporting_interval": "10ms"}
    running = await start({"storage": {"config": config}}, number=number)
    await running.announce(1)
    counters = running.node.counters
    if number == 0:
        await until(lambda: counters.reaped == 1, "the peer to be reaped")
        await until(lambda: counters.totals.get(IPV4) == (0, 0, 0), "totals of nothing")
    else:
        soon = time.monotonic() + 0.1  # ten times the interval at which a reaper would run
        await until(lambda: time.monotonic() > soon, "time to pass")
        assert counters.reaper_runs == 0
        await until(lambda: counters.totals.get(IPV4) == (1, 0, 1), "the totals of one peer")


async def test_a_snapshot_has_every_counter(start: Start) -> None:
    running = await start()
    await running.announce(1)
    (snapshot,) = (await running.node.snapshots()).values()
    assert snapshot.keys() == running.node.counters.snapshot().keys()
    assert snapshot["requests"] == [1, 0, 1, 0, 0, 0]


async def test_readiness_follows_the_store(start: Start, valkey: StoreServer) -> None:
    running = await start(redis_tree(valkey.url, redis_read_timeout="100ms"))
    assert await running.node.ready() == (True, "ready")
    await asyncio.to_thread(valkey.pause)
    try:
        ready, word = await running.node.ready()
        assert not ready
        assert word.startswith("the store does not answer")
    finally:
        valkey.resume()


async def test_on_memory_it_is_ready_as_long_as_it_serves(start: Start) -> None:
    node = (await start()).node
    assert await node.ready() == (True, "ready")
    await node.stop()
    assert await node.ready() == (False, "it does not serve")


async def test_it_is_not_ready_before_it_serves() -> None:
    node = Node(config.from_tree({}, "udptracker", {}).settings, [b"secret"], [])
    assert await node.ready() == (False, "it does not serve")


async def test_on_a_store_it_answers_and_writes(start: Start, valkey: StoreServer) -> None:
    running = await start(redis_tree(valkey.url))
    assert (await running.announce(6881)).leechers == 1
    with valkey.client() as client:
        assert client.hlen(f"IPv4_L_{INFO_HASH.hex()}") == 1


async def test_stopped_it_answers_nobody_and_holds_no_port(start: Start) -> None:
    running = await start()
    await running.announce(1)
    await running.node.stop()

    def ask() -> None:
        with TrackerClient(HOST, running.port, timeout=0.2, attempts=1) as client:
            client.connect()

    with pytest.raises(NoAnswer):
        await asyncio.to_thread(ask)
    bind(HOST, running.port, share_port=False, receive_buffer=1 << 16).close()


async def test_stopping_is_bounded_when_the_store_stands_still(start: Start, valkey: StoreServer) -> None:
    """Its own timeout is far longer than the bound."""
    running = await start(redis_tree(valkey.url, redis_read_timeout="5m", redis_write_timeout="5m"))
    await asyncio.to_thread(valkey.pause)
    asking = asyncio.create_task(running.announce(1))
    try:
        await until(lambda: running.node.counters.snapshot()["queue_depth"] > 0, "an announce to be held")
        async with asyncio.timeout(STOP_SECONDS):
            await running.node.stop()
    finally:
        valkey.resume()
        await asyncio.wait({asking})


async def test_other_settings_are_used_by_every_part(start: Start) -> None:
    running = await start({"udp": {"max_numwant": 3, "default_numwant": 3}})
    for port in range(1, 9):
        await running.announce(port)
    new = {
        "announce_interval": "10m",
        "udp": {"max_numwant": 5, "default_numwant": 4},
        "storage": {"config": {"gc_interval": "10ms", "peer_lifetime": "1ms"}},
    }
    assert await running.node.use(config.from_tree(new, "udptracker", {}).settings, [b"secret"])
    await until(
        lambda: running.node.counters.reaped >= 8, "the peers to be reaped, without waiting for the old interval"
    )
    assert (await running.announce(1)).interval == 600


async def test_other_timeouts_of_the_store_hold_at_once(start: Start, valkey: StoreServer) -> None:
    tree = redis_tree(valkey.url, redis_read_timeout="5m", redis_write_timeout="5m")
    running = await start(tree)
    new = redis_tree(valkey.url, redis_read_timeout="100ms", redis_write_timeout="100ms", sample_ttl="0s")
    assert await running.node.use(config.from_tree(new, "udptracker", {}).settings, [b"secret"])
    await asyncio.to_thread(valkey.pause)
    try:
        assert (await running.announce(1)).leechers == 1, "the stand-in does not answer"
    finally:
        valkey.resume()


async def test_changes_that_overtake_each_other_end_with_the_last_and_leave_nothing_open(start: Start) -> None:
    some_hooks.made.clear()
    running = await start()

    def given(interval: str, opens_in: float) -> Any:
        hook = {"name": "tests.access.some_hooks:AtOnce", "options": {"opens_in": opens_in}}
        return config.from_tree({"announce_interval": interval, "prehooks": [hook]}, "udptracker", {}).settings

    node, keys = running.node, [b"secret"]
    await asyncio.gather(node.use(given("10m", 0.1), keys), node.use(given("11m", 0.0), keys))
    first, second = some_hooks.made
    await until(lambda: first.life == ["open", "close"], "the first to be closed")
    assert second.life == ["open"]
    assert (await running.announce(6881)).interval == 660
