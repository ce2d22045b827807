"""When a socket is read at a pace, by times that are arguments."""

from __future__ import annotations

import pytest

from udptracker.net.pace import Pace


def turns(pace: Pace, datagrams: int, apart: int, count: int, start: int = 0) -> list[bool]:
    """What a pace says after each of so many turns of `datagrams`, nanoseconds apart."""
    return [pace.is_kept(datagrams, start + apart * number) for number in range(1, count + 1)]


class TestWhenAPaceIsKept:
    def test_while_datagrams_come_far_apart(self) -> None:
        assert turns(Pace(0.001, 0), 1, 200_000, 100)[-10:] == [True] * 10

    def test_not_at_first_sight(self) -> None:
        assert turns(Pace(0.001, 0), 1, 200_000, 50) == [False] * 50

    def test_not_while_they_are_rare(self) -> None:
        assert not any(turns(Pace(0.001, 0), 1, 600_000, 100))

    def test_not_while_they_are_many(self) -> None:
        assert not any(turns(Pace(0.001, 0), 10, 200_000, 200))

    def test_a_pace_that_gathers_many_is_given_up(self) -> None:
        pace = Pace(0.001, 0)
        turns(pace, 1, 200_000, 100)
        assert turns(pace, 60, 1_100_000, 20, start=20_000_000)[-10:] == [False] * 10

    @pytest.mark.parametrize("received", [0, 64])
    def test_not_after_a_turn_that_found_nothing_or_left_some(self, received: int) -> None:
        pace = Pace(0.001, 0)
        turns(pace, 1, 200_000, 100)
        assert pace.is_kept(received, 20_100_000) is False
        assert pace.is_kept(1, 20_200_000) is True

    def test_never_without_one(self) -> None:
        assert not any(turns(Pace(0.0, 0), 1, 200_000, 200))
