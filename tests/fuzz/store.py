"""What reads the replies of a Redis that may be hostile, or no Redis at all.

`LinkTarget` is given bytes as they come from a connection. `RepliesTarget` and `OperatorTarget` are a store whose
servers answer every command plausibly, save for some that the input chooses, which are answered with any value that the
protocol can carry. `MapTarget` is what says where the servers are: sentinels, and the nodes of a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Final, cast

import hiredis
from hiredis import ReplyError

from tests.fuzz.base import Reader
from udptracker.core.swarm import (
    IPV4,
    IPV6,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Role,
    ScrapeOperation,
    ScrapeResult,
    StoreError,
    StoreUnavailable,
)
from udptracker.core.wire import Event
from udptracker.redis.bounds import Bounds
from udptracker.redis.cluster import Cluster
from udptracker.redis.link import Link, Replies, Timeouts, pack
from udptracker.redis.segment import Segment
from udptracker.redis.sentinel import name_master
from udptracker.redis.server import Server
from udptracker.redis.topology import Topology
from udptracker.redis.url import parse_broker
from udptracker.storage.redis.holdings import Holdings
from udptracker.storage.redis.store import RedisStore
from udptracker.storage.replayable import Entry, Pool

_MOST_SENT: Final = 200
"""Commands for one input: whoever answers with a cursor that never ends is left alone by then."""
_TIMERS: Final = 200
"""Inputs after which the loop is run, so that it forgets timers that were cancelled."""
_PEERS: Final = {
    IPV4: b"-UT0001-000000000001\x1a\xe1\xcb\x00\x71\x05",
    IPV6: b"-UT0001-000000000001\x1a\xe1" + b"\x20" * 16,
}
_STAMP: Final = b"1700000000000000000"
_HASH: Final = bytes(range(20))

_PLAUSIBLE: Final[dict[bytes, Any]] = {
    b"HSET": 1,
    b"HDEL": 0,
    b"HLEN": 3,
    b"HGET": _STAMP,
    b"GET": None,
    b"SET": b"OK",
    b"DEL": 1,
    b"EXISTS": 1,
    b"HEXISTS": 1,
    b"HMGET": [_STAMP],
    b"HGETALL": [],
    b"TIME": [b"1700000000", b"12"],
    b"EVAL": 1,
    b"PEXPIRE": 1,
    b"INCRBY": 1,
    b"HINCRBY": 1,
    b"HSCAN": [b"0", [b"IPv4_S_" + _HASH.hex().encode(), _STAMP]],
    b"SCAN": [b"0", [b"IPv4_S_" + _HASH.hex().encode()]],
    b"INFO": b"redis_version:7.2.4\r\nrun_id:0123456789\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
    b"CONFIG": [],
}


class _Enough(Exception):
    """More commands than an input is to cost."""


class _Hostile(Topology):
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
        return [await _Node(self).call(*command)]

    def anchors(self, name: bytes) -> list[bytes]:
        return [name]

    def servers(self) -> list[Server]:
        return []

    def drop_links(self, reason: str) -> None: ...

    def answer(self, command: Sequence[bytes]) -> Any:
        """The reply to one command."""
        self._sent += 1
        if self._sent > _MOST_SENT:
            raise _Enough
        odd = self._odd.get(self._sent - 1, self)
        if odd is not self:
            return odd
        name = command[0].upper()
        if name == b"HRANDFIELD":
            return [_PEERS[IPV6 if command[1].startswith(b"IPv6") else IPV4]] * 3
        return _PLAUSIBLE.get(name, 0)


class _Node:
    """A server that is there at once, and the link to it."""

    def __init__(self, topology: _Hostile) -> None:
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


def _announces(family: int) -> list[Operation]:
    peer, other = _PEERS[family], _PEERS[family][:19] + b"2" + _PEERS[family][20:]
    return [
        AnnounceOperation(family, _HASH, peer, Role.LEECHER, Event.STARTED, 50),
        AnnounceOperation(family, _HASH, other, Role.SEEDER, Event.COMPLETED, 10),
        AnnounceOperation(family, _HASH[::-1], peer, Role.LEECHER, Event.NONE, 5),
        AnnounceOperation(family, _HASH, peer, Role.SEEDER, Event.STOPPED, 0),
        ScrapeOperation(family, [_HASH, bytes(20)]),
    ]


class RepliesTarget:
    """All that a node asks of Redis. Only `StoreError`, of which `StoreUnavailable` is one, leaves the store."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._topology = _Hostile()
        self._draw = random.Random(1).random
        self._questions: tuple[Callable[[RedisStore], Coroutine[Any, Any, Any]], ...] = (
            lambda store: self._execute(store, _announces(IPV4)),
            lambda store: self._execute(store, [*_announces(IPV6), *_announces(IPV4)]),
            lambda store: self._execute(store, _announces(IPV4)[:1] * 40),
            RedisStore.check,
            RedisStore.look,
            RedisStore.totals,
            RedisStore.ping,
            lambda store: store.raise_doubt(5),
            lambda store: store.agree_on_keys(bytes(32)),
            lambda store: store.missing({Pool(IPV4, _HASH, Role.SEEDER): [_PEERS[IPV4]]}),
            lambda store: store.replay(_ENTRIES),
            lambda store: store.reap(store.now()),
        )
        # What a hostile store is worth to the log is not what is looked for here.
        logging.getLogger("udptracker.storage.redis").setLevel(logging.CRITICAL)

    def close(self) -> None:
        self._loop.close()
        logging.getLogger("udptracker.storage.redis").setLevel(logging.NOTSET)

    def seeds(self) -> Sequence[bytes]:
        odd = [odd_at(at, value) for at in (0, 1, 2, 3, 5, 8) for value in VALUES]
        refusals = [odd_at(at, error) for at in range(100) for error in (b"-ERR no\r\n", b"-READONLY no\r\n")]
        return [
            bytes((question,)) + each
            for question in range(len(self._questions))
            for each in (b"", *odd[question::9], *refusals)
        ]

    def feed(self, data: bytes) -> None:
        reader = Reader(data)
        question = self._questions[reader.byte() % len(self._questions)]
        self._topology.take(reader)
        store = RedisStore(self._topology, self._draw, sample_ttl=1.0, remember_stops=1800.0)
        try:
            for _ in range(2):  # what the first left behind is the second's
                self._loop.run_until_complete(question(store))
        except (StoreError, _Enough):
            pass

    async def _execute(self, store: RedisStore, batch: list[Operation]) -> None:
        results = await store.execute(batch)
        assert len(results) == len(batch)
        for operation, result in zip(batch, results, strict=True):
            kind = AnnounceResult if isinstance(operation, AnnounceOperation) else ScrapeResult
            assert isinstance(result, kind | StoreError), result
            if isinstance(result, AnnounceResult):
                assert isinstance(result.peers, bytes)


_ENTRIES: Final = [
    Entry(IPV4, _HASH, _PEERS[IPV4], Role.SEEDER, False, 10**18, True, True),
    Entry(IPV6, _HASH, _PEERS[IPV6], Role.LEECHER, False, 10**18, False, False),
    Entry(IPV4, bytes(20), _PEERS[IPV4], Role.LEECHER, True, 10**18, False, False),
]


class OperatorTarget:
    """What `udptracker swarm` and `swarms` ask of Redis: what leaves is what these commands tell as an error."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._topology = _Hostile()

    def close(self) -> None:
        self._loop.close()

    def seeds(self) -> Sequence[bytes]:
        odd = [odd_at(at, value) for at in (0, 1, 2, 4) for value in VALUES]
        return [bytes((question,)) + each for question in range(3) for each in (b"", *odd[question::3])]

    def feed(self, data: bytes) -> None:
        reader = Reader(data)
        question = reader.byte() % 3
        self._topology.take(reader)
        with contextlib.suppress(StoreError, ReplyError, _Enough):
            self._loop.run_until_complete(self._ask(question))

    async def _ask(self, question: int) -> None:
        holdings = Holdings(self._topology)
        if question == 0:
            await holdings.swarm(_HASH)
        elif question == 1:
            async for _ in holdings.peers(_HASH):
                pass
        else:
            async for _ in holdings.swarms():
                pass


class _Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.is_gone = False

    def get_extra_info(self, name: str) -> Any:
        return self

    def setsockopt(self, *_: Any) -> None: ...

    def is_closing(self) -> bool:
        return self.is_gone

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.is_gone = True


class LinkTarget:
    """A connection: what it is given either becomes the replies that were asked for, or ends it with a reason."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._fed = 0

    def close(self) -> None:
        self._loop.close()

    def seeds(self) -> Sequence[bytes]:
        whole = b"".join(VALUES)
        return [bytes((3, 200)) + whole, bytes((1, 7)) + whole, *(bytes((1, 255)) + value for value in VALUES)]

    def feed(self, data: bytes) -> None:
        reader = Reader(data)
        count, piece = reader.byte() % 64, 1 + reader.byte()
        link, wire = Link(self._loop, Timeouts()), _Wire()
        link.connection_made(cast(asyncio.Transport, wire))
        answers = [link.send(b"", 1 + each % 3) for each in range(count)]
        while reader.left and not wire.is_gone:
            link.data_received(reader.take(piece))
        link.connection_lost(None)
        for answer in answers:
            if answer.exception() is None:
                assert 1 <= len(answer.result()) <= 3
            else:
                assert isinstance(answer.exception(), StoreUnavailable)
        link.lost.exception()
        self._fed += 1
        if self._fed % _TIMERS == 0:
            self._loop.run_until_complete(asyncio.sleep(0))


class MapTarget:
    """Where the servers are, by sentinels and by the nodes of a cluster."""

    _ADDRESS: ClassVar = ("192.0.2.1", 6379)

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._topology = _Hostile()
        logging.getLogger("udptracker.redis").setLevel(logging.CRITICAL)

    def close(self) -> None:
        self._loop.close()
        logging.getLogger("udptracker.redis").setLevel(logging.NOTSET)

    def seeds(self) -> Sequence[bytes]:
        return [bytes((kind,)) + odd_at(at, value) for kind in range(3) for at in (0, 1) for value in (*VALUES, *_MAPS)]

    def feed(self, data: bytes) -> None:
        reader = Reader(data)
        kind = reader.byte() % 3
        self._topology.take(reader)
        with contextlib.suppress(StoreError, ReplyError, _Enough):
            self._loop.run_until_complete((self._sentinel, self._map, self._redirection)[kind]())

    async def _sentinel(self) -> None:
        epoch, host, port = await name_master(cast(Link, _Node(self._topology)), "mymaster")
        assert isinstance(epoch, int)
        assert isinstance(host, str)
        assert 0 < port < 65536

    async def _map(self) -> None:
        await _HostileCluster(self._topology).look()

    async def _redirection(self) -> None:
        await _HostileCluster(self._topology).send([Segment(b"key", pack(b"GET", b"key"), 1)])


class _HostileCluster(Cluster):
    """Every node of it answers by the input."""

    def __init__(self, topology: _Hostile) -> None:
        super().__init__(parse_broker("redis+cluster://192.0.2.1:6379"), Timeouts())
        self._nodes = topology
        self._owners = [MapTarget._ADDRESS] * len(self._owners)
        self._server(MapTarget._ADDRESS)

    async def look(self) -> bool:
        return await self._read_map()

    def _server(self, address: tuple[str, int]) -> Server:
        return self._servers.setdefault(address, cast(Server, _Node(self._nodes)))


def odd_at(at: int, value: bytes) -> bytes:
    """A value of the protocol after so many plausible answers, framed as `_Hostile` takes it."""
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
    b"*3\r\n$26\r\n" + _PEERS[IPV4] + b"\r\n$2\r\nxy\r\n:5\r\n",
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

_MAPS: Final = (
    b"*6\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$4\r\n6379\r\n$12\r\nconfig-epoch\r\n$1\r\n1\r\n",
    b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n",
    b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:6379\r\n$2\r\nid\r\n",
    b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$-1\r\n:6379\r\n$2\r\nid\r\n*2\r\n$2\r\nip\r\n$7\r\n1.2.3.4\r\n",
    b"-MOVED 12539 127.0.0.1:7001\r\n",
    b"-ASK 12539 :7001\r\n",
    b"-MOVED 1 h:" + b"9" * 900 + b"\r\n",
)
