"""A changed configuration taken into a running tracker, as far as that can be done without dropping anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from udptracker.access.base import AccessError
from udptracker.config import ConfigError, Loaded, Settings
from udptracker.observe import logs
from udptracker.service.notify import Notifier

log = logging.getLogger(__name__)

TAKEN: Final = "taken"
REFUSED: Final = "refused"
"""What a reload comes to: `udptracker_config_reloads_total{result}`."""

_STILL_HOLDS: Final = "the configuration is refused: what was read before still holds"

NEEDS_A_RESTART: Final = (
    "metrics_addr",
    "workers",
    "udp.addr",
    "udp.ipv6_only",
    "udp.receive_buffer",
    "udp.read_pace",
    "access.shared",
    "access.cache",
    "storage.name",
    "storage.config.redis_broker",
    "storage.config.standby_max_peers",
)
"""Sockets, processes, connections and what is in memory would have to be made anew for these."""


class Change(NamedTuple):
    """What a new configuration comes to: the settings to go on with, and the paths of what is other in them and of
    what was left as it was."""

    settings: Settings
    taken: list[str]
    left: list[str]


def change(old: Settings, new: Settings) -> Change:
    """From what is running to what a file says now."""
    if old.storage.name != new.storage.name:
        rest = change(old, new.model_copy(update={"storage": old.storage}))
        return rest._replace(left=[*rest.left, "storage"])
    before = _flat(old)
    different = [path for path, value in _flat(new).items() if value != before[path]]
    left = [path for path in different if path in NEEDS_A_RESTART]
    for path in left:
        new = _with(new, path.split("."), before[path])
    return Change(new, [path for path in different if path not in left], left)


class OneAfterAnother:
    """Something to do whenever it is asked for, and once more if it is asked for meanwhile."""

    def __init__(self, do: Callable[[], Awaitable[None]]) -> None:
        self._do = do
        self._task: asyncio.Task[None] | None = None
        self._asked = False

    def ask(self) -> None:
        """Have it done, now or once what is on its way has ended."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._asked:
            self._asked = False
            try:
                await self._do()
            except Exception:
                log.exception("what a signal asked for failed in an unforeseen way")


class Reloader(OneAfterAnother):
    """Reads the configuration again.

    Args:
        settings: what is running.
        read: the configuration as it is now.
        use: takes settings into the tracker; whether every process of it has.
        notifier: told when it begins, and what came of it.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Loaded],
        use: Callable[[Settings], Awaitable[bool]],
        notifier: Notifier,
    ) -> None:
        super().__init__(self._tell_and_reload)
        self._notifier = notifier
        self.settings = settings
        self._read = read
        self._use = use
        self.counts = {TAKEN: 0, REFUSED: 0}

    async def _tell_and_reload(self) -> None:
        self._notifier.reloading()
        status = _STILL_HOLDS
        try:
            status = await self._reload()
        finally:
            self._notifier.ready(status)

    async def _reload(self) -> str:
        """Read and take; what came of it, in a line."""
        try:
            loaded = await asyncio.to_thread(self._read)
        except (ConfigError, OSError) as error:
            return self._refuse(error.faults if isinstance(error, ConfigError) else [error])
        for warning in loaded.warnings:
            log.warning("%s", warning)
        settings, taken, left = change(self.settings, loaded.settings)
        try:
            all_have = await self._use(settings)
        except AccessError as error:
            return self._refuse([error])
        logs.use(settings.log_level, settings.log_format)
        if not all_have:
            log.warning("not every worker has taken the new configuration yet: one that is restarted will, or says why")
        self.settings = settings
        self.counts[TAKEN] += 1
        said = f"configuration reloaded: {', '.join(taken) if taken else 'nothing else than before'}"
        log.info("%s", said)
        if left:
            log.warning("left as it was until a restart: %s", ", ".join(left))
        return said

    def _refuse(self, faults: Iterable[object]) -> str:
        self.counts[REFUSED] += 1
        for fault in faults:
            log.error("%s", fault)
        log.error("%s", _STILL_HOLDS)
        return _STILL_HOLDS


def _flat(part: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted path."""
    found: dict[str, Any] = {}
    for name, value in part:
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {prefix + name: value}
    return found


def _with(part: Any, names: list[str], value: Any) -> Any:
    """A copy of a part with another value at a path."""
    name, *below = names
    return part.model_copy(update={name: _with(getattr(part, name), below, value) if below else value})
