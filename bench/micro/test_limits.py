"""Limits on sources: the door, and the bounds on peers. 1,000 operations a round, each of which is within its limit."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from bench.micro.conftest import NOW, OPERATIONS, Repeat
from udptracker.access.limits.door import Door, Limit
from udptracker.access.limits.offenders import Offenders
from udptracker.access.limits.peers import PeersRule
from udptracker.core.counters import ANNOUNCED, SCRAPED, Counters
from udptracker.core.swarm import IPV4, AnnounceOperation, Role, pack_peer_v4
from udptracker.core.tracker import Question
from udptracker.core.wire import Event

SOURCES = 100_000
TURN = 20


def door(v6_bytes: Sequence[int] = (8,), burst: int = 10**9) -> Door:
    limits = [Limit(2 * kind, "", is_proven=kind in (ANNOUNCED, SCRAPED), is_first=True) for kind in range(4)]
    for limit in limits:
        limit.use(1e-6, burst)
    made = Door(limits, Counters().limited, Offenders())
    made.use(enforced=True, exempt=None, v6_bytes=v6_bytes, most=10 * SOURCES)
    return made


@pytest.mark.parametrize(
    ("size", "sources", "v6_bytes"),
    [(4, 1, (8,)), (4, SOURCES, (8,)), (16, SOURCES, (8,)), (16, SOURCES, (8, 7, 6))],
    ids=["one-source", "ipv4", "ipv6", "ipv6-three-prefixes"],
)
def test_door(benchmark: Any, size: int, sources: int, v6_bytes: Sequence[int]) -> None:
    """Sources that have all been there before, in an order of which no cache makes anything."""
    made, draw = door(v6_bytes), random.Random(1)
    known = [draw.randbytes(size) for _ in range(sources)] * (SOURCES // sources)
    for source in known:
        made.admit(ANNOUNCED, source, NOW)
    draw.shuffle(known)
    batches = iter([known[at : at + OPERATIONS] for at in range(0, SOURCES, OPERATIONS)] * 20)

    def admit(batch: list[bytes]) -> None:
        for source in batch:
            made.admit(ANNOUNCED, source, NOW)

    benchmark.pedantic(admit, setup=lambda: ((next(batches),), {}), rounds=200)


def test_door_over_the_limit(each: Repeat) -> None:
    made = door(burst=1)
    each(lambda source: made.admit(ANNOUNCED, source, NOW), [bytes(4)] * OPERATIONS)


@pytest.mark.parametrize("peers", [1, 500])
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_peers(benchmark: Any, peers: int, known: bool) -> None:
    """Announces of sources with so many peers, each in a swarm of its own, in turns of `TURN`."""
    rule, draw = PeersRule((8, 10), Counters().limited, Offenders(), time.monotonic), random.Random(1)
    rule.use(enforced=True, exempt=None, v6_bytes=8, in_swarm=50, in_all=1000, lifetime=2100.0, most=10**9)
    questions = []
    for _ in range(SOURCES // peers):
        source = draw.randbytes(4)
        for _ in range(peers):
            peer = pack_peer_v4(draw.randbytes(20), 6881, source)
            operation = AnnounceOperation(IPV4, draw.randbytes(20), peer, Role.LEECHER, Event.NONE, 50)
            questions.append(Question(operation, b"", source, None))
    draw.shuffle(questions)
    turns = [questions[at : at + TURN] for at in range(0, SOURCES, TURN)]
    if known:
        for turn in turns:
            rule.judge(turn)
    per_round = OPERATIONS // TURN
    rounds = iter([turns[at : at + per_round] for at in range(0, len(turns), per_round)])

    def judge(some: list[list[Question]]) -> None:
        for turn in some:
            rule.judge(turn)

    benchmark.pedantic(judge, setup=lambda: ((next(rounds),), {}), rounds=SOURCES // OPERATIONS)
