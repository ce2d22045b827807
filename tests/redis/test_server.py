"""The connection to one server is made again for ever, ever more slowly where it does not last, and without a flood of
lines."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hiredis import ReplyError

from tests.redis.servers import listening
from tests.support.stores import SHORT, topology_of
from tests.support.waiting import PATIENCE
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.server import Server, fixed
from udptracker.redis.url import parse_broker


def _made() -> None:
    """Nobody counts connections here."""


async def test_a_server_that_hangs_up_is_asked_ever_more_slowly(caplog: pytest.LogCaptureFixture) -> None:
    """It greets, and breaks the protocol at once, each time."""
    greeted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        await reader.read(1024)
        writer.write(b"+PONG\r\n")
        await reader.read(1024)
        writer.write(b"+fine\r\n*500000000\r\n")
        await reader.read()
        writer.close()

    with caplog.at_level(logging.INFO):
        async with listening(serve) as port:
            server = Server(parse_broker("redis://x"), fixed("127.0.0.1", port), SHORT, _made)
            server.start()
            await asyncio.sleep(2.0)
            await server.close()
    assert 2 <= greeted <= 8  # pauses of 25 to 50 ms, 50 to 100 ms and so on
    ours = [record.message for record in caplog.records if record.name.startswith("udptracker")]
    assert len(ours) == 1
    assert "protocol" in ours[0]


async def test_whoever_waits_for_it_has_it_once_it_is_there() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            writer.write(b"+PONG\r\n")
        writer.close()

    async with listening(serve) as port:
        server = Server(parse_broker("redis://x"), fixed("127.0.0.1", port), SHORT, _made)
        with pytest.raises(StoreUnavailable, match="not connected yet"):
            _ = server.link
        server.start()
        assert await server.ready() is server.link
        server.drop("dropped by the test")
        await server.link.lost
        assert await server.ready() is server.link
        await server.close()


@pytest.mark.parametrize(
    "garbage",
    [b"+OK\r\n", b"*0\r\n", b"*1\r\n*1\r\n:1\r\n", b"*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\nx\r\n:1\r\n", b"$-1\r\n"],
)
async def test_a_cluster_that_answers_what_is_no_map_is_asked_again(garbage: bytes) -> None:
    maps = [garbage, garbage]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            for command in data.split(b"*")[1:]:
                if b"SLOTS" in command:
                    whole = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:%d\r\n" % port
                    writer.write(maps.pop() if maps else whole)
                else:
                    writer.write(b"+here\r\n")
        writer.close()

    async with listening(serve) as port:
        topology = topology_of(f"redis+cluster://127.0.0.1:{port}")
        topology.start()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await topology.call(b"x", "GET", "x") == b"here"
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
        await topology.close()


@pytest.mark.parametrize("redirection", ["MOVED", "MOVED x y", "MOVED 99999 127.0.0.1:1", "ASK 1 127.0.0.1:99999999"])
async def test_a_redirection_to_nowhere_is_an_error_of_that_command(redirection: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            for command in data.split(b"*")[1:]:
                if b"SLOTS" in command:
                    writer.write(b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:%d\r\n" % port)
                elif b"GET" in command:
                    writer.write(f"-{redirection}\r\n".encode())
                else:
                    writer.write(b"+here\r\n")
        writer.close()

    async with listening(serve) as port:
        topology = topology_of(f"redis+cluster://127.0.0.1:{port}", SHORT)
        topology.start()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await topology.call(b"x", "PING") == b"here"
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
            with pytest.raises(ReplyError, match=redirection):
                await topology.call(b"x", "GET", "x")
        await topology.close()
