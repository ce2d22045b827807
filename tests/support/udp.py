"""A small synchronous tracker client on the codec's client half."""

from __future__ import annotations

import random
import socket
from types import TracebackType
from typing import Final, Self

from udptracker.core import wire
from udptracker.core.wire import (
    AnnounceRequest,
    AnnounceResponse,
    ConnectResponse,
    ErrorResponse,
    Event,
    ScrapeResponse,
)

_RECEIVE_BYTES: Final = 65535


class Refused(Exception):
    """The tracker's error response; `str()` is its message."""


class NoAnswer(Exception):
    """No answer after every attempt, or nobody listens."""


class TrackerClient:
    """One client at one address. The socket is connected, so only answers from the address that was asked arrive.

    Args:
        host: the tracker's address, IPv4 or IPv6.
        port: the tracker's port.
        source: the address to send from, any of 127.0.0.0/8 on loopback; the kernel's choice if empty.
        timeout: seconds to wait for the answer to one attempt.
        attempts: how often a request is sent.
    """

    def __init__(self, host: str, port: int, *, source: str = "", timeout: float = 2.0, attempts: int = 4) -> None:
        self.family = 6 if ":" in host else 4
        self.connection_id: bytes | None = None
        self._attempts = attempts
        self._socket = socket.socket(socket.AF_INET6 if self.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(timeout)
        if source:
            self._socket.bind((source, 0))
        self._socket.connect((host, port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def address(self) -> bytes:
        """The packed address it sends from."""
        return socket.inet_pton(self._socket.family, self._socket.getsockname()[0])

    def endpoint(self, port: int) -> bytes:
        """The compact endpoint of a peer of this client."""
        return self.address + port.to_bytes(2, "big")

    def connect(self) -> bytes:
        """A new connection id, kept for what follows."""
        transaction_id = _transaction_id()
        response = self._ask(wire.encode_connect_request(transaction_id), transaction_id)
        assert isinstance(response, ConnectResponse), response
        self.connection_id = response.connection_id
        return response.connection_id

    def announce(
        self,
        info_hash: bytes,
        port: int,
        *,
        left: int = 1,
        event: int = Event.STARTED,
        num_want: int = -1,
        peer_id: bytes | None = None,
        ip: bytes = bytes(4),
        options: bytes = b"",
    ) -> AnnounceResponse:
        """Announce the peer that listens on `port`, whose id follows from the port unless it is given.

        Raises:
            Refused: by the tracker.
            NoAnswer: from it.
        """
        if peer_id is None:
            peer_id = b"-UT0001-%012d" % port
        request = AnnounceRequest(info_hash, peer_id, 0, left, 0, event, ip, 0, num_want, port, options)
        transaction_id = _transaction_id()
        data = wire.encode_announce_request(self.connection_id or self.connect(), transaction_id, request)
        response = self._ask(data, transaction_id)
        assert isinstance(response, AnnounceResponse), response
        return response

    def scrape(self, *info_hashes: bytes) -> tuple[wire.SwarmStats, ...]:
        """The counts of swarms, in this order.

        Raises:
            Refused: by the tracker.
            NoAnswer: from it.
        """
        transaction_id = _transaction_id()
        data = wire.encode_scrape_request(self.connection_id or self.connect(), transaction_id, info_hashes)
        response = self._ask(data, transaction_id)
        assert isinstance(response, ScrapeResponse), response
        return response.swarms

    def peers(self, response: AnnounceResponse) -> list[bytes]:
        """The compact endpoints in an answer."""
        return wire.split_peers(response.peers, self.family)

    def send(self, data: bytes) -> None:
        """Send a datagram as it is, and wait for nothing."""
        self._socket.send(data)

    def receive(self) -> bytes:
        """The next datagram.

        Raises:
            NoAnswer: none in time, or nobody listens.
        """
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except (TimeoutError, ConnectionRefusedError) as error:
            raise NoAnswer(str(error)) from error

    def _ask(self, data: bytes, transaction_id: int) -> wire.Response:
        for _ in range(self._attempts):
            try:
                self.send(data)
                response = wire.decode_response(self.receive())
                while response.transaction_id != transaction_id:  # the answer to an attempt given up before
                    response = wire.decode_response(self.receive())
            except (NoAnswer, ConnectionRefusedError):
                continue
            if isinstance(response, ErrorResponse):
                raise Refused(response.message)
            return response
        raise NoAnswer(f"{self._attempts} attempts")


def _transaction_id() -> int:
    return random.getrandbits(32)
