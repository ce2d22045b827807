"""The Redis path without the network: commands of a batch, its replies as results, and the drain of the connection.

1,000 operations a round, in batches as a busy node has them. The replies are a real server's.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from typing import Any, Final

import hiredis
import pytest

from bench.micro.conftest import OPERATIONS
from tests.support.servers import StoreServer, valkey
from udptracker.core.swarm import AnnounceOperation
from udptracker.redis.link import Link, Replies, Timeouts
from udptracker.storage.redis.registry import Registry
from udptracker.storage.redis.rounds import Batch
from udptracker.storage.redis.samples import Samples

BATCH: Final = 50
_STAMP: Final = 1_700_000_000_000_000_000
_RECEIVE_BYTES: Final = 65536

Round = tuple[bytes, int, bytes]
"""Commands of a batch, the number of their replies, and those replies as they came."""


@pytest.fixture(scope="module")
def batches(operations: list[AnnounceOperation]) -> list[list[AnnounceOperation]]:
    return [operations[at : at + BATCH] for at in range(0, OPERATIONS, BATCH)]


@pytest.fixture(scope="module")
def rounds(operations: list[AnnounceOperation], batches: list[list[AnnounceOperation]]) -> Iterator[list[Round]]:
    """The first round of each batch, on a server that holds the whole world."""
    with StoreServer(valkey()) as server:
        server.start()
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            for at in range(0, len(operations), 1_000):
                _ask(sock, _batch(operations[at : at + 1_000]))
            yield [_ask(sock, _batch(batch)) for batch in batches]


class Discarding(asyncio.WriteTransport):
    """The way to a server, without a server."""

    def write(self, data: Any) -> None:
        return None

    def is_closing(self) -> bool:
        return False


def test_redis_encode(benchmark: Any, batches: list[list[AnnounceOperation]]) -> None:
    """Operations to packed commands."""

    def encode() -> None:
        for batch in batches:
            b"".join([segment.payload for segment in _batch(batch).first_round()])

    benchmark(encode)


def test_redis_decode(benchmark: Any, batches: list[list[AnnounceOperation]], rounds: list[Round]) -> None:
    """Parsed replies to results."""
    parsed = [_parse(count, raw) for _, count, raw in rounds]

    def planned() -> tuple[tuple[list[Batch]], dict[str, Any]]:
        fresh = [_batch(batch) for batch in batches]
        for batch in fresh:
            batch.first_round()
        return (fresh,), {}

    def decode(fresh: list[Batch]) -> None:
        for batch, replies in zip(fresh, parsed, strict=True):
            batch.read_first(replies)

    benchmark.pedantic(decode, setup=planned, rounds=200, warmup_rounds=5)


def test_redis_drain(benchmark: Any, rounds: list[Round]) -> None:
    """Bytes that arrived to parsed replies: hiredis and the futures of the link."""
    loop = asyncio.new_event_loop()
    link = Link(loop, Timeouts())

    def drain() -> None:
        waiting = [link.send(payload, count) for payload, count, _ in rounds]
        for _, _, raw in rounds:
            link.data_received(raw)
        assert all(future.done() for future in waiting)

    with socket.socket() as sock:
        link.connection_made(Discarding({"socket": sock}))
        benchmark(drain)
        link.connection_lost(None)
    loop.close()


def _batch(operations: list[AnnounceOperation]) -> Batch:
    draw = random.Random(1).random
    return Batch(operations, _STAMP, draw, Samples(0, draw), Registry())


def _ask(sock: socket.socket, batch: Batch) -> Round:
    segments = batch.first_round()
    payload = b"".join([segment.payload for segment in segments])
    count = sum(segment.replies for segment in segments)
    sock.sendall(payload)
    reader, raw, missing = hiredis.Reader(), bytearray(), count
    while missing:
        data = sock.recv(_RECEIVE_BYTES)
        raw += data
        reader.feed(data)
        while reader.gets() is not False:
            missing -= 1
    return payload, count, bytes(raw)


def _parse(count: int, raw: bytes) -> Replies:
    reader, replies = hiredis.Reader(), Replies()
    reader.feed(raw)
    replies += [reader.gets() for _ in range(count)]
    return replies
