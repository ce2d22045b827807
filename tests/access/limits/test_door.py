"""Token buckets of sources: how much they grant, to whom, and what becomes of them when many come."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udptracker.access.limits.door import PROVEN_SECONDS, Door, Limit
from udptracker.access.limits.offenders import Offenders, shown
from udptracker.core.counters import ANNOUNCED, CONNECTED, REFUSED, SCRAPED
from udptracker.core.networks import NetworkSet

NOW = 1_700_000_000.0
KINDS = (CONNECTED, ANNOUNCED, SCRAPED, REFUSED)
REASONS = {CONNECTED: "connects", ANNOUNCED: "announces", SCRAPED: "scrapes", REFUSED: "bad ids"}


def packed(host: str) -> bytes:
    return ip_address(host).packed


V4, OTHER = packed("192.0.2.1"), packed("192.0.2.2")


class Entrance:
    """A door with one rate and burst for every kind of request."""

    def __init__(
        self,
        per_minute: int = 60,
        burst: int = 3,
        *,
        enforced: bool = True,
        exempt: Sequence[str] = (),
        v6_bytes: Sequence[int] = (8,),
        most: int = 1000,
    ) -> None:
        self.limited = [0] * 8
        self.offenders = Offenders()
        self.limits = [
            Limit(
                2 * kind, REASONS[kind], is_proven=kind in (ANNOUNCED, SCRAPED), is_first=kind in (CONNECTED, ANNOUNCED)
            )
            for kind in KINDS
        ]
        self.door = Door(self.limits, self.limited, self.offenders)
        self.use(per_minute, burst, enforced=enforced, exempt=exempt, v6_bytes=v6_bytes, most=most)

    def use(
        self,
        per_minute: int,
        burst: int,
        *,
        enforced: bool = True,
        exempt: Sequence[str] = (),
        v6_bytes: Sequence[int] = (8,),
        most: int = 1000,
    ) -> None:
        for limit in self.limits:
            limit.use(60 / per_minute if per_minute else 0.0, burst)
        networks = NetworkSet(exempt) if exempt else None
        self.door.use(enforced=enforced, exempt=networks, v6_bytes=v6_bytes, most=most)

    def let_in(self, kind: int, source: bytes = V4, now: float = NOW, times: int = 10) -> int:
        """How many of so many at one moment come in."""
        answers = [self.door.admit(kind, source, now) for _ in range(times)]
        assert set(answers) <= {None, REASONS[kind]}
        return answers.count(None)


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_a_burst_and_then_the_rate(self, kind: int) -> None:
        entrance = Entrance(60, 3)
        assert entrance.let_in(kind) == 3
        assert entrance.let_in(kind, now=NOW + 0.9) == 0
        assert entrance.let_in(kind, now=NOW + 1) == 1
        assert entrance.let_in(kind, now=NOW + 3) == 2
        assert entrance.let_in(kind, now=NOW + 1000) == 3

    def test_others_have_their_own(self, kind: int) -> None:
        entrance = Entrance()
        entrance.let_in(kind)
        assert entrance.let_in(kind, OTHER) == 3
        for other in {*KINDS} - {kind, CONNECTED}:
            assert entrance.let_in(other) == 3

    def test_what_is_over_is_counted_with_its_source(self, kind: int) -> None:
        entrance = Entrance()
        entrance.let_in(kind)
        assert entrance.limited == [7 if place == 2 * kind + 1 else 0 for place in range(8)]
        assert entrance.offenders.take(9) == [(V4, 7)]

    def test_where_it_is_watched_all_come_in(self, kind: int) -> None:
        entrance = Entrance(enforced=False)
        assert entrance.let_in(kind) == 10
        assert entrance.limited == [7 if place == 2 * kind else 0 for place in range(8)]

    def test_no_rate_is_no_limit(self, kind: int) -> None:
        assert Entrance(0).let_in(kind) == 10

    def test_who_is_exempt_has_none(self, kind: int) -> None:
        entrance = Entrance(exempt=["192.0.2.1/32", "2001:db8:0:0:1::/80"])
        assert entrance.let_in(kind) == 10
        assert entrance.let_in(kind, OTHER) == 3
        assert entrance.let_in(kind, packed("2001:db8::1:0:0:1")) == 10
        assert entrance.let_in(kind, packed("2001:db8::2:0:0:1")) == 0, "of its neighbour in the /64"
        assert entrance.limited[2 * kind + 1] == 17

    def test_a_clock_that_goes_back_costs_no_more_than_a_bucket(self, kind: int) -> None:
        entrance = Entrance(60, 3)
        entrance.let_in(kind)
        before = NOW - 86_400
        assert entrance.let_in(kind, now=before) == 0
        assert entrance.let_in(kind, now=before + 1) == 1
        assert entrance.let_in(kind, now=before + 4) == 3
        assert entrance.let_in(kind, OTHER, now=before) == 3

    def test_one_that_goes_ahead_costs_nothing(self, kind: int) -> None:
        entrance = Entrance(60, 3)
        entrance.let_in(kind)
        assert entrance.let_in(kind, now=NOW + 86_400) == 3

    def test_other_limits_forget_no_bucket(self, kind: int) -> None:
        entrance = Entrance(60, 100)
        assert entrance.let_in(kind, times=100) == 100
        entrance.use(60, 3)
        assert entrance.let_in(kind) == 0
        assert entrance.let_in(kind, now=NOW + 1) == 1
        entrance.use(6000, 3)
        assert entrance.let_in(kind, now=NOW + 1.01) == 0
        assert entrance.let_in(kind, now=NOW + 1.02) == 1
        entrance.use(60, 200)
        assert entrance.let_in(kind, now=NOW + 1.02, times=300) == 199

    def test_a_64_is_one_source(self, kind: int) -> None:
        entrance = Entrance()
        assert [entrance.let_in(kind, packed(host)) for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")] == [
            3,
            0,
            3,
        ]
        assert shown(entrance.offenders.take(1)[0][0]) == "2001:db8::/64"

    def test_so_are_the_wider_networks_that_are_asked_for(self, kind: int) -> None:
        entrance = Entrance(60, 1, v6_bytes=(8, 7, 6))
        sources = [packed(f"2001:db8:0:{number:x}::1") for number in range(0x200)]
        assert sum(entrance.let_in(kind, source) for source in sources[:0x100]) == 8, "a /56 is 8 of them"
        assert sum(entrance.let_in(kind, source) for source in sources) == 8, "a /48 is 16"
        assert entrance.let_in(kind, packed("2001:db8:0:fff::1")) == 0
        assert entrance.let_in(kind, packed("2001:db8:1::1")) == 1
        names = [shown(source) for source, _ in entrance.offenders.take(2000)]
        assert {"2001:db8::/48", "2001:db8::/56"} <= set(names)

    def test_whoever_a_wider_one_has_no_room_for_takes_nothing(self, kind: int) -> None:
        entrance = Entrance(60, 1, v6_bytes=(8, 6))
        for number in range(16):
            assert entrance.let_in(kind, packed(f"2001:db8:0:{number:x}::1"), times=1) == 1
        last = packed("2001:db8:0:ff::1")
        assert entrance.let_in(kind, last) == 0
        entrance.use(60, 1, v6_bytes=(8,))
        assert entrance.let_in(kind, last) == 1


class TestForgedAddresses:
    """An address that is not proven may be anybody's."""

    @pytest.mark.parametrize("source", [V4, packed("2001:db8::1")])
    def test_connects_and_bad_ids_in_its_name_keep_no_proven_request_out(self, source: bytes) -> None:
        entrance = Entrance(60, 3)
        for kind in (CONNECTED, REFUSED):
            entrance.let_in(kind, source, times=1000)
        for kind in (ANNOUNCED, SCRAPED):
            assert entrance.let_in(kind, source) == 3

    @pytest.mark.parametrize("source", [V4, packed("2001:db8::1")])
    @pytest.mark.parametrize("kind", [ANNOUNCED, SCRAPED])
    @pytest.mark.parametrize("rate", [0, 60])
    def test_nor_its_connects_once_it_was_proven(self, source: bytes, kind: int, rate: int) -> None:
        entrance = Entrance(rate, 3)
        entrance.limits[CONNECTED].use(1.0, 3)
        assert entrance.let_in(CONNECTED, source, times=1000) == 3
        entrance.let_in(kind, source, times=1)
        assert entrance.let_in(CONNECTED, source, times=1000) == 1000
        later = NOW + PROVEN_SECONDS
        assert entrance.let_in(CONNECTED, source, now=later, times=1000) == 1000
        assert entrance.let_in(CONNECTED, source, now=NOW + 3 * PROVEN_SECONDS, times=1000) == 3

    def test_a_flood_of_them_frees_no_proven_offender(self) -> None:
        entrance = Entrance(60, 3, most=100)
        assert entrance.let_in(ANNOUNCED) == 3
        for number in range(10_000):
            for kind in (CONNECTED, REFUSED):
                entrance.door.admit(kind, number.to_bytes(4, "big"), NOW)
        assert entrance.let_in(ANNOUNCED) == 0

    def test_nor_one_that_goes_on_meanwhile(self) -> None:
        entrance = Entrance(60, 3, most=100)
        entrance.let_in(CONNECTED)
        for number in range(10_000):
            entrance.door.admit(CONNECTED, number.to_bytes(4, "big"), NOW)
            if number % 40 == 0:
                assert entrance.let_in(CONNECTED) == 0


class TestMemory:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [4, 16])
    def test_is_bounded_whoever_comes(self, kind: int, size: int) -> None:
        entrance = Entrance(v6_bytes=(8, 7, 6), most=100)
        for number in range(5000):
            entrance.door.admit(kind, number.to_bytes(4, "big").ljust(size, b"\1"), NOW + number / 1000)
            assert entrance.door.sources() <= 100 + 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_given_back(self, kind: int) -> None:
        entrance = Entrance(most=100_000)
        for number in range(1000):
            entrance.door.admit(kind, number.to_bytes(4, "big"), NOW)
        entrance.door.admit(kind, V4, NOW + 3 * PROVEN_SECONDS)
        assert entrance.door.sources() == 1

    def test_of_offenders_is_bounded_and_keeps_the_worst(self) -> None:
        offenders = Offenders()
        for number in range(100_000):
            offenders.add(number.to_bytes(4, "big"))
            offenders.add(V4)
            assert len(offenders) <= 1024
        assert offenders.take(1) == [(V4, 100_000)]
        assert len(offenders) == 0


@settings(max_examples=200)
@given(
    per_minute=st.integers(1, 100_000),
    burst=st.integers(1, 50),
    kind=st.sampled_from(KINDS),
    pauses=st.lists(st.floats(0, 5) | st.just(0.0), max_size=200),
)
def test_never_more_than_a_burst_and_the_rate_nor_less(
    per_minute: int, burst: int, kind: int, pauses: list[float]
) -> None:
    """Against a bucket of tokens as in a book, of which two readings may differ by a rounding error at the brim."""
    entrance = Entrance(per_minute, burst)
    tokens, now, granted = float(burst), NOW, 0
    for pause in pauses:
        tokens = min(tokens + pause * per_minute / 60, burst)
        now += pause
        if entrance.door.admit(kind, V4, now) is None:
            assert tokens > 1 - 0.01
            tokens -= 1
            granted += 1
        else:
            assert tokens < 1 + 0.01
    assert granted <= burst + (now - NOW) * per_minute / 60 + 0.01
