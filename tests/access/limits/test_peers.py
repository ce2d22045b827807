"""How many peers a source may have, in one swarm and in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.access.support import INFO_HASH, PEER_ID, Gate
from udptracker.access.limits.offenders import Offenders
from udptracker.access.limits.peers import SHARES, PeersRule
from udptracker.core import wire
from udptracker.core.networks import NetworkSet
from udptracker.core.reasons import TOO_MANY_PEERS, TOO_MANY_PEERS_IN_SWARM
from udptracker.core.swarm import IPV4, AnnounceOperation, Role
from udptracker.core.tracker import Question
from udptracker.core.wire import AnnounceRequest, Event

LIFETIME = 2100.0
V4, OTHER = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


class Bounds:
    """A rule with its clock."""

    def __init__(self, in_swarm: int = 0, in_all: int = 0, **options: Any) -> None:
        self.now = 1000.0
        self.limited = [0] * 12
        self.rule = PeersRule((8, 10), self.limited, Offenders(), lambda: self.now)
        self.use(in_swarm, in_all, **options)

    def use(
        self,
        in_swarm: int,
        in_all: int,
        *,
        enforced: bool = True,
        exempt: Sequence[str] = (),
        lifetime: float = LIFETIME,
        most: int = 100_000,
    ) -> None:
        self.rule.use(
            enforced=enforced,
            exempt=NetworkSet(exempt) if exempt else None,
            v6_bytes=8,
            in_swarm=in_swarm,
            in_all=in_all,
            lifetime=lifetime,
            most=most,
        )

    def announce(
        self, swarm: int, port: int, *, source: bytes = V4, event: Event = Event.NONE, peer_id: bytes = PEER_ID
    ) -> str:
        """What it is refused with, empty if it is not."""
        peer = peer_id + port.to_bytes(2, "big") + source
        operation = AnnounceOperation(IPV4, bytes((swarm,)) * 20, peer, Role.LEECHER, event, 50)
        question = Question(operation, b"", source, None)
        self.rule.judge([question])
        return question.refusal


class TestInOneSwarm:
    def test_so_many_and_no_more(self) -> None:
        bounds = Bounds(in_swarm=2)
        assert [bounds.announce(1, port) for port in (1, 2, 3, 2, 1)] == ["", "", TOO_MANY_PEERS_IN_SWARM, "", ""]
        assert bounds.announce(2, 3) == "", "another swarm"
        assert bounds.announce(1, 3, source=OTHER) == "", "another source"
        assert bounds.limited == [0] * 9 + [1, 0, 0]

    def test_one_alone(self) -> None:
        bounds = Bounds(in_swarm=1)
        assert [bounds.announce(1, port) for port in (1, 2, 1)] == ["", TOO_MANY_PEERS_IN_SWARM, ""]

    def test_a_peer_id_makes_another_peer(self) -> None:
        bounds = Bounds(in_swarm=1)
        assert bounds.announce(1, 1) == ""
        assert bounds.announce(1, 1, peer_id=bytes(20)) == TOO_MANY_PEERS_IN_SWARM


class TestInAll:
    def test_so_many_and_no_more(self) -> None:
        bounds = Bounds(in_all=2)
        assert [bounds.announce(swarm, 1) for swarm in (1, 2, 3, 2, 1)] == ["", "", TOO_MANY_PEERS, "", ""]
        assert bounds.announce(3, 1, source=OTHER) == ""
        assert bounds.limited == [0] * 11 + [1]

    def test_a_64_is_one_source(self) -> None:
        bounds = Bounds(in_all=1)
        assert bounds.announce(1, 1, source=bytes(15) + b"\1") == ""
        assert bounds.announce(1, 1, source=bytes(15) + b"\2") == TOO_MANY_PEERS
        assert bounds.announce(1, 1, source=bytes(7) + bytes((1,)) * 9) == ""


@pytest.mark.parametrize("bound", [{"in_swarm": 1}, {"in_all": 1}, {"in_swarm": 2}, {"in_all": 2}])
class TestPlaces:
    def fill(self, bounds: Bounds, bound: dict[str, int]) -> int:
        """Announce as many as there may be; the port that is next."""
        (most,) = bound.values()
        for port in range(most):
            assert bounds.announce(1, port) == ""
        assert bounds.announce(1, most)
        return most

    def test_who_stops_frees_its_own(self, bound: dict[str, int]) -> None:
        bounds = Bounds(**bound)
        port = self.fill(bounds, bound)
        assert bounds.announce(1, port, event=Event.STOPPED) == "", "who was never there frees none"
        assert bounds.announce(1, port)
        assert bounds.announce(1, 0, event=Event.STOPPED) == ""
        assert bounds.announce(1, port) == ""
        assert bounds.announce(1, 0)

    def test_who_is_not_heard_of_leaves(self, bound: dict[str, int]) -> None:
        bounds = Bounds(**bound)
        port = self.fill(bounds, bound)
        bounds.now += LIFETIME - 1
        for known in range(1, port):
            bounds.announce(1, known)
        assert bounds.announce(1, port)
        bounds.now += 2
        assert bounds.announce(1, port) == ""
        assert bounds.announce(1, 0)

    def test_where_it_is_watched_all_come_in(self, bound: dict[str, int]) -> None:
        bounds = Bounds(**bound, enforced=False)
        assert [bounds.announce(1, port) for port in range(10)] == [""] * 10
        (most,) = bound.values()
        assert sum(bounds.limited) == 10 - most
        assert bounds.rule.peers() == most

    def test_who_is_exempt_has_no_bound(self, bound: dict[str, int]) -> None:
        bounds = Bounds(**bound, exempt=["192.0.2.1"])
        assert [bounds.announce(1, port) for port in range(10)] == [""] * 10
        assert sum(bounds.limited) == 0

    def test_other_bounds_forget_nobody(self, bound: dict[str, int]) -> None:
        bounds = Bounds(**bound)
        port = self.fill(bounds, bound)
        bounds.use(port + 1, port + 1)
        assert bounds.announce(1, port) == ""
        assert bounds.announce(1, port + 1)


def test_a_bound_on_each_holds() -> None:
    bounds = Bounds(in_swarm=2, in_all=3)
    assert [bounds.announce(1, port) for port in range(3)] == ["", "", TOO_MANY_PEERS_IN_SWARM]
    assert [bounds.announce(2, port) for port in range(3)] == ["", TOO_MANY_PEERS, TOO_MANY_PEERS]


class TestMemory:
    def test_is_bounded_by_the_number_of_peers(self) -> None:
        bounds = Bounds(in_swarm=1, most=160)
        for number in range(5000):
            bounds.announce(number % 200, 1, source=(number // 7).to_bytes(4, "big"))
            assert bounds.rule.peers() <= 160 + 8 * 5, "and what a source has that is met again, in each table"

    def test_no_source_has_the_others_forgotten(self) -> None:
        bounds = Bounds(in_swarm=1, most=16 * SHARES)
        assert bounds.announce(1, 1) == ""
        for number in range(5000):
            assert bounds.announce(number % 250, number // 250, source=OTHER) in ("", TOO_MANY_PEERS_IN_SWARM)
        assert bounds.rule.peers() <= 17
        assert bounds.announce(1, 2) == TOO_MANY_PEERS_IN_SWARM

    def test_a_flood_of_sources_frees_none_that_goes_on(self) -> None:
        bounds = Bounds(in_swarm=1, most=3200)
        bounds.announce(1, 1)
        for number in range(5000):
            bounds.announce(1, 1, source=number.to_bytes(4, "big"))
            if number % 60 == 0:
                assert bounds.announce(1, 2) == TOO_MANY_PEERS_IN_SWARM

    def test_is_given_back(self) -> None:
        bounds = Bounds(in_swarm=9)
        for number in range(1000):
            bounds.announce(1, number % 2, source=(number // 2).to_bytes(4, "big"))
        assert bounds.rule.peers() == 1000
        for _ in range(2):
            bounds.now += LIFETIME
            bounds.announce(1, 1)
        assert bounds.rule.peers() == 1

    def test_of_those_that_stop_at_once(self) -> None:
        bounds = Bounds(in_swarm=9)
        for event in (Event.STARTED, Event.STOPPED):
            for number in range(1000):
                bounds.announce(1, number % 2, source=(number // 2).to_bytes(4, "big"), event=event)
        assert bounds.rule.peers() == 0


def test_scrapes_and_what_is_refused_already_are_left_alone() -> None:
    bounds = Bounds(in_swarm=1)
    gate = Gate([bounds.rule])
    request = AnnounceRequest(INFO_HASH, PEER_ID, 0, 1, 0, Event.STARTED, bytes(4), 0, -1, 6881)
    gate.ask(wire.encode_announce_request(bytes(8), 1, request), wire.encode_scrape_request(bytes(8), 2, [INFO_HASH]))
    gate.ask(wire.encode_announce_request(bytes(8), 3, request._replace(port=6882)))
    assert [gate.refusal(number) for number in (1, 2, 3)] == [None, None, TOO_MANY_PEERS_IN_SWARM]
    assert gate.counters.refused[TOO_MANY_PEERS_IN_SWARM] == 1
    operation = AnnounceOperation(IPV4, INFO_HASH, PEER_ID + bytes(6), Role.LEECHER, Event.NONE, 1)
    question = Question(operation, b"", OTHER, None)
    question.refuse("not you")
    bounds.rule.judge([question])
    assert (question.refusal, bounds.rule.peers()) == ("not you", 1)


class Model(RuleBasedStateMachine):
    """A few peers of a few sources in a few swarms that come, go and are not heard of, against plain dictionaries."""

    IN_SWARM, IN_ALL = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.bounds = Bounds(self.IN_SWARM, self.IN_ALL)
        self.heard: dict[tuple[int, int, int], float] = {}

    def of(self, source: int) -> list[tuple[int, int, int]]:
        return [key for key, heard in self.heard.items() if key[0] == source and heard + LIFETIME > self.bounds.now]

    @rule(source=st.integers(0, 1), swarm=st.integers(0, 2), port=st.integers(0, 3), stops=st.booleans())
    def announce(self, source: int, swarm: int, port: int, stops: bool) -> None:
        event = Event.STOPPED if stops else Event.NONE
        refusal = self.bounds.announce(swarm, port, source=bytes((source,)) * 4, event=event)
        key, held = (source, swarm, port), self.of(source)
        expected = ""
        if stops:
            self.heard.pop(key, None)
        elif key not in held:
            if len(held) >= self.IN_ALL:
                expected = TOO_MANY_PEERS
            elif len([one for one in held if one[1] == swarm]) >= self.IN_SWARM:
                expected = TOO_MANY_PEERS_IN_SWARM
        assert refusal == expected
        if not stops and not refusal:
            self.heard[key] = self.bounds.now

    @precondition(lambda self: self.heard)
    @rule(seconds=st.sampled_from([2.0, LIFETIME / 2, LIFETIME + 1]))
    def pause(self, seconds: float) -> None:
        self.bounds.now += seconds

    @invariant()
    def nobody_is_lost(self) -> None:
        alive = sum(len(self.of(source)) for source in range(2))
        assert alive <= self.bounds.rule.peers() <= len(self.heard)


Model.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestAgainstAModel = Model.TestCase
