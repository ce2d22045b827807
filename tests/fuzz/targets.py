"""Every target by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.fuzz.access import ListTarget, TokenTarget
from tests.fuzz.base import Target
from tests.fuzz.links import LinkTarget, MapTarget
from tests.fuzz.store import OperatorTarget, RepliesTarget
from tests.fuzz.texts import ConfigTarget, ResponseTarget
from tests.fuzz.turn import TurnTarget

TARGETS: Final[Mapping[str, Callable[[], Target]]] = {
    "turn": TurnTarget,
    "link": LinkTarget,
    "replies": RepliesTarget,
    "operator": OperatorTarget,
    "map": MapTarget,
    "tokens": TokenTarget,
    "lists": ListTarget,
    "config": ConfigTarget,
    "response": ResponseTarget,
}
