"""The executor in front of the one that asks the store: it lets through what no rule refuses.

With no rules it is one call a turn. Rules that fail in an unforeseen way refuse what they were to judge, since what
restricts must not let everybody in because of a bug, and it is told like every other unforeseen error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import final

from udptracker.access.base import Rule, SlowRule, Watcher
from udptracker.core.counters import Counters
from udptracker.core.executor import Asker, Executor
from udptracker.core.reasons import INTERNAL_ERROR, QUEUE_FULL, UNFORESEEN
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question, Tracker, Turn


@final
class Guard:
    """Applies rules to turns.

    Args:
        inner: answers what is let through.
        tracker: makes the refusals.
        counters: what waits, and what finds no room, is counted here.
        max_pending: questions that wait for slow rules, beyond which the newest are dropped.
    """

    def __init__(self, inner: Executor, tracker: Tracker, counters: Counters, *, max_pending: int) -> None:
        self._inner = inner
        self._tracker = tracker
        self._counters = counters
        self.max_pending = max_pending
        self._pending = 0
        self._asking: set[asyncio.Task[None]] = set()
        counters.gauges["undecided"] = self._undecided
        self.use((), (), ())

    def use(self, rules: Sequence[Rule], slow_rules: Sequence[SlowRule], watchers: Sequence[Watcher]) -> None:
        """Apply these from now on, each in this order."""
        self._rules = tuple(rules)
        self._slow_rules = tuple(slow_rules)
        self._watchers = tuple(watchers)

    def submit(self, turn: Turn, asker: Asker) -> None:
        if self._rules:
            for rule in self._rules:
                try:
                    rule.judge(turn.questions)
                except Exception as error:
                    self._refuse_all(turn, error)
            self._tracker.turn_away(turn)
        if self._slow_rules and turn.questions:
            self._ask(turn, asker)
        self._let_through(turn, asker)

    async def drain(self) -> None:
        while self._asking:
            await asyncio.wait(self._asking)
        await self._inner.drain()

    def _undecided(self) -> int:
        return self._pending

    def _let_through(self, turn: Turn, asker: Asker) -> None:
        if turn.questions:
            for watcher in self._watchers:
                watcher(turn.questions)
            self._inner.submit(turn, asker)

    def _ask(self, turn: Turn, asker: Asker) -> None:
        """Take the announces out of the turn, as many as there is room for, and let slow rules judge them."""
        announces: list[Question] = []
        others: list[Question] = []
        for question in turn.questions:
            (announces if isinstance(question.operation, AnnounceOperation) else others).append(question)
        count, room = len(announces), self.max_pending - self._pending
        if count > room:
            self._counters.dropped[QUEUE_FULL] += count - room
            count = max(room, 0)
        turn.questions = announces
        later = turn.take_questions(count)
        turn.questions = others
        if count:
            self._pending += count
            task = asyncio.get_running_loop().create_task(self._judge(later, asker, count))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _judge(self, turn: Turn, asker: Asker, count: int) -> None:
        try:
            for rule in self._slow_rules:
                try:
                    await rule.judge(turn.questions)
                except Exception as error:
                    self._refuse_all(turn, error)
            self._tracker.turn_away(turn)
            try:
                self._let_through(turn, asker)
            except Exception as fault:  # as where an endpoint lets it through: the others of the turn are answered
                self._counters.dropped[UNFORESEEN] += len(turn.questions)
                turn.faults.append(fault)
        finally:
            self._pending -= count
        asker.answer(turn)

    @staticmethod
    def _refuse_all(turn: Turn, error: Exception) -> None:
        turn.faults.append(error)
        for question in turn.questions:
            if not question.refusal:
                question.refuse(INTERNAL_ERROR)
