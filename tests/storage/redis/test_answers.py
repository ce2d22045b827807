"""Answers out of pools: pure functions."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.storage.contract import LEECHER, SEEDER, announce, peer_of
from udptracker.core.swarm import FAMILIES, IPV4, PEER_KEY_BYTES, compact_endpoint
from udptracker.core.wire import COMPACT_BYTES, split_peers
from udptracker.storage.redis.answers import choose, make_pools, pack_endpoints

_NUMBERS = st.lists(st.integers(0, 40), max_size=30)
"""Of peers, some of them at one endpoint."""


def keys_of(numbers: list[int], family: int) -> list[bytes]:
    return [peer_of(number, family, peer_id=at) for at, number in enumerate(numbers)]


@given(st.sampled_from(FAMILIES), _NUMBERS)
def test_endpoints_are_those_of_the_keys(family: int, numbers: list[int]) -> None:
    keys = keys_of(numbers, family)
    assert pack_endpoints(keys, family) == b"".join(map(compact_endpoint, keys))


@given(st.sampled_from(FAMILIES), _NUMBERS.filter(bool), st.binary(max_size=60))
def test_a_key_that_is_none_gives_nothing(family: int, numbers: list[int], foreign: bytes) -> None:
    if len(foreign) != PEER_KEY_BYTES[family]:
        assert pack_endpoints([*keys_of(numbers, family), foreign], family) == b""


@given(st.sampled_from(FAMILIES), _NUMBERS, _NUMBERS)
def test_pools_hold_each_endpoint_once(family: int, seeders: list[int], leechers: list[int]) -> None:
    packed = pack_endpoints(keys_of(seeders + leechers, family), family)
    pools = make_pools(packed, len(seeders), len(leechers), family)
    endpoints = split_peers(packed, family)
    of_seeders, of_leechers = endpoints[: len(seeders)], endpoints[len(seeders) :]
    assert split_peers(pools.seeders, family) == list(dict.fromkeys(of_seeders))
    assert split_peers(pools.leechers, family) == list(dict.fromkeys(of_leechers))
    assert split_peers(pools.others, family) == [e for e in dict.fromkeys(of_leechers) if e not in of_seeders]


@given(_NUMBERS, _NUMBERS, st.integers(0, 40), st.integers(1, 70), st.randoms(use_true_random=False))
def test_as_many_as_are_wanted_none_twice_and_not_the_announcer(
    seeders: list[int], leechers: list[int], number: int, want: int, rng: random.Random
) -> None:
    packed = pack_endpoints(keys_of(seeders + leechers, IPV4), IPV4)
    pools = make_pools(packed, len(seeders), len(leechers), IPV4)
    for role, allowed, first in ((LEECHER, {*seeders, *leechers}, {*seeders}), (SEEDER, {*leechers}, set[int]())):
        peers = choose(announce(number, role, want=want), pools, rng.random)
        found = split_peers(peers, IPV4)
        others = {compact_endpoint(peer_of(other)) for other in allowed if other != number}
        preferred = {compact_endpoint(peer_of(other)) for other in first if other != number}
        assert len(found) == len(set(found)) == min(want, len(others)) == len(peers) // COMPACT_BYTES[IPV4]
        assert set(found) <= others
        assert len(set(found) & preferred) == min(want, len(preferred))
