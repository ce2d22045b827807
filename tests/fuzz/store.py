"""What reads the replies of a Redis that may be hostile, or no Redis at all.

`RepliesTarget` and `OperatorTarget` are a store whose servers answer every command plausibly, save for some that the
input chooses, which are answered with any value that the protocol can carry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from hiredis import ReplyError

from tests.fuzz.base import Reader
from tests.fuzz.replying import (
    HASH,
    PEERS,
    VALUES,
    Enough,
    Hostile,
    odd_at,
)
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
)
from udptracker.core.wire import Event
from udptracker.storage.redis.holdings import Holdings
from udptracker.storage.redis.store import RedisStore
from udptracker.storage.replayable import Entry, Pool


def _announces(family: int) -> list[Operation]:
    peer, other = PEERS[family], PEERS[family][:19] + b"2" + PEERS[family][20:]
    return [
        AnnounceOperation(family, HASH, peer, Role.LEECHER, Event.STARTED, 50),
        AnnounceOperation(family, HASH, other, Role.SEEDER, Event.COMPLETED, 10),
        AnnounceOperation(family, HASH[::-1], peer, Role.LEECHER, Event.NONE, 5),
        AnnounceOperation(family, HASH, peer, Role.SEEDER, Event.STOPPED, 0),
        ScrapeOperation(family, [HASH, bytes(20)]),
    ]


class RepliesTarget:
    """All that a node asks of Redis. Only `StoreError`, of which `StoreUnavailable` is one, leaves the store."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._topology = Hostile()
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
            lambda store: store.missing({Pool(IPV4, HASH, Role.SEEDER): [PEERS[IPV4]]}),
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
        except (StoreError, Enough):
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
    Entry(IPV4, HASH, PEERS[IPV4], Role.SEEDER, False, 10**18, True, True),
    Entry(IPV6, HASH, PEERS[IPV6], Role.LEECHER, False, 10**18, False, False),
    Entry(IPV4, bytes(20), PEERS[IPV4], Role.LEECHER, True, 10**18, False, False),
]


class OperatorTarget:
    """What `udptracker swarm` and `swarms` ask of Redis: what leaves is what these commands tell as an error."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._topology = Hostile()

    def close(self) -> None:
        self._loop.close()

    def seeds(self) -> Sequence[bytes]:
        odd = [odd_at(at, value) for at in (0, 1, 2, 4) for value in VALUES]
        return [bytes((question,)) + each for question in range(3) for each in (b"", *odd[question::3])]

    def feed(self, data: bytes) -> None:
        reader = Reader(data)
        question = reader.byte() % 3
        self._topology.take(reader)
        with contextlib.suppress(StoreError, ReplyError, Enough):
            self._loop.run_until_complete(self._ask(question))

    async def _ask(self, question: int) -> None:
        holdings = Holdings(self._topology)
        if question == 0:
            await holdings.swarm(HASH)
        elif question == 1:
            async for _ in holdings.peers(HASH):
                pass
        else:
            async for _ in holdings.swarms():
                pass
