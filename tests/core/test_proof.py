"""Who is proven by a connection id, and what becomes of whoever is not."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.driven import (
    ARRIVED,
    BAD_ID,
    DROPS,
    MAPPED,
    NOW,
    REFUSALS,
    TRANSACTION,
    UNPROVEN,
    V4,
    V6,
    Core,
    packed,
    refusal,
    request,
    sources,
)
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.tracker import Question, Tracker
from udptracker.core.wire import Action


class TestConnect:
    @pytest.mark.parametrize("host", [V4, V6, MAPPED])
    def test_issues_an_id_for_the_source(self, core: Core, host: str) -> None:
        reply = core.receive(wire.encode_connect_request(TRANSACTION), host)
        assert reply == pack(">II", 0, TRANSACTION) + core.id_for(host)
        assert core.counters.requests == [int(host != V6), int(host == V6), 0, 0, 0, 0]

    def test_what_follows_the_16_bytes_changes_nothing(self, core: Core) -> None:
        plain = wire.encode_connect_request(TRANSACTION)
        assert core.receive(plain + bytes(200)) == core.receive(plain)

    @pytest.mark.parametrize("magic", [bytes(8), b"\xff" * 8, (0x41727101980 + 1).to_bytes(8, "big")])
    def test_without_the_magic_there_is_silence(self, core: Core, magic: bytes) -> None:
        assert core.receive(magic + pack(">II", 0, TRANSACTION)) is None
        assert core.counters.dropped == DROPS | {"connect without magic": 1}

    def test_a_connection_id_is_no_magic(self, core: Core) -> None:
        assert core.proven(Action.CONNECT, b"") is None

    @pytest.mark.parametrize("size", range(16))
    def test_short_packets_are_met_with_silence(self, core: Core, size: int) -> None:
        assert core.receive(wire.encode_connect_request(TRANSACTION)[:size]) is None
        assert core.counters.dropped == DROPS | {"short packet": 1}


class TestUnproven:
    """A sender without a good connection id is answered with nothing longer than what it sent."""

    @sources
    @pytest.mark.parametrize("action", [1, 2, 3, 4, 5, 0xFFFFFFFF])
    def test_a_long_packet_is_refused(self, core: Core, host: str, action: int) -> None:
        reply = core.receive(bytes(8) + pack(">II", action, TRANSACTION) + bytes(98), host)
        assert reply == refusal("bad connection ID")
        assert core.counters.refused == REFUSALS | {"bad connection ID": 1}

    @pytest.mark.parametrize(("size", "answered"), [(16, False), (25, False), (26, True), (27, True)])
    def test_a_refusal_is_never_longer_than_its_cause(self, core: Core, size: int, answered: bool) -> None:
        reply = core.receive((bytes(8) + pack(">II", 2, TRANSACTION)).ljust(size, b"\0"))
        assert reply == (refusal("bad connection ID") if answered else None)
        assert core.counters.refused["bad connection ID"] == int(answered)
        assert core.counters.dropped["bad connection ID"] == int(not answered)

    @pytest.mark.parametrize(("issued_to", "used_by"), [(V4, "192.0.2.2"), (V4, V6), (V6, V4), (V6, "2001:db8::2")])
    def test_the_id_of_another_address_proves_nothing(self, core: Core, issued_to: str, used_by: str) -> None:
        data = wire.encode_announce_request(core.id_for(issued_to), TRANSACTION, request())
        assert core.receive(data, used_by) == refusal("bad connection ID")

    def test_an_id_expires(self, core: Core) -> None:
        data = wire.encode_announce_request(core.id_for(V4), TRANSACTION, request())
        assert isinstance(core.receive(data, V4, NOW + 119), Question)
        assert core.receive(data, V4, NOW + 121) == refusal("bad connection ID")

    @given(st.binary(max_size=200), st.sampled_from([V4, V6, MAPPED, "fe80::1%lo"]))
    def test_any_bytes_amplify_nothing(self, data: bytes, host: str) -> None:
        reply = Core().receive(data, host)
        assert reply is None or (isinstance(reply, bytes) and len(reply) <= len(data))

    @given(st.integers(0, 2**32 - 1), st.binary(max_size=200))
    def test_any_request_amplifies_nothing(self, action: int, body: bytes) -> None:
        data = wire.PROTOCOL_ID + pack(">II", action, TRANSACTION) + body
        reply = Core().receive(data)
        assert reply is None or (isinstance(reply, bytes) and len(reply) <= len(data))


def test_refusals_are_told_to_whoever_wants_to_know() -> None:
    told: list[tuple[str, bytes]] = []
    counters = Counters()
    tracker = Tracker(
        ConnectionIds([b"secret"]), Policy(), lambda: 0.0, counters, lambda *refusal: told.append(refusal)
    )
    source = packed(V4)
    for _ in range(2):
        tracker.receive([(UNPROVEN, source, None)], NOW, ARRIVED)
    assert told == [(BAD_ID, source)]


class TestRepeatedRefusals:
    """A client that repeats a refused announce at once, for ever, is met with silence, in which it connects anew."""

    def test_one_a_minute_for_each_address(self, core: Core) -> None:
        refused = [core.receive(UNPROVEN, V4, NOW + at) is not None for at in (0, 0.001, 30, 59, 130, 131)]
        assert refused == [True, False, False, False, True, False]
        assert core.receive(UNPROVEN, V6, NOW + 59) == refusal(BAD_ID)
        assert core.counters.dropped[BAD_ID] == 4

    def test_even_one_that_never_stops_is_told_now_and_then(self, core: Core) -> None:
        told = sum(core.receive(UNPROVEN, V4, NOW + at) is not None for at in range(3600))
        assert 20 <= told <= 60

    def test_what_is_remembered_is_bounded(self, core: Core) -> None:
        for number in range(200_000):
            core.tracker.receive([(UNPROVEN, number.to_bytes(4, "big"), None)], NOW, ARRIVED)
        assert core.counters.refused[BAD_ID] == 200_000
