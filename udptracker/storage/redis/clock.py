"""The server's clock, carried on by this machine's steady clock. No I/O.

A reading tells the server's time to within the round trip that brought it; of the last few the one with the shortest
counts. Steady clocks drift by less than a thousandth, so a reading that is further off than that and its round trip
can explain is a jump: the server was started anew with another clock, or somebody set it. It is followed at once, and
how far it went ahead is told for as long as peers may carry times from before.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SECOND: Final = 1_000_000_000
_READINGS: Final = 8
_TOLERANCE: Final = _SECOND
_DRIFT: Final = 1_000
"""Nanoseconds in which a steady clock may go wrong by one."""


class StoreClock:
    """See the module. All times are nanoseconds, `steady` ones of this machine's steady clock.

    Args:
        offset: what to add to the steady clock until the first reading.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        """What to add to the steady clock."""
        self._readings: deque[tuple[int, int]] = deque(maxlen=_READINGS)
        self._read = 0

    def read(self, sent: int, received: int, server: int) -> int:
        """Take a reading that was asked for at `sent` and had come at `received` (steady); how far the clock jumped."""
        trip = received - sent
        offset = server - (sent + received) // 2
        jump = 0
        if self._readings:
            difference = offset - self.offset
            if abs(difference) > _TOLERANCE + trip + (received - self._read) // _DRIFT:
                jump = difference
                self._readings.clear()
        self._readings.append((trip, offset))
        self._read = received
        self.offset = min(self._readings)[1]
        return jump
