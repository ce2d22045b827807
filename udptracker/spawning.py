"""Signals while processes of ours start, so that one which comes just then is neither lost nor ends as a traceback.

A spawned interpreter takes a while until it can set handlers of its own, and Ctrl-C on a terminal reaches it at once.
Whoever starts one does so in `signals_held`, and the process begins with `take_signals`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_HELD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What operators send, but for what cannot be held."""


@contextmanager
def signals_held() -> Iterator[None]:
    """Within the block the signals wait for its end, and for `take_signals` in processes it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals() -> None:
    """In a process started with signals held: leave Ctrl-C to the parent, which ends us in its own time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
