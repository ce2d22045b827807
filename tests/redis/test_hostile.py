"""Servers that are no Redis, or a hostile one: whatever they answer, what leaves is what a store may raise."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hiredis import ReplyError

from tests.redis.servers import answering, listening
from tests.storage.contract import LEECHER, SEEDER, STARTED, announce
from tests.support.stores import SHORT, topology_of, until_connected
from udptracker.core.swarm import IPV4, StoreError, StoreUnavailable
from udptracker.redis.cluster import Cluster
from udptracker.redis.segment import segment
from udptracker.redis.sentinel import master_of
from udptracker.redis.url import parse_broker
from udptracker.storage.redis import answers
from udptracker.storage.redis.holdings import Holdings
from udptracker.storage.redis.store import RedisStore

MAP = b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$2\r\nid\r\n"
"""A cluster of one node, by its port."""


@asynccontextmanager
async def store_on(port: int) -> AsyncIterator[RedisStore]:
    """A store that is connected, and has asked nothing yet."""
    topology = topology_of(f"redis://127.0.0.1:{port}/0")
    store = RedisStore(topology, random.Random(1).random)
    topology.start()
    try:
        await until_connected(topology, 1)
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize(
    "otherwise",
    [
        b":1\r\n",
        b":-5\r\n",
        b"$-1\r\n",
        b"$3\r\nabc\r\n",
        b"*0\r\n",
        b"*2\r\n:1\r\n*0\r\n",
        b",inf\r\n",
        b"%1\r\n+a\r\n+b\r\n",
    ],
)
@pytest.mark.parametrize(
    "question",
    [
        RedisStore.check,
        RedisStore.look,
        RedisStore.totals,
        lambda store: store.agree_on_keys(bytes(32)),
        lambda store: store.execute([announce(1, SEEDER, STARTED), announce(2, LEECHER, STARTED)]),
        lambda store: Holdings(store._topology).swarm(bytes(20)),
        lambda store: store.reap(store.now()),
    ],
)
async def test_what_it_was_not_asked(question: Callable[[RedisStore], Any], otherwise: bytes) -> None:
    """Either it can be taken for an answer, or the store is away."""
    async with listening(answering({}, otherwise)) as port, store_on(port) as store:
        with contextlib.suppress(StoreError, ReplyError):
            await question(store)


async def test_it_says_what_it_was() -> None:
    async with listening(answering({b"HLEN": b"$3\r\nabc\r\n"}, b":1\r\n")) as port, store_on(port) as store:
        with pytest.raises(StoreUnavailable, match=r"it answers what it was not asked \(TypeError: .*\)"):
            await store.execute([announce(1, SEEDER, STARTED)])


async def test_a_sentinel_that_names_nobody_is_passed_over() -> None:
    """What a client is told is an empty list, which is no address."""
    good = b"*6\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$4\r\n6379\r\n$12\r\nconfig-epoch\r\n$1\r\n7\r\n"

    async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = iter((b"+PONG\r\n", b"-ERR no\r\n", b"*0\r\n"))
        while await reader.read(65536):
            writer.write(next(answers))
        writer.close()

    async with listening(bad) as hostile, listening(answering({}, good)) as honest:
        locate = master_of(parse_broker(f"redis+sentinel://127.0.0.1:{hostile},127.0.0.1:{honest}/main"), SHORT)
        assert await locate() == ("127.0.0.1", 6379)
        alone = master_of(parse_broker(f"redis+sentinel://127.0.0.1:{hostile}/main"), SHORT)
        with pytest.raises(StoreUnavailable, match="answers what is no master"):
            await alone()


@pytest.mark.parametrize("port", [b"70000", b"0", b"-1", b"9" * 5_000])
async def test_a_master_on_a_port_that_is_none(port: bytes) -> None:
    reply = b"*6\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$%d\r\n%b\r\n$12\r\nconfig-epoch\r\n$1\r\n7\r\n"
    async with listening(answering({}, reply % (len(port), port))) as number:
        locate = master_of(parse_broker(f"redis+sentinel://127.0.0.1:{number}/main"), SHORT)
        with pytest.raises(StoreUnavailable, match="answers what is no master"):
            await locate()


@asynccontextmanager
async def cluster_that_says(reply: bytes) -> AsyncIterator[Cluster]:
    """A cluster of one node, which answers every question so."""
    answers: dict[bytes, bytes] = {}
    async with listening(answering(answers, reply)) as port:
        answers[b"CLUSTER"] = MAP % port
        cluster = Cluster(parse_broker(f"redis+cluster://127.0.0.1:{port}"), SHORT)
        cluster.start()
        try:
            await cluster._server(("127.0.0.1", port)).ready()
            assert await cluster._read_map()
            yield cluster
        finally:
            await cluster.close()


@pytest.mark.parametrize("number", [b"9" * 5_000, b"70000"])
async def test_a_redirection_to_a_port_that_is_none_is_an_error_of_its_command(number: bytes) -> None:
    """Python refuses to make a number of more than 4300 digits."""
    async with cluster_that_says(b"-MOVED 1 127.0.0.1:" + number + b"\r\n") as cluster:
        (reply,) = await cluster.send([segment(b"key", "GET", b"key")])
        assert isinstance(reply, ReplyError)


async def test_a_counter_of_more_digits_than_redis_has_is_none() -> None:
    """A number of a thousand digits is none that a metric could show."""
    answers = {b"GET": b"$1000\r\n" + b"9" * 1_000 + b"\r\n"}
    async with listening(answering(answers, b":1\r\n")) as port, store_on(port) as store:
        assert (await store.totals())[IPV4] == (0, 0, 0)


async def test_a_clock_beyond_all_times_is_not_followed() -> None:
    answers = {b"TIME": b"*2\r\n$30\r\n" + b"9" * 30 + b"\r\n$1\r\n0\r\n", b"HGETALL": b"*0\r\n"}
    async with listening(answering(answers, b"$1\r\n1\r\n")) as port, store_on(port) as store:
        await store.look()
        assert abs(store.now() - time.time_ns()) < 3600 * 10**9


def test_answers_of_every_length_take_bounded_memory() -> None:
    for count in range(1, 3_000, 7):
        packed = bytes(6 * count)
        assert answers.make_pools(packed, count, 0, IPV4).seeders == bytes(6)
    assert max(answers._unpackers[IPV4]) <= 1_024
