"""Connection ids against fixed vectors and against a second implementation, written the plain way."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udptracker.core.connection_id import ConnectionIds

LIFETIME = 120.0
SKEW = 10.0
ISSUED = 1_420_070_400
"""2015-01-01T00:00:00Z, in Unix seconds."""

V4 = ip_address("192.0.2.1").packed
V6 = ip_address("2001:db8::1").packed

# Made with `printf ... | openssl dgst -sha256 -mac HMAC -macopt hexkey:...`, not with the code under test.
VECTORS = [
    (b"secret", "192.0.2.1", 1_420_070_400, "54a48e00091ce364"),
    (b"secret", "2001:db8::1", 1_420_070_400, "54a48e00701307db"),
    (b"another secret", "192.0.2.1", 1_420_070_400, "54a48e0057df4003"),
    (b"secret", "192.0.2.1", 1_420_070_401, "54a48e0157b77a0f"),
    (b"secret", "0.0.0.0", 0, "00000000f5199896"),
    (b"secret", "255.255.255.255", 0xFFFFFFFF, "ffffffffb8ffc563"),
    (b"x" * 64, "192.0.2.1", 1_420_070_400, "54a48e00b20cb898"),
    (b"x" * 65, "192.0.2.1", 1_420_070_400, "54a48e0025ac3cb7"),
]

keys = st.binary(min_size=1, max_size=200)
exactly_four = st.binary(min_size=4, max_size=4)
addresses = exactly_four | st.binary(min_size=16, max_size=16)
times = st.integers(min_value=0, max_value=2**32 - 1)


def plain(key: bytes, address: bytes, now: int) -> bytes:
    """The scheme as its description reads."""
    issued = now.to_bytes(4, "big")
    return issued + hmac.new(key, issued + address, hashlib.sha256).digest()[:4]


def ids(*accepted: bytes) -> ConnectionIds:
    return ConnectionIds(accepted or (b"secret",), LIFETIME, SKEW)


@pytest.mark.parametrize(("key", "host", "now", "expected"), VECTORS)
def test_fixed_vectors(key: bytes, host: str, now: int, expected: str) -> None:
    address = ip_address(host).packed
    assert ids(key).issue(address, now).hex() == expected
    assert ids(key).valid(bytes.fromhex(expected), address, now)


@given(keys, addresses, times)
def test_equal_to_the_plain_implementation(key: bytes, address: bytes, now: int) -> None:
    issued = ids(key).issue(address, now)
    assert issued == plain(key, address, now)
    assert ids(key).valid(issued, address, now)


@given(addresses, st.integers(min_value=200, max_value=2**32 - 201), st.integers(-200, 200), exactly_four | st.none())
def test_accepts_exactly_what_the_plain_implementation_issues(
    address: bytes, issued: int, age: int, tag: bytes | None
) -> None:
    """Right tag and right time, or refused; `tag` is a guess, or none for the right one."""
    right = plain(b"secret", address, issued)
    presented = right if tag is None else right[:4] + tag
    expected = presented == right and -SKEW <= age <= LIFETIME
    assert ids().valid(presented, address, issued + age) == expected


@given(st.integers(min_value=0, max_value=63))
def test_one_flipped_bit_is_refused(bit: int) -> None:
    issued = int.from_bytes(ids().issue(V4, ISSUED), "big")
    assert not ids().valid((issued ^ 1 << bit).to_bytes(8, "big"), V4, ISSUED)


def test_the_fraction_of_a_second_is_cut_off() -> None:
    assert ids().issue(V4, ISSUED + 0.999) == ids().issue(V4, ISSUED)


@pytest.mark.parametrize(
    ("now", "valid"),
    [
        (ISSUED, True),
        (ISSUED + LIFETIME, True),
        (ISSUED + LIFETIME + 0.001, False),
        (ISSUED + 10 * LIFETIME, False),
        (ISSUED - SKEW, True),
        (ISSUED - SKEW - 0.001, False),
        (ISSUED - 10 * LIFETIME, False),
    ],
)
def test_lifetime_and_skew(now: float, valid: bool) -> None:
    assert ids().valid(ids().issue(V4, ISSUED), V4, now) is valid


@pytest.mark.parametrize("seconds", [1.0, 3600.0])
def test_the_lifetime_is_the_operators(seconds: float) -> None:
    made = ConnectionIds([b"secret"], lifetime=seconds, max_clock_skew=0.0)
    issued = made.issue(V4, ISSUED)
    assert made.valid(issued, V4, ISSUED + seconds)
    assert not made.valid(issued, V4, ISSUED + seconds + 1)
    assert not made.valid(issued, V4, ISSUED - 1)


@pytest.mark.parametrize(
    "other", [ip_address("192.0.2.2").packed, V6, V4 + bytes(12), ip_address("::ffff:192.0.2.1").packed]
)
def test_an_id_holds_for_its_address_only(other: bytes) -> None:
    assert not ids().valid(ids().issue(V4, ISSUED), other, ISSUED)


def test_the_first_key_issues_and_all_verify() -> None:
    """A rotation: the new key in front, then the old one taken away."""
    before, during, after = ids(b"old"), ids(b"new", b"old"), ids(b"new")
    old, new = before.issue(V4, ISSUED), during.issue(V4, ISSUED)
    assert new == after.issue(V4, ISSUED) == plain(b"new", V4, ISSUED)
    assert before.valid(old, V4, ISSUED)
    assert during.valid(old, V4, ISSUED)
    assert during.valid(new, V4, ISSUED)
    assert after.valid(new, V4, ISSUED)
    assert not after.valid(old, V4, ISSUED)
    assert not before.valid(new, V4, ISSUED)


def test_there_is_no_tracker_without_a_key() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        ConnectionIds([])
