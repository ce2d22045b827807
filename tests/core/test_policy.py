"""The pure decisions, each by itself."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udptracker.core import wire
from udptracker.core.networks import NetworkSet
from udptracker.core.policy import Policy, announced_address, interval, num_want_limit
from udptracker.core.swarm import FAMILIES, IPV4, IPV6
from udptracker.core.wire import COMPACT_BYTES

V4 = ip_address("192.0.2.1").packed
V6 = ip_address("2001:db8::1").packed
OTHER_V4 = ip_address("198.51.100.7").packed
OTHER_V6 = ip_address("2001:db8::7").packed

PAYLOAD = {IPV4: wire.MAX_PAYLOAD_IPV4, IPV6: wire.MAX_PAYLOAD_IPV6}


class TestNumWant:
    @pytest.mark.parametrize(
        ("policy", "family", "expected"),
        [
            (Policy(), IPV4, (50, 100)),
            (Policy(), IPV6, (50, 79)),
            (Policy(max_numwant=20), IPV4, (20, 20)),
            (Policy(default_numwant=1000, max_numwant=1000), IPV4, (242, 242)),
            (Policy(default_numwant=1000, max_numwant=1000), IPV6, (79, 79)),
            (Policy(default_numwant=0, max_numwant=0), IPV4, (0, 0)),
        ],
    )
    def test_default_and_maximum(self, policy: Policy, family: int, expected: tuple[int, int]) -> None:
        assert num_want_limit(policy, family) == expected

    @pytest.mark.parametrize("family", FAMILIES)
    def test_the_most_just_fits_a_datagram(self, family: int) -> None:
        _, most = num_want_limit(Policy(max_numwant=10**6), family)
        size = wire.ANNOUNCE_RESPONSE_BYTES + most * COMPACT_BYTES[family]
        assert size <= PAYLOAD[family] < size + COMPACT_BYTES[family]


class TestInterval:
    @given(st.floats(0, 1, exclude_max=True))
    def test_without_jitter_it_is_what_was_configured(self, draw: float) -> None:
        assert interval(Policy(announce_interval=900), draw) == 900

    @given(st.floats(0, 1, exclude_max=True), st.integers(0, 3600))
    def test_jitter_adds_up_to_its_own_length(self, draw: float, jitter: int) -> None:
        assert 900 <= interval(Policy(announce_interval=900, interval_jitter=jitter), draw) <= 900 + jitter

    def test_the_ends_are_reached(self) -> None:
        policy = Policy(announce_interval=900, interval_jitter=60)
        assert interval(policy, 0.0) == 900
        assert interval(policy, 0.999999) == 960


class TestAnnouncedAddress:
    @pytest.mark.parametrize(("source", "field"), [(V4, OTHER_V4), (V6, OTHER_V6)])
    def test_a_field_of_the_same_family_is_believed(self, source: bytes, field: bytes) -> None:
        assert announced_address(source, field) == field

    @pytest.mark.parametrize(("source", "field"), [(V4, bytes(4)), (V6, bytes(16)), (V4, OTHER_V6), (V6, OTHER_V4)])
    def test_zeros_and_the_other_family_are_not(self, source: bytes, field: bytes) -> None:
        assert announced_address(source, field) == source

    @pytest.mark.parametrize(
        "field",
        [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "169.254.255.255",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:198.51.100.7",
            "::198.51.100.7",
            "fe80::1",
            "febf:ffff::1",
            "ff02::1",
            "ff0e::c",
            "0:0:0:0:1::",
            "1::",
            "ff::1",
            "::ffff:0:198.51.100.7",
            "64:ff9b::127.0.0.1",
            "64:ff9b::255.255.255.255",
            "64:ff9b:1::198.51.100.7",
            "2002:7f00:1::1",
            "2002:e000:1::1",
            "2002:a9fe:1::1",
            "2002::1",
            "2001:0:c633:6407::80ff:fffe",
            "2001:0:c633:6407::1fff:fffe",
            "2001:0:c633:6407::",
            "2001:db8::5efe:127.0.0.1",
            "2001:db8::200:5efe:224.0.0.1",
        ],
    )
    def test_what_is_no_address_of_one_host_for_all_is_not_believed(self, field: str) -> None:
        packed = ip_address(field).packed
        source = V4 if len(packed) == 4 else V6
        assert announced_address(source, packed) == source

    @pytest.mark.parametrize(
        "field",
        [
            "1.0.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.0.1",
            "169.255.0.1",
            "223.255.255.255",
            "10.0.0.1",
            "100::1",
            "64:ff9b::198.51.100.7",
            "2002:c633:6407::1",
            "2001:0:c633:6407::39cc:9bf8",
            "2001:1::80ff:fffe",
            "2001:db8::5efe:198.51.100.7",
            "2001:db8::100:5efe:127.0.0.1",
            "fd00::1",
            "fec0::1",
            "feff::1",
        ],
    )
    def test_their_neighbours_are(self, field: str) -> None:
        packed = ip_address(field).packed
        assert announced_address(V4 if len(packed) == 4 else V6, packed) == packed

    @given(st.integers(0, 2**32 - 1) | st.integers(0, 2**128 - 1))
    def test_whatever_is_believed_is_no_such_address(self, number: int) -> None:
        address = ip_address(number)
        believed = announced_address(V4 if address.version == 4 else V6, address.packed) == address.packed
        if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
            assert not believed

    @pytest.mark.parametrize(
        ("source", "believed"),
        [
            ("10.255.0.1", True),
            ("11.0.0.1", False),
            ("192.0.2.7", True),
            ("192.0.2.8", False),
            ("fd00::1", True),
            ("fe00::1", False),
        ],
    )
    def test_it_can_be_for_senders_of_given_networks(self, source: str, believed: bool) -> None:
        networks = NetworkSet(["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"])
        packed = ip_address(source).packed
        field = OTHER_V4 if len(packed) == 4 else OTHER_V6
        assert announced_address(packed, field, networks) == (field if believed else packed)

    def test_and_of_a_family_without_any_for_nobody(self) -> None:
        assert announced_address(V6, OTHER_V6, NetworkSet(["0.0.0.0/0"])) == V6
        assert announced_address(V4, OTHER_V4, NetworkSet(["::/0"])) == V4

    def test_an_ipv4_mapped_field_is_of_the_other_family(self) -> None:
        assert announced_address(V6, ip_address("::ffff:198.51.100.7").packed) == V6
