"""The hooks as a part of the access control, in the order of the configuration.

Those before the first that may ask elsewhere decide at once; from that one on all are asked one after the other, so
that none of them is asked about what one before it has refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from udptracker.access.base import Rule, SlowRule, Watcher
from udptracker.access.hooks.at_once import AtOnce
from udptracker.access.hooks.making import make_prehook, needs_of
from udptracker.core.counters import Counters
from udptracker.core.tracker import Admit

if TYPE_CHECKING:
    from udptracker.config import Settings


class _Kept(NamedTuple):
    """A hook in use, and what it was made of."""

    made_of: tuple[Any, ...]
    hook: AtOnce


class Hooks:
    """See the module and `Part`.

    Args:
        counters: where each hook is counted by its name.
    """

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self._settings = settings
        self._counters = counters
        self._kept: list[_Kept] = []
        for hook in (*settings.prehooks, *settings.posthooks):
            counters.add_hook(hook.name)

    doors: Sequence[Admit] = ()
    slow_rules: Sequence[SlowRule] = ()
    watchers: Sequence[Watcher] = ()

    @property
    def rules(self) -> Sequence[Rule]:
        return [kept.hook for kept in self._kept]

    async def open(self) -> None:
        await self.use(self._settings)

    async def use(self, settings: Settings) -> None:
        self._kept = [
            _Kept(
                (hook.name, hook.options),
                make_prehook(hook.name, hook.options, self._counters, needs_of(hook.name, settings)),
            )
            for hook in settings.prehooks
        ]
        for kept in self._kept:
            await kept.hook.open()

    async def close(self) -> None:
        for kept in self._kept:
            await kept.hook.close()
        self._kept = []
