"""A Redis that answers plausibly, save where an input says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from hiredis import ReplyError

from tests.fuzz.base import Reader
from udptracker.core.swarm import (
    IPV4,
    IPV6,
)
from udptracker.redis.bounds import Bounds
from udptracker.redis.link import Replies
from udptracker.redis.segment import Segment
from udptracker.redis.server import Server
from udptracker.redis.topology import Topology

_MOST_SENT: Final = 200
"""Commands for one input: whoever answers with a cursor that never ends is left alone by then."""
PEERS: Final = {
    IPV4: b"-UT0001-000000000001\x1a\xe1\xcb\x00\x71\x05",
    IPV6: b"-UT0001-000000000001\x1a\xe1" + b"\x20" * 16,
}
STAMP: Final = b"1700000000000000000"
HASH: Final = bytes(range(20))
_PLAUSIBLE: Final[dict[bytes, Any]] = {
    b"HSET": 1,
    b"HDEL": 0,
    b"HLEN": 3,
    b"HGET": STAMP,
    b"GET": None,
    b"SET": b"OK",
    b"DEL": 1,
    b"EXISTS": 1,
    b"HEXISTS": 1,
    b"HMGET": [STAMP],
    b"HGETALL": [],
    b"TIME": [b"1700000000", b"12"],
    b"EVAL": 1,
    b"PEXPIRE": 1,
    b"INCRBY": 1,
    b"HINCRBY": 1,
    b"HSCAN": [b"0", [b"IPv4_S_" + HASH.hex().encode(), STAMP]],
    b"SCAN": [b"0", [b"IPv4_S_" + HASH.hex().encode()]],
    b"INFO": b"redis_version:7.2.4\r\nrun_id:0123456789\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
    b"CONFIG": [],
}


class Enough(Exception):
    """More commands than an input is to cost."""


class Hostile(Topology):
    """Servers that answer by the input. Each of its values is framed by how many plausible answers come before it."""

    one_server = True

    def __init__(self) -> None:
        self._odd: dict[int, Any] = {}
        self._sent = 0

    def take(self, reader: Reader) -> None:
        """The answers to what is sent from now on."""
        self._odd, self._sent, at = {}, 0, 0
        while reader.left:
            at += reader.byte() % 32
            value = parsed(reader.take(reader.number(2) % 1024))
            if value is not False:
                self._odd[at] = value
            at += 1

    def start(self) -> None:
        self.connections += 1

    async def close(self) -> None: ...

    async def send(self, segments: Sequence[Segment]) -> Replies:
        replies = Replies()
        for each in segments:
            commands = hiredis.Reader()
            commands.feed(each.payload)
            while (command := commands.gets()) is not False:
                replies.append(self.answer(command))
                replies.failed = replies.failed or isinstance(replies[-1], ReplyError)
        return replies

    async def call_each(self, *command: Any) -> list[Any]:
        return [await HostileNode(self).call(*command)]

    def anchors(self, name: bytes) -> list[bytes]:
        return [name]

    def servers(self) -> list[Server]:
        return []

    def drop_links(self, reason: str) -> None: ...

    def answer(self, command: Sequence[bytes]) -> Any:
        """The reply to one command."""
        self._sent += 1
        if self._sent > _MOST_SENT:
            raise Enough
        odd = self._odd.get(self._sent - 1, self)
        if odd is not self:
            return odd
        name = command[0].upper()
        if name == b"HRANDFIELD":
            return [PEERS[IPV6 if command[1].startswith(b"IPv6") else IPV4]] * 3
        return _PLAUSIBLE.get(name, 0)


class HostileNode:
    """A server that is there at once, and the link to it."""

    def __init__(self, topology: Hostile) -> None:
        self.link = self
        self._topology = topology

    async def call(self, *command: Any) -> Any:
        reply = self._topology.answer([word.encode() if isinstance(word, str) else word for word in command])
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def send(self, payload: bytes, count: int) -> asyncio.Future[Replies]:
        replies = Replies()
        for _ in range(count):
            replies.append(self._topology.answer([b"GET"]))
            replies.failed = replies.failed or isinstance(replies[-1], ReplyError)
        future: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
        future.set_result(replies)
        return future

    async def ready(self) -> Any:
        return self

    async def close(self) -> None: ...


def parsed(data: bytes) -> Any:
    """The first value of the protocol in some bytes; False if there is none."""
    reader = hiredis.Reader(replyError=ReplyError)
    try:
        for piece in Bounds().cut(data, reader.has_data):
            reader.feed(piece)
            value = reader.gets()  # before the next piece, as a link does: what is not read is not bounded
            if value is not False:
                return value
        return False
    except Exception:  # what hiredis says of bytes that are none, and what Python says of what it would build of them
        return False


def odd_at(at: int, value: bytes) -> bytes:
    """A value of the protocol after so many plausible answers, framed as `Hostile` takes it."""
    none = bytes((31, 0, 0))  # after 31 plausible answers one more
    return none * (at // 32) + bytes((at % 32,)) + len(value).to_bytes(2, "little") + value


VALUES: Final = (
    b":1\r\n",
    b":-1\r\n",
    b":9223372036854775807\r\n",
    b"$-1\r\n",
    b"$3\r\nabc\r\n",
    b"$0\r\n\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*2\r\n:1\r\n$1\r\n0\r\n",
    b"*2\r\n$1\r\n0\r\n*2\r\n$3\r\nabc\r\n$3\r\ndef\r\n",
    b"*3\r\n$26\r\n" + PEERS[IPV4] + b"\r\n$2\r\nxy\r\n:5\r\n",
    b"-ERR unknown\r\n",
    b"-WRONGTYPE Operation against a key\r\n",
    b"-READONLY You can't write\r\n",
    b"+OK\r\n",
    b",inf\r\n",
    b",nan\r\n",
    b"#t\r\n",
    b"_\r\n",
    b"%1\r\n+a\r\n:1\r\n",
    b"~2\r\n+a\r\n+a\r\n",
    b"(3492890328409238509324850943850943825024385\r\n",
    b"=5\r\ntxt:a\r\n",
    b"$5000\r\n" + b"9" * 5000 + b"\r\n",
    b"*2\r\n$30\r\n" + b"9" * 30 + b"\r\n$1\r\n0\r\n",
)
"""One of each kind that the protocol has, RESP3's included."""
