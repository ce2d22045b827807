"""The hooks as a part of the access control, in the order of the configuration.

Those before the first that may ask elsewhere decide at once; from that one on all are asked one after the other, so
that none of them is asked about what one before it has refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from udptracker.access.base import AccessError, Prepared, Rule, SlowRule, Watcher
from udptracker.access.hooks.at_once import AtOnce
from udptracker.access.hooks.deciding import Asking, Deciding, Decisions
from udptracker.access.hooks.finding import words
from udptracker.access.hooks.making import Ready, make_hook, needs_of
from udptracker.access.hooks.watching import Watching
from udptracker.core.counters import Counters
from udptracker.core.tracker import Admit, Question

if TYPE_CHECKING:
    from udptracker.config import Settings

log = logging.getLogger(__name__)

_OPEN_SECONDS: Final = 15.0
_CLOSE_SECONDS: Final = 0.4
"""How long a hook has to open and to close: the latter within what the whole access control has."""


class _Kept(NamedTuple):
    """A hook, where it stands, and what it was made of."""

    place: str
    hook: Ready
    made_of: tuple[Any, ...]
    name: str


class Hooks:
    """See the module and `Part`.

    Args:
        counters: where each hook is counted by its name.
    """

    doors: Sequence[Admit] = ()

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self._settings = settings
        self._counters = counters
        self._kept: list[_Kept] = []
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def rules(self) -> Sequence[Rule]:
        found: list[Rule] = []
        for hook in self._deciding():
            if isinstance(hook, Asking):
                break
            found.append(hook)
        return found

    @property
    def slow_rules(self) -> Sequence[SlowRule]:
        after = self._deciding()[len(self.rules) :]
        return [hook if isinstance(hook, Asking) else _InItsTurn(hook) for hook in after]

    @property
    def watchers(self) -> Sequence[Watcher]:
        return [kept.hook.see for kept in self._kept if isinstance(kept.hook, Watching)]

    def _deciding(self) -> list[AtOnce | Deciding | Asking]:
        return [kept.hook for kept in self._kept if not isinstance(kept.hook, Watching)]

    async def open(self) -> None:
        (await self.prepare(self._settings)).take()

    async def prepare(self, settings: Settings) -> Prepared:
        """Those that are as before go on, the others are made."""
        left, now, fresh = list(self._kept), [], []
        try:
            for place, at, hook in _configured(settings):
                needs = needs_of(hook.name, settings)
                made_of = (hook.name, hook.options, needs)
                kept = next((one for one in left if (one.place, one.made_of) == (place, made_of)), None)
                if kept is None:
                    ready = await make_hook(place, at, hook, needs, self._counters)
                    kept = _Kept(place, ready, made_of, hook.name)
                    await _open(kept, f"{place}.{at}")
                    fresh.append(kept)
                else:
                    left.remove(kept)
                now.append((kept, hook))
        except BaseException:
            await _close(fresh)
            raise

        def take() -> None:
            for kept, hook in now:
                if isinstance(kept.hook, Decisions | Watching):
                    kept.hook.terms = hook
            self._kept = [kept for kept, _ in now]
            if left:
                task = asyncio.create_task(_leave(left))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

        return Prepared(take, partial(_close, fresh))

    async def close(self) -> None:
        for task in self._leaving:
            task.cancel()
        kept, self._kept = self._kept, []
        await asyncio.gather(_close(kept), *self._leaving, return_exceptions=True)


@final
class _InItsTurn:
    """A hook that decides at once, after one that asks elsewhere."""

    def __init__(self, hook: Rule) -> None:
        self._hook = hook

    async def judge(self, questions: Sequence[Question]) -> None:
        self._hook.judge(questions)


def _configured(settings: Settings) -> Iterable[tuple[str, int, Any]]:
    for place, hooks in (("prehooks", settings.prehooks), ("posthooks", settings.posthooks)):
        for at, hook in enumerate(hooks):
            yield place, at, hook


async def _open(kept: _Kept, path: str) -> None:
    try:
        await _within(_OPEN_SECONDS, kept.hook.open())
    except (AccessError, asyncio.CancelledError):
        raise
    except BaseException as error:  # whatever others wrote
        raise AccessError(f"{path}: {kept.name} does not open: {words(error)}") from None


async def _leave(left: Sequence[_Kept]) -> None:
    """Close what is not used any more, once what was on its way has been decided."""
    try:
        await asyncio.sleep(sum(kept.hook.terms.timeout for kept in left if isinstance(kept.hook, Asking)))
    finally:
        await _close(left)


async def _close(kept: Iterable[_Kept]) -> None:
    await asyncio.gather(*map(_close_one, kept))


async def _close_one(kept: _Kept) -> None:
    try:
        await _within(_CLOSE_SECONDS, kept.hook.close())
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # it is given up anyway
        log.warning("hook %s did not close as it should: %s", kept.name, words(error))


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """Wait for work, and leave it once it has taken too long: it may not let itself be cancelled.

    Raises:
        TimeoutError: it has; or whatever the work raises.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    if not task.done():
        raise TimeoutError(f"not within {seconds:g} s")
    task.result()
