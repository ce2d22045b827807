"""Links to servers of a test's own, which need not be Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import hiredis

from tests.support.stores import SHORT
from tests.support.waiting import free_port
from udptracker.redis.greeting import connect
from udptracker.redis.link import Link, Timeouts
from udptracker.redis.url import parse_broker

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


_HELLO: Final = {b"PING": b"+PONG\r\n", b"CLIENT": b"+id=1 addr=127.0.0.1:1\r\n"}
"""What greets a new connection."""


@asynccontextmanager
async def linked(port: int, timeouts: Timeouts = SHORT) -> AsyncIterator[Link]:
    """A link to a server of 127.0.0.1, gone at the end."""
    link = await connect(parse_broker(f"redis://127.0.0.1:{port}"), "127.0.0.1", port, timeouts)
    try:
        yield link
    finally:
        link.abort("the test is over")
        await link.lost


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """The port of a server that is not Redis."""
    port = free_port()
    listener = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port
    finally:
        listener.close()


def answering(answers: dict[bytes, bytes], otherwise: bytes) -> Serve:
    """A server that answers commands by their first word."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                writer.write((_HELLO | answers).get(command[0].upper(), otherwise))
        writer.close()

    return serve
