"""The packet generator at work in the background: load on a tracker for as long as a fault takes."""

from __future__ import annotations

import threading
from typing import Final, Self

from tests.support.waiting import eventually
from udptracker.load import Interval, LoadOptions, run

_PER_SECOND: Final = 1_000
_AN_HOUR: Final = 3_600.0


class _Enough(Exception):
    """Ends the run at the end of a second."""


class PacketLoad:
    """Announces and scrapes of the packet generator on a port of 127.0.0.1, on schedule, its answers checked.

    Its swarms are its own. A request that is lost is not sent again.
    """

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.failed = 0
        """Requests with a wrong answer or an error for an answer."""
        self._options = LoadOptions(
            host="127.0.0.1", port=port, torrents=200, peers=2_000, num_want=20, rate=_PER_SECOND, duration=_AN_HOUR
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.answered or not self._thread.is_alive(), "the generator to be at work")
        assert self._thread.is_alive(), "the generator has ended"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            run(self._options, self._note)
        except _Enough:
            return

    def _note(self, second: Interval) -> None:
        self.answered += second.answered
        self.failed += second.failed
        if self._end.is_set():
            raise _Enough
