"""Logging for an operator: one readable line for each event, on standard error."""

from __future__ import annotations

import logging
import os
import sys

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str, prefix: str = "") -> None:
    """Log to standard error from `level` on; under systemd's journal without the time, which it adds itself."""
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format=f"{stamp}%(levelname)s {prefix}%(message)s", force=True
    )
