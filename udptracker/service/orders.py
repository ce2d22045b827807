"""What the parent and a worker say to each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from udptracker.config import Settings
    from udptracker.service.mailboxes import Ends


WORKER: Final = "udptracker.service.worker"
"""The module that a worker runs."""

SERVING: Final = "serving"
REFUSED: Final = "refused"
"""From a worker: that it serves, or why it never can."""
SNAPSHOT: Final = "snapshot"
READY: Final = "ready"
BUSIEST: Final = "busiest"
PREPARE: Final = "prepare"
GIVE_UP: Final = "give up"
USE: Final = "use"
SAVE: Final = "save"
SAVE_AT_STOP: Final = "save at stop"
"""Questions to a worker, each with what is given with it, and the names of its answers."""


class Opened(NamedTuple):
    """A secret as a worker has it."""

    text: str

    def __repr__(self) -> str:
        return "***"

    def get_secret_value(self) -> str:
        return self.text


class Part(SimpleNamespace):
    """A part of the settings as a worker has it: the same names and values, without the library that has checked
    them, which would take a third of a worker's memory."""


def for_worker(settings: Settings) -> Settings:
    """Settings for a message to a worker, which reads them and needs none of their methods; `workers` is how many
    there are."""
    plain = _plain(settings)
    plain.workers = settings.worker_count()
    return cast("Settings", plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "get_secret_value"):
        return Opened(value.get_secret_value())
    if hasattr(value, "model_fields_set"):
        return Part(**{name: _plain(item) for name, item in value})
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


class Orders(NamedTuple):
    """The first message to a worker. `settings` are as `for_worker` makes them, `sockets` are inherited descriptors of
    bound UDP sockets, and `ends` those of mailboxes, None where the workers share a store."""

    number: int
    settings: Settings
    keys: tuple[bytes, ...]
    sockets: tuple[int, ...]
    ends: Ends | None
