"""What becomes of a turn whose requests rules refuse, change, or are not done with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from struct import unpack_from

import pytest

from tests.access.support import INFO_HASH, SOURCE, Gate, announce, scrape, use
from udptracker.access.access import Access
from udptracker.access.base import Prepared
from udptracker.config import Settings
from udptracker.core import wire
from udptracker.core.counters import ANNOUNCED, CONNECTED, SCRAPED
from udptracker.core.reasons import INTERNAL_ERROR, QUEUE_FULL, STALE, UNFORESEEN
from udptracker.core.swarm import ScrapeOperation
from udptracker.core.tracker import Admit, Question

OTHER = bytes(20)


def number(question: Question) -> int:
    """The transaction id."""
    found: int = unpack_from(">I", question.data, 12)[0]
    return found


class Refusing:
    """Refuses these by their transaction ids, and remembers what it was asked."""

    def __init__(self, *refused: int, words: str = "not you", counted_as: str = "") -> None:
        self.refused = refused
        self.words = words
        self.counted_as = counted_as
        self.asked: list[list[int]] = []

    def judge(self, questions: Sequence[Question]) -> None:
        self.asked.append([number(question) for question in questions if not question.refusal])
        for question in questions:
            if number(question) in self.refused and not question.refusal:
                question.refuse(self.words, self.counted_as)


class Slow:
    """Does the same, once it is let."""

    def __init__(self, *refused: int) -> None:
        self._refusing = Refusing(*refused, words="not you either")
        self.asked = self._refusing.asked
        self.let = asyncio.Event()

    async def judge(self, questions: Sequence[Question]) -> None:
        await self.let.wait()
        self._refusing.judge(questions)


class Buggy:
    def judge(self, questions: Sequence[Question]) -> None:
        raise LookupError("a bug in a rule")


class BuggyLater:
    async def judge(self, questions: Sequence[Question]) -> None:
        raise LookupError("a bug in a slow rule")


class TestRulesThatAnswerAtOnce:
    def test_some_of_a_turn_are_refused_in_their_words(self) -> None:
        gate = Gate([Refusing(2)])
        gate.ask(announce(1), announce(2, port=6882), announce(3, port=6883))
        assert [gate.refusal(each) for each in (1, 2, 3)] == [None, "not you", None]
        assert gate.counters.refused["not you"] == 1
        response = gate.answers[3]
        assert isinstance(response, wire.AnnounceResponse)
        assert response.leechers == 2, "the refused one is in no swarm"

    def test_the_first_refusal_stands(self) -> None:
        second = Refusing(1, 2, words="second")
        gate = Gate([Refusing(1), second])
        gate.ask(announce(1), announce(2))
        assert [gate.refusal(each) for each in (1, 2)] == ["not you", "second"]
        assert second.asked == [[2]]

    def test_a_refusal_may_be_counted_by_another_name(self) -> None:
        gate = Gate([Refusing(1, words="words of some hook", counted_as="hook")])
        gate.ask(announce(1))
        assert gate.refusal(1) == "words of some hook"
        assert (gate.counters.refused["hook"], gate.counters.refused["words of some hook"]) == (1, 0)

    def test_one_that_fails_lets_nobody_in(self) -> None:
        gate = Gate([Refusing(1), Buggy()])
        gate.ask(announce(1), announce(2))
        assert [gate.refusal(each) for each in (1, 2)] == ["not you", INTERNAL_ERROR]
        assert list(map(str, gate.faults)) == ["a bug in a rule"]


class Interval:
    def judge(self, questions: Sequence[Question]) -> None:
        for question in questions:
            question.interval = 77


class Hiding:
    """Hides the swarm of `OTHER` from scrapes."""

    def judge(self, questions: Sequence[Question]) -> None:
        for question in questions:
            if isinstance(question.operation, ScrapeOperation):
                places = enumerate(question.operation.info_hashes)
                question.hidden = [place for place, info_hash in places if info_hash == OTHER]


class TestWhatElseARuleMaySay:
    def test_another_interval(self) -> None:
        gate = Gate([Interval()])
        gate.ask(announce(1))
        response = gate.answers[1]
        assert isinstance(response, wire.AnnounceResponse)
        assert response.interval == 77

    def test_zeros_for_a_swarm_of_a_scrape(self) -> None:
        gate = Gate([Hiding()])
        gate.ask(announce(1), announce(2, OTHER))
        gate.ask(scrape(3, OTHER, INFO_HASH, OTHER))
        response = gate.answers[3]
        assert isinstance(response, wire.ScrapeResponse)
        assert [swarm.leechers for swarm in response.swarms] == [0, 1, 0]


class TestRulesThatAskElsewhere:
    async def test_answer_later_and_hold_nobody_else_up(self) -> None:
        slow = Slow(2)
        gate = Gate([Refusing(1)], [slow])
        gate.ask(announce(1), announce(2), announce(3))
        assert list(gate.answers) == [1]
        slow.let.set()
        await gate.guard.drain()
        assert [gate.refusal(each) for each in (1, 2, 3)] == ["not you", "not you either", None]

    async def test_hold_up_no_scrape(self) -> None:
        slow = Slow()
        gate = Gate([], [slow])
        gate.ask(announce(1), scrape(2, INFO_HASH))
        assert list(gate.answers) == [2]
        slow.let.set()
        await gate.guard.drain()
        assert (sorted(gate.answers), slow.asked) == ([1, 2], [[1]])

    async def test_are_asked_only_what_is_left(self) -> None:
        slow = Slow()
        slow.let.set()
        gate = Gate([Refusing(1, 2)], [slow])
        gate.ask(announce(1), announce(2), announce(3))
        gate.ask(announce(4))
        await gate.guard.drain()
        assert slow.asked == [[3], [4]]

    async def test_one_that_fails_lets_nobody_in(self) -> None:
        gate = Gate([], [BuggyLater()])
        gate.ask(announce(1))
        await gate.guard.drain()
        assert gate.refusal(1) == INTERNAL_ERROR
        assert list(map(str, gate.faults)) == ["a bug in a slow rule"]

    async def test_no_more_wait_than_there_is_room_for(self) -> None:
        slow = Slow()
        gate = Gate([], [slow], max_pending=3)
        gate.ask(announce(1), announce(2))
        gate.ask(announce(3), announce(4))
        gate.ask(announce(5))
        assert gate.counters.dropped[QUEUE_FULL] == 2
        assert gate.counters.snapshot()["undecided"] == 3
        slow.let.set()
        await gate.guard.drain()
        assert sorted(gate.answers) == [1, 2, 3]
        assert gate.counters.snapshot()["undecided"] == 0
        gate.ask(announce(6))
        await gate.guard.drain()
        assert 6 in gate.answers


class TestWatchers:
    async def test_see_what_was_let_through(self) -> None:
        seen: list[int] = []
        slow = Slow(3)
        slow.let.set()
        gate = Gate([Refusing(1)], [slow], [lambda questions: seen.extend(map(number, questions))])
        gate.ask(announce(1), announce(2), announce(3), scrape(4, INFO_HASH))
        assert seen == [4]
        await gate.guard.drain()
        assert seen == [4, 2]

    async def test_one_that_fails_after_slow_rules_costs_nobody_else(self) -> None:
        def failing(questions: Sequence[Question]) -> None:
            raise LookupError("a bug in a watcher")

        slow = Slow(1)
        slow.let.set()
        gate = Gate([], [slow], [failing])
        gate.ask(announce(1), announce(2))
        await gate.guard.drain()
        assert [gate.refusal(each) for each in gate.answers] == ["not you either"]
        assert gate.counters.dropped[UNFORESEEN] == 1
        assert list(map(str, gate.faults)) == ["a bug in a watcher"]


class PartOfDoors:
    """A part that has nothing but doors."""

    rules, slow_rules, watchers = (), (), ()

    def __init__(self, *doors: Admit) -> None:
        self.doors = doors

    async def open(self) -> None:
        """Nothing to get."""

    async def prepare(self, settings: Settings) -> Prepared:
        def take() -> None:
            self.doors = ()

        async def give_up() -> None:
            """Nothing to let go of."""

        return Prepared(take, give_up)

    async def close(self) -> None:
        """Nothing to let go of."""


class TestTheDoor:
    @pytest.mark.parametrize("others", [0, 1])
    @pytest.mark.parametrize("kept_out", [CONNECTED, ANNOUNCED, SCRAPED])
    async def test_whoever_is_kept_out_hears_nothing(self, kept_out: int, others: int) -> None:
        asked: list[bytes] = []

        def door(kind: int, source: bytes, now: float) -> str | None:
            asked.append(source)
            return STALE if kind == kept_out else None

        gate = Gate()
        access = Access([PartOfDoors(*[lambda *_: None] * others, door)], gate.guard, gate.tracker)
        await access.open()
        turn = gate.tracker.receive([(wire.encode_connect_request(CONNECTED), SOURCE, None)], 0.0, 7)
        gate.guard.submit(turn, gate)
        gate.answer(turn)
        gate.ask(announce(ANNOUNCED), scrape(SCRAPED, INFO_HASH))
        assert sorted(gate.answers) == [kind for kind in (CONNECTED, ANNOUNCED, SCRAPED) if kind != kept_out]
        assert gate.counters.dropped[STALE] == 1
        assert asked == [SOURCE] * 3
        await use(access, Settings())
        gate.answers.clear()
        gate.ask(announce(ANNOUNCED), scrape(SCRAPED, INFO_HASH))
        assert sorted(gate.answers) == [ANNOUNCED, SCRAPED]
        await access.close()
