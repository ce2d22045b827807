"""Logging for an operator, on standard error: lines for a terminal, for systemd's journal, or JSON for a collector.

Words of strangers (a store, a client, a file) are in messages, so whatever is not printable is escaped. Lines of one
kind that come again and again are counted instead, since a store that flaps would otherwise fill a disk.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from math import inf
from typing import Any, Final, TextIO

from udptracker.core.text import printable

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")

MOST_ALIKE: Final = 5
"""Lines of one kind in `WINDOW` seconds; the rest are counted."""
MOST_KINDS: Final = 8
"""Of one place in the source, each with a text of its own; what else that place says is one more."""
WINDOW: Final = 30.0

_REST: Final = ""
"""No text of any line."""

_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))
"""From which level on which priority of syslog(3) holds, the highest first."""


def configure(level: str, prefix: str = "", form: str = "text") -> None:
    """Log to standard error from `level` on.

    Args:
        prefix: who speaks, before each message (`worker 1: `).
        form: one of FORMATS. The journal takes the priority from a `<4>` before each line, and adds the time itself.
    """
    handler = _Handler(prefix)
    handler.use(form)
    repeats = Repeats(handler.emit)
    handler.addFilter(repeats)
    atexit.register(repeats.tell)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def use(level: str, form: str) -> None:
    """Go on in another form, from another level on."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in root.handlers:
        if isinstance(handler, _Handler):
            handler.use(form)


def refusals(log_peers: bool) -> Callable[[str, bytes], None] | None:
    """What is to be told of each refused request: the reason, and the packed address of its sender, which is written
    only if `log_peers`. None unless debugging, so that whoever refuses has nothing to do."""
    log = logging.getLogger(f"{__name__}.refusals")
    if not log.isEnabledFor(logging.DEBUG):
        return None

    def tell(reason: str, source: bytes) -> None:
        if log_peers:
            log.debug("refused a request from %s: %s", ip_address(source), reason)
        else:
            log.debug("refused a request: %s", reason)

    return tell


def _is_the_journal() -> bool:
    """Whether standard error leads to the journal: a child that redirected it has the variable all the same
    (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to standard error in one of FORMATS.

    Args:
        prefix: who speaks.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(sys.stderr)
        self._prefix = prefix

    def use(self, form: str) -> None:
        """Write in this form from now on."""
        journal = _is_the_journal()
        inner = _json(self._prefix) if form == "json" else _Text(self._prefix, with_time=not journal)
        self.setFormatter(_Prioritized(inner) if journal else inner)


class _Text(logging.Formatter):
    """One line, after which a traceback may follow. The time has its zone: `2026-11-26 10:15:30.123+01:00`."""

    def __init__(self, prefix: str, *, with_time: bool) -> None:
        super().__init__(f"{'%(asctime)s ' if with_time else ''}%(levelname)s {prefix}%(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class _Prioritized(logging.Formatter):
    """Each line of another formatter with its priority before it (sd-daemon(3))."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in self._inner.format(record).split("\n"))


def _json(prefix: str) -> logging.Formatter:
    """An object a line: timestamp, level, logger, message; exc_info with a traceback, process of a worker."""
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields={"process": prefix.strip(": ")} if prefix else {},
        timestamp=True,
    )


class Repeats(logging.Filter):
    """Lets `MOST_ALIKE` lines of a kind through in `WINDOW` seconds, and says afterwards how many it left out.

    A kind is a text of a place in the source, at one level: a place may speak of several stores, addresses or keys. Of
    one that never says the same twice, only so many texts are kinds (`MOST_KINDS`). Debugging lines are never left
    out: who asks for them wants them.

    Args:
        emit: writes a record past this filter.
        clock: monotonic seconds.
    """

    def __init__(self, emit: Callable[[logging.LogRecord], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._emit = emit
        self._clock = clock
        self._lock = threading.RLock()  # a signal's handler may log in the middle of a line of the same thread
        self._kinds: dict[tuple[str, int, int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return True
        try:
            text = record.getMessage()
        except Exception:  # the handler meets the same, and tells of it where nobody who logs is harmed
            return True
        now = self._clock()
        self.tell(now - WINDOW)
        place = (record.name, record.lineno, record.levelno)
        with self._lock:
            kind = text
            if (*place, kind) not in self._kinds and sum(key[:3] == place for key in list(self._kinds)) >= MOST_KINDS:
                kind = _REST
            return self._kinds.setdefault((*place, kind), _Kind(record, text, now)).take(record, text)

    def tell(self, before: float = inf) -> None:
        """Say what was left out of the kinds that began until `before`, and begin anew with them."""
        with self._lock:
            over = [key for key, kind in list(self._kinds.items()) if kind.since <= before]
            ended = [self._kinds.pop(key, None) for key in over]
            summaries = [kind.summary() for kind in ended if kind is not None]
        for summary in summaries:
            if summary is not None:
                self._emit(summary)


class _Kind:
    """Lines of one kind since its first one."""

    def __init__(self, first: logging.LogRecord, text: str, now: float) -> None:
        self.since = now
        self._last = first, text
        self._count = 0

    def take(self, record: logging.LogRecord, text: str) -> bool:
        """Count a line; whether it goes out."""
        self._count += 1
        self._last = record, text
        return self._count <= MOST_ALIKE

    def summary(self) -> logging.LogRecord | None:
        """A line on those that did not, if any."""
        if self._count <= MOST_ALIKE:
            return None
        last, text = self._last
        values = (self._count - MOST_ALIKE, text)
        words = "%d more lines like this were left out: %s"
        return logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, words, values, None)
