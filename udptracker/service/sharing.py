"""Several workers on memory as one tracker: each has the swarms that its sockets are given the requests of, and no
others (see `net.steering`).

An announce, and a scrape of swarms that are all mine, is answered at once. A scrape is given to the worker of its first
info hash, and may name swarms of others: these siblings are asked for their counts by way of `mailboxes`, all of a turn
in one message each. It is a header and, in a question, info hashes of one family, in its answer the counts of each.

A sibling that does not answer within `ANSWER_SECONDS` is dead, or stands still. Its rows are zeros then, and counted;
and until it is heard of again, nobody waits for it. What was asked of a worker that died is not answered by its
successor, which would have zeros for swarms that it was never told of.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from array import array
from collections.abc import Sequence
from struct import Struct
from time import monotonic
from typing import Final, final

from udptracker.core.counters import Counters
from udptracker.core.executor import Asker
from udptracker.core.reasons import QUEUE_FULL
from udptracker.core.swarm import ScrapeOperation, ScrapeResult, place_of
from udptracker.core.tracker import Question, Tracker, Turn
from udptracker.core.wire import INFO_HASH_BYTES
from udptracker.net.sockets import drop_waiting
from udptracker.service.batcher import Direct
from udptracker.service.mailboxes import Ends
from udptracker.storage.base import ImmediateStore

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 1.0
"""Far longer than a worker is ever busy, and far shorter than a client waits (15 s, BEP 15)."""

_HEADER: Final = Struct("=BBHQ")
"""Of a message: what it is, IP family, number of the sender, and a ticket that an answer has from its question."""
_QUESTION: Final = 0
_ANSWER: Final = 1
_MOST_HASHES: Final = 2_048
"""Of a question. With their counts a quarter of what the kernel takes as one message by default."""
_MESSAGE_BYTES: Final = _HEADER.size + _MOST_HASHES * INFO_HASH_BYTES
_MESSAGES: Final = 64
"""Read before other callbacks get a turn."""
_COUNTS: Final = 3
"""Numbers in a row of a scrape."""


@final
class _Scrapes:
    """Scrapes of a turn that wait for siblings: the counts of each question, and how many parts of them are missing."""

    __slots__ = ("asker", "counts", "missing", "turn")

    def __init__(self, turn: Turn, asker: Asker) -> None:
        self.turn = turn
        self.asker = asker
        self.counts: list[list[int]] = []
        self.missing = 0


@final
class _Part:
    """What one worker has of some scrapes, in one family: the info hashes, and where the counts of each belong."""

    __slots__ = ("asked", "family", "info_hashes", "rows", "scrapes", "worker")

    def __init__(self, scrapes: _Scrapes, worker: int, family: int) -> None:
        self.scrapes = scrapes
        self.worker = worker
        self.family = family
        self.info_hashes: list[bytes] = []
        self.rows: list[tuple[list[int], int]] = []
        self.asked = 0.0

    def fill(self, counts: Sequence[int]) -> None:
        """Put the counts of all its info hashes where they belong."""
        for nth, (row, at) in enumerate(self.rows):
            row[at : at + _COUNTS] = counts[_COUNTS * nth : _COUNTS * (nth + 1)]


@final
class Sharing:
    """The executor of one of several workers on memory.

    Args:
        direct: answers what is this worker's.
        store: its swarms.
        tracker: makes the replies.
        counters: rows that are missing are counted here.
        number: of this worker.
        ends: its ends of the mailboxes; it closes them.
        max_pending: scrapes that wait for siblings, beyond which the newest are dropped.
    """

    def __init__(
        self,
        direct: Direct,
        store: ImmediateStore,
        tracker: Tracker,
        counters: Counters,
        number: int,
        ends: Ends,
        *,
        max_pending: int,
    ) -> None:
        self._direct = direct
        self._store = store
        self._tracker = tracker
        self._counters = counters
        self._number = number
        self.max_pending = max_pending
        self._inbox = socket.socket(fileno=ends.inbox)
        self._outboxes = [socket.socket(fileno=end) for end in ends.outboxes]
        self._workers = len(self._outboxes)
        self._pending = 0
        self._ticket = secrets.randbits(48) << 15  # far from those of a predecessor, whose answers may still come
        self._heard = [0.0] * self._workers
        self._asked: dict[int, _Part] = {}
        self._silent: set[int] = set()
        self._settled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        counters.gauges["queue_depth"] = self._depth
        drop_waiting(self._inbox)
        self._loop.add_reader(self._inbox, self._read)
        for worker in range(self._workers):  # a word to those that have found a predecessor silent
            self._send(worker, _ANSWER, 0, 0, b"")

    def submit(self, turn: Turn, asker: Asker) -> None:
        """What is this worker's is answered when it returns."""
        mine: list[Question] = []
        shared: list[Question] = []
        for question in turn.questions:
            operation = question.operation
            if isinstance(operation, ScrapeOperation) and not self._has_all(operation.info_hashes):
                shared.append(question)
            else:
                mine.append(question)
        turn.questions = mine
        self._direct.submit(turn, asker)
        if shared:
            self._ask(shared, turn.arrived, asker)

    async def drain(self) -> None:
        while self._asked:
            self._settled.clear()
            await self._settled.wait()

    def close(self) -> None:
        """Answer siblings no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._inbox)
        for sock in (self._inbox, *self._outboxes):
            sock.close()

    def _depth(self) -> int:
        return self._pending

    def _has_all(self, info_hashes: list[bytes]) -> bool:
        number, workers = self._number, self._workers
        return all(place_of(info_hash, workers) == number for info_hash in info_hashes)

    def _ask(self, questions: list[Question], arrived: int, asker: Asker) -> None:
        room = max(self.max_pending - self._pending, 0)
        if len(questions) > room:
            self._counters.dropped[QUEUE_FULL] += len(questions) - room
            del questions[room:]
        self._pending += len(questions)
        turn = Turn(arrived)
        turn.questions = questions
        scrapes = _Scrapes(turn, asker)
        for part in _parts(scrapes, self._workers):
            if part.worker == self._number:
                part.fill(self._counts(part.family, part.info_hashes))
                continue
            self._ticket += 1
            # One that is silent is asked as well, to hear of it again.
            sent = self._send(part.worker, _QUESTION, part.family, self._ticket, b"".join(part.info_hashes))
            if sent and part.worker not in self._silent:
                scrapes.missing += 1
                self._await(self._ticket, part)
            else:
                self._counters.rows_missing += len(part.rows)
        if not scrapes.missing:
            self._finish(scrapes)

    def _await(self, ticket: int, part: _Part) -> None:
        part.asked = monotonic()
        self._asked[ticket] = part
        if self._timer is None:
            self._timer = self._loop.call_later(ANSWER_SECONDS, self._expire)

    def _finish(self, scrapes: _Scrapes) -> None:
        turn = scrapes.turn
        for question, counts in zip(turn.questions, scrapes.counts, strict=True):
            self._tracker.respond(question, ScrapeResult(counts), turn)
        self._pending -= len(turn.questions)
        turn.questions = []
        scrapes.asker.answer(turn)

    def _expire(self) -> None:
        """Give up what was asked too long ago. Those parts come first."""
        self._timer = None
        while self._read():  # it may be us who stood still
            pass
        expired = monotonic() - ANSWER_SECONDS
        while self._asked:
            ticket, part = next(iter(self._asked.items()))
            if part.asked > expired:
                self._timer = self._loop.call_later(part.asked - expired, self._expire)
                return
            del self._asked[ticket]
            self._counters.rows_missing += len(part.rows)
            if self._heard[part.worker] < part.asked and part.worker not in self._silent:
                self._silent.add(part.worker)
                log.warning("worker %d does not answer: scrapes show its swarms without peers", part.worker)
            self._settle(part)

    def _settle(self, part: _Part) -> None:
        self._settled.set()
        part.scrapes.missing -= 1
        if not part.scrapes.missing:
            self._finish(part.scrapes)

    def _read(self) -> bool:
        """Take some of what has come; whether there may be more."""
        for _ in range(_MESSAGES):
            try:
                data = self._inbox.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return False
            kind, family, sender, ticket = _HEADER.unpack_from(data)
            self._heard[sender] = monotonic()
            if sender in self._silent:
                self._silent.discard(sender)
                log.info("worker %d answers again", sender)
            if kind == _QUESTION:
                info_hashes = [
                    data[at : at + INFO_HASH_BYTES] for at in range(_HEADER.size, len(data), INFO_HASH_BYTES)
                ]
                self._send(sender, _ANSWER, family, ticket, array("I", self._counts(family, info_hashes)).tobytes())
            elif (part := self._asked.pop(ticket, None)) is not None:
                part.fill(array("I", data[_HEADER.size :]))
                self._settle(part)
        return True

    def _counts(self, family: int, info_hashes: list[bytes]) -> list[int]:
        self._store.begin()
        result = self._store.apply(ScrapeOperation(family, info_hashes))
        assert isinstance(result, ScrapeResult)
        return result.counts

    def _send(self, worker: int, kind: int, family: int, ticket: int, body: bytes) -> bool:
        """Whether there was room for it."""
        try:
            self._outboxes[worker].send(_HEADER.pack(kind, family, self._number, ticket) + body)
        except OSError:
            return False
        return True


def _parts(scrapes: _Scrapes, workers: int) -> list[_Part]:
    """What each worker is to be asked, at most `_MOST_HASHES` at once."""
    parts: list[_Part] = []
    open_parts: dict[tuple[int, int], _Part] = {}
    for question in scrapes.turn.questions:
        operation = question.operation
        assert isinstance(operation, ScrapeOperation)
        counts = [0] * (_COUNTS * len(operation.info_hashes))
        scrapes.counts.append(counts)
        for nth, info_hash in enumerate(operation.info_hashes):
            key = place_of(info_hash, workers), operation.family
            part = open_parts.get(key)
            if part is None or len(part.info_hashes) == _MOST_HASHES:
                part = open_parts[key] = _Part(scrapes, *key)
                parts.append(part)
            part.info_hashes.append(info_hash)
            part.rows.append((counts, _COUNTS * nth))
    return parts
