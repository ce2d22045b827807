"""The core driven without an event loop, over a real memory store."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import ip_address
from struct import pack
from typing import Any

import pytest

from udptracker.core import reasons, wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.swarm import (
    AnnounceOperation,
    Result,
    StoreError,
)
from udptracker.core.tracker import Question, Tracker, Turn
from udptracker.core.wire import AnnounceRequest, AnnounceResponse, Event, ScrapeResponse, SwarmStats
from udptracker.storage.memory import MemoryStore

NOW = 1_700_000_000.25
V4, V6, MAPPED = "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"
INFO_HASH, PEER_ID = bytes(range(20)), b"-UT0001-000000006881"
PORT = 6881
TRANSACTION = 0xFEEDBEEF
ARRIVED = 7
BAD_ID = reasons.BAD_CONNECTION_ID
DROPS = dict.fromkeys(reasons.DROPS, 0)
REFUSALS = dict.fromkeys(reasons.REFUSALS, 0)
sources = pytest.mark.parametrize("host", [V4, V6], ids=["ipv4", "ipv6"])


def packed(host: str) -> bytes:
    """As peers of this host are kept: an IPv4-mapped address is an IPv4 one."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).packed


def request(**fields: Any) -> AnnounceRequest:
    """A leecher's first announce, but for the given fields."""
    start = AnnounceRequest(INFO_HASH, PEER_ID, 0, 1, 0, Event.STARTED, bytes(4), 0, -1, PORT)
    return start._replace(**fields)


class Core:
    """A tracker over a memory store, and a client that has a connection id at every address."""

    def __init__(self, policy: Policy | None = None, draw: float = 0.0) -> None:
        self.ids = ConnectionIds([b"secret"])
        self.counters = Counters()
        self.store = MemoryStore(random.Random(1).random)
        self.tracker = Tracker(self.ids, policy or Policy(), lambda: draw, self.counters)

    def id_for(self, host: str) -> bytes:
        return self.ids.issue(packed(host), NOW)

    def receive(self, data: bytes, host: str = V4, now: float = NOW) -> bytes | Question | None:
        """What a turn of one datagram comes to: a reply, a question, or silence."""
        turn = self.tracker.receive([(data, packed(host.partition("%")[0]), host)], now, ARRIVED)
        assert (turn.arrived, turn.faults) == (ARRIVED, [])
        if turn.questions:
            (question,) = turn.questions
            assert (question.data, question.handle, turn.replies) == (data, host, [])
            return question
        if turn.replies:
            ((reply, handle),) = turn.replies
            assert (handle, sum(turn.answered)) == (host, 1)
            return reply
        return None

    def respond(self, question: Question, result: Result | StoreError) -> bytes:
        """The reply to a question that the store has answered."""
        turn = Turn(ARRIVED)
        self.tracker.respond(question, result, turn)
        ((reply, handle),) = turn.replies
        assert handle == question.handle
        return reply

    def proven(self, action: int, body: bytes, host: str = V4) -> bytes | Question | None:
        """The outcome of a request with a good connection id."""
        return self.receive(self.id_for(host) + pack(">II", action, TRANSACTION) + body, host)

    def asked(self, host: str = V4, **fields: Any) -> AnnounceOperation:
        """What the store is asked for an announce."""
        data = wire.encode_announce_request(self.id_for(host), TRANSACTION, request(**fields))
        outcome = self.receive(data, host)
        assert isinstance(outcome, Question)
        assert isinstance(outcome.operation, AnnounceOperation)
        return outcome.operation

    def answer(self, data: bytes, host: str = V4) -> bytes:
        """The reply to a request that may need the store."""
        outcome = self.receive(data, host)
        if isinstance(outcome, Question):
            outcome = self.respond(outcome, self.store.apply(outcome.operation))
        assert outcome is not None
        return outcome

    def announce(self, host: str = V4, **fields: Any) -> AnnounceResponse:
        data = wire.encode_announce_request(self.id_for(host), TRANSACTION, request(**fields))
        response = wire.decode_response(self.answer(data, host))
        assert isinstance(response, AnnounceResponse)
        assert response.transaction_id == TRANSACTION
        return response

    def scrape(self, info_hashes: Iterable[bytes], host: str = V4) -> tuple[SwarmStats, ...]:
        data = wire.encode_scrape_request(self.id_for(host), TRANSACTION, list(info_hashes))
        response = wire.decode_response(self.answer(data, host))
        assert isinstance(response, ScrapeResponse)
        assert response.transaction_id == TRANSACTION
        return response.swarms

    def fill(self, count: int, host: str = V4) -> None:
        """Announce this many leechers on ports from 10000 on."""
        for port in range(10_000, 10_000 + count):
            self.announce(host, port=port)


def refusal(reason: str) -> bytes:
    """An error response with these words, byte by byte."""
    return pack(">II", 3, TRANSACTION) + reason.encode() + b"\0"


ANNOUNCE_BODY = wire.encode_announce_request(bytes(8), 0, request())[16:]
UNPROVEN = wire.encode_announce_request(bytes(8), TRANSACTION, request())
