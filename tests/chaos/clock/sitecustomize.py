"""A wall clock that jumps: Python imports this before a program whose PYTHONPATH names this directory.

The first real-time signal puts the process 10 hours ahead, the second back to where the others are. It begins as many
hours ahead as HOURS_AHEAD in the environment says. The steady clock is left alone.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

_HOURS: Final = {signal.SIGRTMIN + 1: 10, signal.SIGRTMIN + 2: 0}
_NANOSECONDS: Final = 3_600_000_000_000


class _Clock:
    """What takes the place of `time.time` and `time.time_ns`."""

    def __init__(self) -> None:
        self._read = time.time_ns
        self._ahead = int(os.environ.get("HOURS_AHEAD", "0")) * _NANOSECONDS

    def jump(self, number: int, _: object) -> None:
        self._ahead = _HOURS[number] * _NANOSECONDS

    def nanoseconds(self) -> int:
        return self._read() + self._ahead

    def seconds(self) -> float:
        return self.nanoseconds() / 1e9


_clock = _Clock()
for _number in _HOURS:
    signal.signal(_number, _clock.jump)
time.time, time.time_ns = _clock.seconds, _clock.nanoseconds
