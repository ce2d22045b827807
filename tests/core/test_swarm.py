"""The packed peer key: sizes and order of its parts, in both families."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udptracker.core.swarm import (
    FAMILIES,
    IPV4,
    IPV6,
    PEER_KEY_BYTES,
    Role,
    compact_endpoint,
    pack_peer_v4,
    pack_peer_v6,
    without_endpoint,
    without_unreachable,
)
from udptracker.core.wire import COMPACT_BYTES

PEER_ID = b"-UT0001-abcdefghijkl"


def test_the_key_is_peer_id_then_port_then_address() -> None:
    v4 = pack_peer_v4(PEER_ID, 6881, ip_address("192.0.2.1").packed)
    v6 = pack_peer_v6(PEER_ID, 6881, ip_address("2001:db8::1").packed)
    assert v4 == PEER_ID + b"\x1a\xe1" + b"\xc0\x00\x02\x01"
    assert v6 == PEER_ID + b"\x1a\xe1" + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"
    assert (len(v4), len(v6)) == (PEER_KEY_BYTES[IPV4], PEER_KEY_BYTES[IPV6]) == (26, 38)


@pytest.mark.parametrize("family", FAMILIES)
@given(st.data())
def test_an_endpoint_is_address_then_port(family: int, data: st.DataObject) -> None:
    size = {IPV4: 4, IPV6: 16}[family]
    address = data.draw(st.binary(min_size=size, max_size=size))
    port = data.draw(st.integers(min_value=0, max_value=65535))
    pack = {IPV4: pack_peer_v4, IPV6: pack_peer_v6}[family]
    endpoint = compact_endpoint(pack(PEER_ID, port, address))
    assert endpoint == address + port.to_bytes(2, "big")
    assert len(endpoint) == COMPACT_BYTES[family]


@pytest.mark.parametrize("family", FAMILIES)
@given(st.data())
def test_an_endpoint_is_taken_out_of_joined_ones_only_where_it_is_one(family: int, data: st.DataObject) -> None:
    width = COMPACT_BYTES[family]
    few_bytes = st.sampled_from([b"\0", b"\1"])  # so that the same bytes also lie across two endpoints
    endpoint = st.lists(few_bytes, min_size=width, max_size=width).map(b"".join)
    endpoints = data.draw(st.lists(endpoint, unique=True, max_size=8))
    leaving = data.draw(endpoint)
    kept = [each for each in endpoints if each != leaving]
    assert without_endpoint(b"".join(endpoints), leaving, family) == b"".join(kept)


@pytest.mark.parametrize("family", FAMILIES)
@given(st.data())
def test_those_that_say_port_1_are_taken_out_of_joined_endpoints(family: int, data: st.DataObject) -> None:
    width = COMPACT_BYTES[family]
    few_bytes = st.sampled_from([b"\0", b"\1"])  # so that the same bytes also lie elsewhere in and across endpoints
    endpoint = st.lists(few_bytes, min_size=width, max_size=width).map(b"".join)
    endpoints = data.draw(st.lists(endpoint, max_size=8))
    kept = [each for each in endpoints if int.from_bytes(each[-2:], "big") != 1]
    assert without_unreachable(b"".join(endpoints), family) == b"".join(kept)


def test_roles_are_two() -> None:
    assert list(Role) == [Role.SEEDER, Role.LEECHER]
