"""What a part of the access control is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from udptracker.core.tracker import Admit, Question

if TYPE_CHECKING:
    from udptracker.config import Settings


class AccessError(Exception):
    """The configured access control cannot be had; the text is for an operator, without secrets."""


class Rule(Protocol):
    """Decides at once."""

    def judge(self, questions: Sequence[Question]) -> None:
        """Refuse some (`Question.refuse`), set `interval` or `hidden`, leave the rest as it is.

        Args:
            questions: of a turn, announces and scrapes; one that is refused already is left alone.
        """


class SlowRule(Protocol):
    """Decides once others have answered; it bounds its own time, and knows what holds if they do not."""

    async def judge(self, questions: Sequence[Question]) -> None:
        """As `Rule.judge`, of announces alone: nothing that is slow holds up a scrape."""


Watcher = Callable[[Sequence[Question]], None]
"""Sees what was let through, before it is answered. It must not take long, raise, or keep what it sees unbounded."""


class Prepared(NamedTuple):
    """Other settings that a part can decide by. `take` has it do so from now on and cannot fail; `give_up` lets go of
    what was made for them."""

    take: Callable[[], None]
    give_up: Callable[[], Awaitable[None]]


class Part(Protocol):
    """What belongs together: its settings, what it reads or asks elsewhere, and what it decides.

    What it decides by is read again after `open` and whenever other settings are taken.
    """

    @property
    def doors(self) -> Sequence[Admit]:
        """Who may ask at all."""

    @property
    def rules(self) -> Sequence[Rule]:
        """What is decided at once."""

    @property
    def slow_rules(self) -> Sequence[SlowRule]:
        """What is decided after asking elsewhere."""

    @property
    def watchers(self) -> Sequence[Watcher]:
        """Who sees what was let through."""

    async def open(self) -> None:
        """Get ready to decide.

        Raises:
            AccessError: it never can.
        """

    async def prepare(self, settings: Settings) -> Prepared:
        """Get ready for other settings; until they are taken nothing is decided by them.

        Raises:
            AccessError: it cannot decide by them.
        """

    async def close(self) -> None:
        """Let go of everything; also when it was not opened, or only in part."""
