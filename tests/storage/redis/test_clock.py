"""The server's clock by its readings: the best of the last, and what is a jump."""

from __future__ import annotations

from typing import Final

import pytest

from tests.storage.contract import SECOND
from udptracker.storage.redis.clock import StoreClock

_OFFSET: Final = 1_800_000_000 * SECOND
_MS: Final = 1_000_000


def reading(clock: StoreClock, at: int, trip: int = _MS, *, offset: int = _OFFSET, there: float = 0.5) -> int:
    """Read a server whose clock is `offset` ahead of ours, which looked at it `there` of the way through the trip."""
    return clock.read(at, at + trip, at + int(trip * there) + offset)


def test_the_first_reading_is_no_jump_however_far_off_we_were() -> None:
    clock = StoreClock(5)
    assert reading(clock, 1 * SECOND) == 0
    assert clock.offset == _OFFSET


def test_of_several_the_shortest_trip_counts() -> None:
    """The error is at most half of it, whichever way was the longer one."""
    clock = StoreClock(0)
    for at, (trip, there) in enumerate([(80, 0.9), (2, 0.1), (50, 0.0), (300, 1.0)]):
        assert reading(clock, at * SECOND, trip * _MS, there=there) == 0
    assert abs(clock.offset - _OFFSET) <= _MS


def test_an_old_reading_is_let_go_of() -> None:
    """Steady clocks drift."""
    clock = StoreClock(0)
    reading(clock, 0, 1)
    for at in range(1, 20):
        assert reading(clock, at * SECOND, _MS, offset=_OFFSET + 10 * _MS) == 0
    assert abs(clock.offset - _OFFSET - 10 * _MS) <= 1


@pytest.mark.parametrize("jump", [3600 * SECOND, -3600 * SECOND, 2 * SECOND])
def test_a_jump_is_told_once_and_followed(jump: int) -> None:
    clock = StoreClock(0)
    reading(clock, 0)
    assert reading(clock, SECOND, offset=_OFFSET + jump) == jump
    assert clock.offset == _OFFSET + jump
    assert reading(clock, 2 * SECOND, offset=_OFFSET + jump) == 0


def test_what_a_slow_answer_or_a_long_silence_explains_is_no_jump() -> None:
    clock = StoreClock(0)
    reading(clock, 0)
    assert reading(clock, SECOND, 20 * SECOND, there=1.0) == 0
    after_ten_hours = 36_000 * SECOND
    assert reading(clock, after_ten_hours, offset=_OFFSET + 20 * SECOND) == 0
