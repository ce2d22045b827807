"""A tracker on memory over real sockets of a loop, and clients of it."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

from tests.support.turns import until
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.executor import Executor
from udptracker.core.policy import Policy
from udptracker.core.tracker import Tracker
from udptracker.core.wire import ConnectResponse, Event
from udptracker.net.endpoint import TurnTransport, UdpEndpoint
from udptracker.net.sockets import bind
from udptracker.service.batcher import Direct
from udptracker.storage.memory import MemoryStore

BUFFER = 1 << 18
NOW = 1_700_000_000.0
INFO_HASH = bytes(range(20))
CONNECT = wire.encode_connect_request(7)


class Served:
    """A tracker on memory that serves sockets of this loop."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.ids = ConnectionIds([b"secret"])
        self.tracker = Tracker(self.ids, Policy(), random.random, self.counters)
        self.executor: Executor = Direct(MemoryStore(random.random), self.tracker, self.counters)
        self.transports: list[TurnTransport] = []

    def endpoint(self) -> UdpEndpoint:
        return UdpEndpoint(self.tracker, self.executor, self.counters, lambda: NOW)

    def dropped(self) -> dict[str, int]:
        """Datagrams left unanswered, by those reasons that occurred."""
        return {reason: count for reason, count in self.counters.dropped.items() if count}

    def on(self, host: str, port: int = 0, pace: float = 0.001) -> int:
        """Serve an address; its port."""
        sock = bind(host, port, share_port=False, receive_buffer=BUFFER)
        self.transports.append(TurnTransport(asyncio.get_running_loop(), sock, self.endpoint(), pace))
        bound: int = sock.getsockname()[1]
        return bound

    def close(self) -> None:
        for transport in self.transports:
            transport.close()


class Client:
    """A socket that takes answers from wherever they come and says from where."""

    def __init__(self, host: str, port: int, source: str = "") -> None:
        self.to = (host, port)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        if source:
            self.socket.bind((source, 0))

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self.to)

    async def answer(self) -> tuple[wire.Response, str]:
        """The next response, and the address it came from."""
        received: list[Any] = []

        def arrived() -> bool:
            try:
                received.extend(self.socket.recvfrom(65535))
            except BlockingIOError:
                return False
            return True

        await until(arrived, "an answer")
        data, source = received
        return wire.decode_response(data), source[0]

    async def connect(self) -> bytes:
        self.send(CONNECT)
        response, _ = await self.answer()
        assert isinstance(response, ConnectResponse)
        return response.connection_id


Clients = Callable[..., Client]


def announce(connection_id: bytes, options: bytes = b"") -> bytes:
    request = wire.AnnounceRequest(INFO_HASH, bytes(20), 0, 1, 0, Event.STARTED, bytes(4), 0, -1, 6881, options)
    return wire.encode_announce_request(connection_id, 9, request)
