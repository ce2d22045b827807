"""Turns of requests as a guard is given them, and whoever brought them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from udptracker.access.access import Access
from udptracker.access.base import Rule, SlowRule, Watcher
from udptracker.access.guard import Guard
from udptracker.config import Settings
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.tracker import Tracker, Turn
from udptracker.core.wire import AnnounceRequest, Event
from udptracker.service.batcher import Direct
from udptracker.storage.memory import MemoryStore

INFO_HASH = bytes(range(20))
PEER_ID = b"-UT0001-000000006881"
SOURCE = bytes((192, 0, 2, 1))
NOW = 1_700_000_000.0


async def use(access: Access, settings: Settings) -> None:
    """As a reload does."""
    await access.prepare(settings)
    access.take()


class Gate:
    """A tracker on memory behind a guard, and the client that asks it.

    Attributes:
        answers: what was answered by the transaction id of its request.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        slow_rules: Sequence[SlowRule] = (),
        watchers: Sequence[Watcher] = (),
        *,
        max_pending: int = 100,
        policy: Policy | None = None,
    ) -> None:
        self.counters = Counters()
        self.ids = ConnectionIds([b"secret"])
        self.tracker = Tracker(self.ids, policy or Policy(), lambda: 0.0, self.counters)
        self.store = MemoryStore(random.Random(1).random)
        direct = Direct(self.store, self.tracker, self.counters)
        self.guard = Guard(direct, self.tracker, self.counters, max_pending=max_pending)
        self.guard.use(rules, slow_rules, watchers)
        self.answers: dict[int, wire.Response] = {}
        self.faults: list[Exception] = []

    def answer(self, turn: Turn) -> None:
        """As an endpoint is given answers."""
        for data, _ in turn.replies:
            response = wire.decode_response(data)
            assert response.transaction_id not in self.answers
            self.answers[response.transaction_id] = response
        self.faults += turn.faults
        turn.replies, turn.faults = [], []

    def ask(self, *requests: bytes, source: bytes = SOURCE) -> None:
        """A turn of requests, each of which is given a connection id of its source's."""
        datagrams = [(self.ids.issue(source, NOW) + data[8:], source, None) for data in requests]
        turn = self.tracker.receive(datagrams, NOW, 7)
        self.guard.submit(turn, self)
        self.answer(turn)

    def refusal(self, transaction_id: int) -> str | None:
        """The words of a refusal; None for any other answer."""
        response = self.answers[transaction_id]
        return response.message if isinstance(response, wire.ErrorResponse) else None


def announce(
    transaction_id: int, info_hash: bytes = INFO_HASH, *, peer_id: bytes = PEER_ID, port: int = 6881, url: str = ""
) -> bytes:
    """A leecher's first announce, to a URL path and query if one is given (BEP 41)."""
    options = wire.encode_url_data(url) if url else b""
    request = AnnounceRequest(info_hash, peer_id, 0, 1, 0, Event.STARTED, bytes(4), 0, -1, port, options)
    return wire.encode_announce_request(bytes(8), transaction_id, request)


def scrape(transaction_id: int, *info_hashes: bytes) -> bytes:
    return wire.encode_scrape_request(bytes(8), transaction_id, info_hashes)
