"""Connections to a Redis that may be hostile, or no Redis at all.

`LinkTarget` is given bytes as they come from a connection. `MapTarget` is what says where the servers are: sentinels,
and the nodes of a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Final, cast

from hiredis import ReplyError

from tests.fuzz.base import Reader
from tests.fuzz.replying import (
    VALUES,
    Enough,
    Hostile,
    HostileNode,
    odd_at,
)
from udptracker.core.swarm import (
    StoreError,
    StoreUnavailable,
)
from udptracker.redis.cluster import Cluster
from udptracker.redis.link import Link, Timeouts, pack
from udptracker.redis.segment import Segment
from udptracker.redis.sentinel import name_master
from udptracker.redis.server import Server
from udptracker.redis.url import parse_broker

_TIMERS: Final = 200
"""Inputs after which the loop is run, so that it forgets timers that were cancelled."""


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
        self._topology = Hostile()
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
        with contextlib.suppress(StoreError, ReplyError, Enough):
            self._loop.run_until_complete((self._sentinel, self._map, self._redirection)[kind]())

    async def _sentinel(self) -> None:
        epoch, host, port = await name_master(cast(Link, HostileNode(self._topology)), "mymaster")
        assert isinstance(epoch, int)
        assert isinstance(host, str)
        assert 0 < port < 65536

    async def _map(self) -> None:
        await _HostileCluster(self._topology).look()

    async def _redirection(self) -> None:
        await _HostileCluster(self._topology).send([Segment(b"key", pack(b"GET", b"key"), 1)])


class _HostileCluster(Cluster):
    """Every node of it answers by the input."""

    def __init__(self, topology: Hostile) -> None:
        super().__init__(parse_broker("redis+cluster://192.0.2.1:6379"), Timeouts())
        self._nodes = topology
        self._owners = [MapTarget._ADDRESS] * len(self._owners)
        self._server(MapTarget._ADDRESS)

    async def look(self) -> bool:
        return await self._read_map()

    def _server(self, address: tuple[str, int]) -> Server:
        return self._servers.setdefault(address, cast(Server, HostileNode(self._nodes)))


_MAPS: Final = (
    b"*6\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n$4\r\n6379\r\n$12\r\nconfig-epoch\r\n$1\r\n1\r\n",
    b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n",
    b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:6379\r\n$2\r\nid\r\n",
    b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$-1\r\n:6379\r\n$2\r\nid\r\n*2\r\n$2\r\nip\r\n$7\r\n1.2.3.4\r\n",
    b"-MOVED 12539 127.0.0.1:7001\r\n",
    b"-ASK 12539 :7001\r\n",
    b"-MOVED 1 h:" + b"9" * 900 + b"\r\n",
)
