"""Replies beyond any bound end the connection, whatever they are made of, and nothing else does."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.redis.servers import linked, listening
from tests.support.servers import StoreServer
from tests.support.waiting import PATIENCE
from udptracker.redis.bounds import MOST_BYTES, MOST_ELEMENTS, Bounds
from udptracker.redis.link import pack

_MIB = 1 << 20
_ELEMENTS = f"more than {MOST_ELEMENTS:,} elements"
_NESTED = f"{_ELEMENTS}|nesting"
"""Ours, or the reader's own, which not all versions of hiredis have."""
_BYTES = f"more than {MOST_BYTES >> 20} MiB"


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


class TestTheConnectionEnds:
    @pytest.mark.parametrize(
        ("says", "replies"),
        [
            (_ELEMENTS, [b"*500000000\r\n"]),
            (_ELEMENTS, [b"*2\r\n$3\r\nabc\r\n*4294967295\r\n"]),
            (_ELEMENTS, _cut(b"*500000000\r\n", 1)),
            (_ELEMENTS, [b"*1000000\r\n" * 10]),
            (_ELEMENTS, [b"*9999\r\n" * 10_000]),
            *((_ELEMENTS, [b"%c500000000\r\n" % kind]) for kind in b"%~>|"),
            *((_ELEMENTS, _cut(b"%c500000000\r\n" % kind, 1)) for kind in b"%~>|"),
            *((_ELEMENTS, [b"*2\r\n$3\r\nabc\r\n", b"%c4294967295\r\n" % kind]) for kind in b"%~>|"),
            *((_ELEMENTS, [b"*2\r\n$3\r\nabc\r\n%c4294967295\r\n" % kind]) for kind in b"%~>|"),
            (f"{_NESTED}|broke the protocol", _cut(b"%999\r\n" * 200_000, 250_000)),
            (_NESTED, _cut(b"*999\r\n" * 200_000, 250_000)),
            (_NESTED, _cut(b"*999\r\n:1\r\n" * 200_000, 1000)),
            (_BYTES, [b"$2000000000\r\n", *[bytes(_MIB)] * 32]),
            (_BYTES, [b"*1\r\n$2000000000\r\n", *[bytes(_MIB)] * 32]),
            (_BYTES, [b"+", *[b"x" * _MIB] * 32]),
            (_BYTES, [b"*3\r\n", *[b"-" + b"x" * _MIB] * 32]),
            ("out of turn", [b"+PONG\r\n", *[b"+OK\r\n" * 10_000] * 32]),
            ("out of turn: ERR max number of clients", [b"+PONG\r\n-ERR max number of clients reached\r\n"]),
            ("broke the protocol", [b"%1\r\n*1\r\n:1\r\n:2\r\n"]),
            ("broke the protocol", [b"*-7\r\n"]),
            ("broke the protocol", [b"$x\r\n"]),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    async def test_with_the_loop_and_the_memory_as_before(self, says: str, replies: list[bytes]) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            writer.write(b"+PONG\r\n")
            await reader.read(1024)
            try:
                for reply in replies:
                    writer.write(reply)
                    await writer.drain()
                await reader.read()
            except OSError:
                pass  # it was hung up on, as it should be
            finally:
                writer.close()

        async with listening(serve) as port, linked(port) as link:
            tracemalloc.start()
            try:
                answer = link.send(pack("PING"), 1)
                await asyncio.wait({link.lost}, timeout=PATIENCE)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert link.lost.done()
            assert re.search(says, link.reason)
            if says != "out of turn: ERR max number of clients" and "+PONG" not in str(replies):
                assert answer.exception() is not None
            assert peak < 150 * _MIB


class TestTheConnectionStands:
    async def test_when_a_text_looks_like_an_array(self, valkey: StoreServer) -> None:
        text = b"*500000000\r\n" * 2_000
        async with linked(valkey.port) as link:
            futures = [link.send(pack("ECHO", text[at:]) + pack("PING"), 2) for at in range(20)]
            for at, replies in enumerate(await asyncio.gather(*futures)):
                assert replies == [text[at:], b"PONG"]

    async def test_with_a_long_array(self, valkey: StoreServer) -> None:
        script = "local t = {} for i = 1, tonumber(ARGV[1]) do t[i] = i end return {t, t}"
        async with linked(valkey.port) as link:
            for _ in range(30):
                first, second = await link.call("EVAL", script, "0", "100000")
                assert first == second == list(range(1, 100_001))

    @given(
        st.recursive(
            st.binary(max_size=40)
            | st.integers(-(2**63), 2**63 - 1)
            | st.none()
            | st.builds(lambda kind, n: b"\r\n%c%d\r\n" % (kind, n), st.sampled_from(b"*%~>|"), st.integers(10, 10**9)),
            lambda part: st.lists(part, max_size=12),
            max_leaves=40,
        ),
        st.integers(1, 30),
    )
    def test_and_every_reply_is_read_however_it_is_cut(self, reply: object, size: int) -> None:
        data = _packed(reply) * 3
        reader, bounds = hiredis.Reader(), Bounds()
        read: list[object] = []
        for received in _cut(data, size):
            for piece in bounds.cut(received, reader.has_data):
                reader.feed(piece)
                before = len(read)
                while (found := reader.gets()) is not False:
                    read.append(found)
                if len(read) > before:
                    bounds.begin()
        assert read == [reply] * 3


def _packed(reply: object) -> bytes:
    """A reply as a server sends it."""
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_packed, reply))
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"$-1\r\n"
