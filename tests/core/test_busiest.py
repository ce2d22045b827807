"""Which swarms announce most, from one question of each turn."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from udptracker.core.busiest import BusiestSwarms, BusySwarm, busiest_of
from udptracker.core.swarm import IPV4, AnnounceOperation, Role, ScrapeOperation
from udptracker.core.tracker import Question
from udptracker.core.wire import Event


def swarm(number: int) -> bytes:
    return number.to_bytes(20, "big")


def heard(turns: list[list[int]], seed: int = 1) -> BusiestSwarms:
    """After these turns, each a list of the swarms that announced in it, all at time 0."""
    draw = random.Random(seed).random
    busiest = BusiestSwarms(draw, 0.0)
    for turn in turns:
        busiest.count(swarm(turn[busiest.pick(len(turn))]), len(turn))
    return busiest


def test_a_turn_of_one_is_counted_exactly() -> None:
    busiest = heard([[1]] * 5 + [[2]] * 3)
    assert busiest.most(10, 60.0) == [(swarm(1), 5.0), (swarm(2), 3.0)]
    assert busiest.most(1, 60.0) == [(swarm(1), 5.0)]
    assert busiest.most(0, 60.0) == []


def test_long_turns_are_counted_right_on_average() -> None:
    rng = random.Random(2)
    announces = [1] * 30_000 + [2] * 10_000 + [3] * 5_000 + list(range(100, 15_100))
    rng.shuffle(announces)
    busiest = heard([announces[at : at + 30] for at in range(0, len(announces), 30)])
    found = dict(busiest.most(3, 60.0))
    assert found[swarm(1)] == pytest.approx(30_000, rel=0.15)
    assert found[swarm(2)] == pytest.approx(10_000, rel=0.3)
    assert found[swarm(3)] == pytest.approx(5_000, rel=0.4)


def test_the_busiest_are_found_among_more_swarms_than_are_kept_in_bounded_memory() -> None:
    rng = random.Random(3)
    tracemalloc.start()
    try:
        busiest = heard([[rng.randrange(10) if rng.random() < 0.1 else rng.randrange(10**6)] for _ in range(200_000)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {hash_ for hash_, _ in busiest.most(10, 60.0)} == {swarm(number) for number in range(10)}
    assert held < 2_000_000


def test_rates_are_of_the_last_minute() -> None:
    busiest = heard([[1]] * 60)
    assert busiest.most(1, 30.0) == [(swarm(1), 120.0)], "half a minute is all there is to go by"
    busiest.advance(59.0)
    assert busiest.most(1, 60.0) == [(swarm(1), 60.0)]
    busiest.advance(60.0)
    busiest.count(swarm(2), 10)
    assert busiest.most(2, 90.0) == [(swarm(1), 30.0), (swarm(2), 10.0)]
    busiest.advance(120.0)
    assert busiest.most(2, 120.0) == [(swarm(2), 10.0)]
    busiest.advance(1000.0)
    assert busiest.most(2, 1000.0) == []


def test_workers_announces_add_up_and_their_peers_do_not() -> None:
    first = [BusySwarm("aa", 10.0, 5, 6), BusySwarm("bb", 8.0, 1, 1)]
    second = [BusySwarm("aa", 1.0, 7, 2), BusySwarm("cc", 9.0, 0, 0)]
    assert busiest_of([first, second], 2) == [BusySwarm("aa", 11.0, 7, 6), BusySwarm("cc", 9.0, 0, 0)]
    assert busiest_of([], 2) == []


def test_of_a_turn_one_announce_counts_for_all_questions() -> None:
    busiest = BusiestSwarms(lambda: 0.99, 0.0)
    announced = AnnounceOperation(IPV4, bytes(20), bytes(26), Role.LEECHER, Event.NONE, 0)
    asked = [Question(operation, b"", b"", None) for operation in (ScrapeOperation(IPV4, [bytes(20)]), announced)]
    busiest.see(asked)
    assert busiest.most(5, 60.0) == [(bytes(20), 2.0)]
    busiest.see(asked[:1])
    assert busiest.most(5, 60.0) == [(bytes(20), 2.0)]


def test_a_thousand_looks_a_second_are_enough_and_every_announce_counts() -> None:
    rng = random.Random(5)
    drawn: list[float] = []

    def draw() -> float:
        drawn.append(rng.random())
        return drawn[-1]

    busiest = BusiestSwarms(draw, 0.0)
    swarms = [swarm(number) for number in (1, 1, 1, 2)]
    for second in range(10):
        drawn.clear()
        for _ in range(5000):
            turn = [
                AnnounceOperation(IPV4, rng.choice(swarms), bytes(26), Role.LEECHER, Event.NONE, 0) for _ in range(4)
            ]
            busiest.see([Question(operation, b"", b"", None) for operation in turn])
        busiest.advance(second + 1.0)
    assert 500 <= len(drawn) <= 1100
    found = dict(busiest.most(2, 60.0))
    assert sum(found.values()) == pytest.approx(200_000, rel=0.001)
    assert found[swarm(1)] == pytest.approx(150_000, rel=0.05)
    busiest.advance(100.0)
    busiest.advance(101.0)
    drawn.clear()
    for _ in range(10):
        busiest.see([Question(turn[0], b"", b"", None), Question(turn[1], b"", b"", None)])
    assert len(drawn) == 10, "when little comes, all of it is looked at"
