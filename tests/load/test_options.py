"""What a run may be asked for."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from udptracker.load.options import LoadError, LoadOptions, parse_mix, refuse_strangers, source_addresses


@pytest.mark.parametrize(
    "bad",
    [
        {"mix": (0, 0, 0)},
        {"mix": (-1, 1, 1)},
        {"torrents": 0},
        {"peers": 3},
        {"skew": -0.1},
        {"skew": nan},
        {"seeders": 1.1},
        {"churn": -0.1},
        {"num_want": -2},
        {"scrape_hashes": 0},
        {"scrape_hashes": 75},
        {"processes": 0},
        {"processes": 5},
        {"sources": 0},
        {"sources": 201},
        {"in_flight": 3},
        {"burst": 0},
        {"burst": 65},
        {"rest": -0.001},
        {"rest": nan},
        {"rate": 0.0},
        {"duration": 0.0},
        {"duration": inf},
        {"warmup": -1.0},
        {"timeout": 0.0},
        {"check_every": 0},
        {"reconnect_after": 60.0},
    ],
)
def test_nonsense_is_refused_by_name(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(LoadError, match=f"--{name.replace('_', '-')}"):
        LoadOptions(host="127.0.0.1", port=1, **bad)


def test_the_defaults_are_the_mixed_load() -> None:
    options = LoadOptions(host="127.0.0.1", port=1)
    assert (options.torrents, options.peers, options.num_want, options.mix) == (100_000, 200_000, 30, (0, 99, 1))
    assert options.duration == 10.0


def test_mix() -> None:
    assert parse_mix("50:50:1") == (50, 50, 1)
    for bad in ("1:2", "1:2:3:4", "a:b:c", ""):
        with pytest.raises(ValueError):
            parse_mix(bad)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::1%lo", "0.0.0.0"])
def test_only_loopback_without_the_owners_word(address: str) -> None:
    with pytest.raises(LoadError, match="--i-own-this-tracker"):
        refuse_strangers(address, own_tracker=False)
    refuse_strangers(address, own_tracker=True)


def test_sources() -> None:
    assert source_addresses("127.0.0.1", 3) == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert source_addresses("::1", 3) == [""]
    assert source_addresses("192.0.2.1", 3) == [""]
    refuse_strangers("127.9.9.9", own_tracker=False)
    refuse_strangers("::1", own_tracker=False)
