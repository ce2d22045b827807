"""One conversation with a tracker, over one socket.

A request is sent again after waits that double, as BEP 15 has it ("Time outs"), but where a daemon begins with 15
seconds and goes on for an hour, an operator waits `timeout` seconds in all.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

from udptracker.core import wire
from udptracker.core.wire import (
    AnnounceRequest,
    AnnounceResponse,
    ConnectResponse,
    Event,
    ScrapeResponse,
    SwarmStats,
    WireError,
)

MOST_SCRAPED: Final = 74
"""Info hashes in one scrape request (BEP 15: "up to about 74 torrents can be scraped at once")."""

_RECEIVE_BYTES: Final = 65535
_ATTEMPTS: Final = 4

R = TypeVar("R", ConnectResponse, AnnounceResponse, ScrapeResponse)


class TrackerRefused(Exception):
    """The tracker answered with an error; `str()` is its message, a stranger's text."""


class NoAnswer(Exception):
    """The tracker did not answer in time, or not with what was asked for."""


class TrackerClient:
    """One conversation with a tracker, from one socket.

    Args:
        family: IP version, 4 or 6.
        address: numeric address and port of the tracker.
        timeout: seconds for the whole conversation. An answer is waited for 1/15, 2/15, 4/15 and 8/15 of it.
    """

    def __init__(self, family: int, address: tuple[str, int], timeout: float = 15.0) -> None:
        self.family = family
        self._deadline = monotonic() + timeout
        self._patience = timeout / (2**_ATTEMPTS - 1)
        self._connection_id: bytes | None = None
        self._socket = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise NoAnswer(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def connect(self) -> bytes:
        """The connection id of this conversation, for which the tracker is asked once.

        Raises:
            TrackerRefused: with its words.
            NoAnswer: in time.
        """
        if self._connection_id is None:
            transaction_id = _transaction_id()
            request = wire.encode_connect_request(transaction_id)
            self._connection_id = self._ask(request, transaction_id, ConnectResponse).connection_id
        return self._connection_id

    def announce(self, request: AnnounceRequest) -> AnnounceResponse:
        """Announce once.

        Raises:
            TrackerRefused: with its words.
            NoAnswer: in time.
        """
        connection_id, transaction_id = self.connect(), _transaction_id()
        data = wire.encode_announce_request(connection_id, transaction_id, request)
        return self._ask(data, transaction_id, AnnounceResponse)

    def scrape(self, info_hashes: Sequence[bytes]) -> list[SwarmStats]:
        """The counts of swarms, in this order.

        As many are asked for at a time as BEP 15 allows, and where the tracker answers for fewer, from there on again.

        Raises:
            TrackerRefused: with its words.
            NoAnswer: in time, or not for these.
        """
        swarms: list[SwarmStats] = []
        while len(swarms) < len(info_hashes):
            part = info_hashes[len(swarms) : len(swarms) + MOST_SCRAPED]
            connection_id, transaction_id = self.connect(), _transaction_id()
            data = wire.encode_scrape_request(connection_id, transaction_id, part)
            rows = self._ask(data, transaction_id, ScrapeResponse).swarms
            if not 0 < len(rows) <= len(part):
                raise NoAnswer(f"{len(rows)} rows for {len(part)} info hashes")
            swarms += rows
        return swarms

    def _ask(self, data: bytes, transaction_id: int, expected: type[R]) -> R:
        reason = "no answer"
        for attempt in range(_ATTEMPTS):
            wait_until = min(self._deadline, monotonic() + self._patience * 2**attempt)
            try:
                self._socket.send(data)
                return self._receive(transaction_id, expected, wait_until)
            except TimeoutError:
                continue
            except OSError as error:  # nobody listens there: an answer at once, and not a better one later
                reason = error.strerror or str(error)
                break
        raise NoAnswer(reason)

    def _receive(self, transaction_id: int, expected: type[R], wait_until: float) -> R:
        """The answer to this transaction; others are strays. TimeoutError when it does not come."""
        while True:
            left = wait_until - monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                response = wire.decode_response(self._socket.recv(_RECEIVE_BYTES))
            except WireError:
                continue
            if response.transaction_id != transaction_id:
                continue
            if isinstance(response, expected):
                return response
            if isinstance(response, wire.ErrorResponse):
                raise TrackerRefused(response.message)
            raise NoAnswer(f"answered with {type(response).__name__}")


def announce_request(
    url: str, info_hash: bytes, *, event: Event, left: int, num_want: int, port: int
) -> AnnounceRequest:
    """An announce of a peer with a new peer id, to the tracker at this URL, whose path goes with it (BEP 41)."""
    return AnnounceRequest(
        info_hash=info_hash,
        peer_id=b"-UT0100-" + secrets.token_bytes(12),
        downloaded=0,
        left=left,
        uploaded=0,
        event=event,
        ip=bytes(4),
        key=secrets.randbits(32),
        num_want=num_want,
        port=port,
        options=wire.encode_url_data(url) if urlsplit(url).path else b"",
    )


def _transaction_id() -> int:
    return secrets.randbits(32)
