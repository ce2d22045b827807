"""What an error reply of the server means for the store."""

from __future__ import annotations

from typing import Final

from hiredis import ReplyError

from udptracker.core.swarm import StoreError, StoreUnavailable

_UNAVAILABLE: Final = (
    "LOADING",
    "READONLY",
    "OOM",
    "MISCONF",
    "MASTERDOWN",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOAUTH",
    "NOPERM",
)
"""Error replies that say the server is not fit to serve, not that one command was wrong."""


def store_error(error: ReplyError) -> StoreError:
    """An error reply as the store's own: of the one operation, or of the server as a whole."""
    text = str(error)
    return (StoreUnavailable if text.startswith(_UNAVAILABLE) else StoreError)(text)
