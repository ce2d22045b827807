"""Which networks an address is in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udptracker.core.networks import NetworkSet

V4 = st.builds(
    lambda number, bits: IPv4Network((number >> bits << bits, 32 - bits)), st.integers(0, 15), st.integers(0, 32)
)
V6 = st.builds(
    lambda number, bits: IPv6Network((number >> bits << bits, 128 - bits)), st.integers(0, 15), st.integers(0, 128)
)


@given(st.lists(V4 | V6), st.integers(0, 31))
def test_an_address_is_in_those_that_have_it(networks: list[IPv4Network | IPv6Network], number: int) -> None:
    found = NetworkSet(map(str, networks))
    for address in (IPv4Address(number), IPv6Address(number)):
        assert found.have(address.packed) == any(address in network for network in networks)


def test_none_have_anybody() -> None:
    assert not NetworkSet([]).have(bytes(4))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "ten", ""])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        NetworkSet([text])


def test_one_of_mapped_addresses_is_the_ipv4_one() -> None:
    assert NetworkSet(["::ffff:10.0.0.0/104"]).have(bytes((10, 1, 2, 3)))
