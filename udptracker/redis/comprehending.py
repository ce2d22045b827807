"""What is made of replies that are of no kind that was asked for, as no Redis gives them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from udptracker.core.swarm import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

_NOT_UNDERSTOOD: Final = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, struct.error)
"""What comes of a reply that is of another type or shape than what was asked for."""
_MOST_WORDS: Final = 200


def comprehending(ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """What asks a server, so that one whose replies are of no kind that it was asked for, which no Redis is, counts as
    one that does not answer: `StoreUnavailable`."""

    @wraps(ask)
    async def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await ask(*args, **kwargs)
        except _NOT_UNDERSTOOD as error:
            what = f"{type(error).__name__}: {error}"
            raise StoreUnavailable(f"it answers what it was not asked ({what[:_MOST_WORDS]})") from error

    return asked
