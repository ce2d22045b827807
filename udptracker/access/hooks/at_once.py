"""Hooks that decide about an announce at once and by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from udptracker.core.counters import Counters
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question


class AtOnce(ABC):
    """A `Rule` about announces; scrapes are let through.

    Args:
        name: what it is counted by.
    """

    def __init__(self, name: str, counters: Counters) -> None:
        self._name = name
        self._refusals = counters.hook_refusals

    @abstractmethod
    def decide(self, question: Question, announce: AnnounceOperation) -> str:
        """The words an announce is refused in, one of `reasons.REFUSALS`; empty to let it pass."""

    async def open(self) -> None:  # noqa: B027  # few have anything to open
        """Raises:
        AccessError: it can never decide.
        """

    async def close(self) -> None:  # noqa: B027  # or to close
        """Let go of everything."""

    @final
    def judge(self, questions: Sequence[Question]) -> None:
        for question in questions:
            announce = question.operation
            if isinstance(announce, AnnounceOperation) and not question.refusal:
                words = self.decide(question, announce)
                if words:
                    question.refuse(words)
                    self._refusals[self._name] += 1
