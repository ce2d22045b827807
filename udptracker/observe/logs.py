"""Logging for an operator: one readable line for each event, on standard error."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from udptracker.core.text import printable

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str, prefix: str = "") -> None:
    """Log to standard error from `level` on; under systemd's journal without the time, which it adds itself."""
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(f"{stamp}%(levelname)s {prefix}%(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Formatter(logging.Formatter):
    """A message is one line of what is printable: words of strangers (a store, a client, a file) may be in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))
