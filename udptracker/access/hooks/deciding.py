"""Pre-hooks that others wrote, as rules: what they decide, and what holds where they do not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

from udptracker.access.hooks.api import Announce, PreHook
from udptracker.access.hooks.calls import Calls, Outcome
from udptracker.core.counters import Counters
from udptracker.core.reasons import UNDECIDED
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question

_MOST_CALLS: Final = 4
_MOST_IN_A_CALL: Final = 1024


class Decisions:
    """What becomes of announces that a hook was shown.

    Args:
        terms: `AskingHook` of the configuration, which may be replaced.
    """

    def __init__(self, name: str, hook: PreHook, terms: Any, counters: Counters) -> None:
        counters.refused[name] += 0
        self._name = name
        self._hook = hook
        self.terms = terms
        self._counters = counters
        self._calls = Calls(name, counters)

    async def open(self) -> None:
        """Whatever the hook raises."""
        await self._hook.open()

    async def close(self) -> None:
        """Whatever the hook raises."""
        await self._hook.close()

    def _take(self, asked: Mapping[Announce, Question], announces: Iterable[Announce], *, is_decided: bool) -> None:
        """Put into questions what the hook has decided about these announces, or what holds if it has not."""
        for announce in announces:
            question = asked[announce]
            if not is_decided:
                if self.terms.on_failure == "refuse":
                    question.refuse(UNDECIDED)
            elif announce.refusal:
                question.refuse(announce.refusal, self._name)
                self._counters.hook_refusals[self._name] += 1
            elif announce.interval:
                question.interval = announce.interval


@final
class Deciding(Decisions):
    """A hook that decides at once, a `Rule`."""

    def judge(self, questions: Sequence[Question]) -> None:
        asked = shown(questions)
        if asked:
            outcome = self._calls.at_once(self._hook.judge, list(asked))
            self._take(asked, asked, is_decided=outcome is Outcome.DONE)


@final
class Asking(Decisions):
    """A hook that may ask elsewhere, a `SlowRule`.

    Several calls may be on their way; what comes when all are waits, and goes together with the next.
    """

    def __init__(self, name: str, hook: PreHook, terms: Any, counters: Counters) -> None:
        super().__init__(name, hook, terms, counters)
        self._waiting: list[_Waiting] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._pending = 0

    async def judge(self, questions: Sequence[Question]) -> None:
        asked = shown(questions)
        unknown = self._calls.left_of(list(asked), self._hook)
        self._take(asked, asked.keys() - unknown, is_decided=True)
        if unknown:
            in_their_order = [announce for announce in asked if announce in unknown]
            self._take(asked, in_their_order, is_decided=await self._is_asked(in_their_order))

    async def _is_asked(self, announces: Sequence[Announce]) -> bool:
        """Ask about announces; whether there is an answer in time."""
        count = len(announces)
        if self._pending + count > self.terms.max_pending or self._calls.stuck >= _MOST_CALLS:
            self._counters.hook_drops[self._name] += count
            return False
        waiting = _Waiting(announces)
        self._waiting.append(waiting)
        self._pending += count
        try:
            self._ask()
            await asyncio.wait({waiting.outcome}, timeout=self.terms.timeout)
        finally:
            self._pending -= count
            if waiting in self._waiting:  # no call had room for it
                self._waiting.remove(waiting)
        outcome = waiting.outcome.result() if waiting.outcome.done() else Outcome.LATE
        if outcome is Outcome.LATE:
            self._counters.hook_timeouts[self._name] += count
        return outcome is Outcome.DONE

    def _ask(self) -> None:
        while self._waiting and len(self._asking) + self._calls.stuck < _MOST_CALLS:
            together = [self._waiting.pop(0)]
            count = len(together[0].announces)
            while self._waiting and count + len(self._waiting[0].announces) <= _MOST_IN_A_CALL:
                together.append(self._waiting.pop(0))
                count += len(together[-1].announces)
            task = asyncio.create_task(self._call(together))
            self._asking.add(task)
            task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._ask()

    async def _call(self, together: Sequence[_Waiting]) -> None:
        announces = [announce for waiting in together for announce in waiting.announces]
        outcome = Outcome.FAILED
        try:
            outcome = await self._calls.within(self.terms.timeout, self._hook.judge, announces)
        finally:
            for waiting in together:
                if not waiting.outcome.done():
                    waiting.outcome.set_result(outcome)


@final
class _Waiting:
    """Announces of a turn, and what came of the call that they were in."""

    def __init__(self, announces: Sequence[Announce]) -> None:
        self.announces = announces
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()


def shown(questions: Sequence[Question]) -> dict[Announce, Question]:
    """Those of questions that announce and are not refused, by what hooks see of them."""
    now = time.time()
    found = {}
    for question in questions:
        operation = question.operation
        if isinstance(operation, AnnounceOperation) and not question.refusal:
            found[Announce(question, operation, now)] = question
    return found
