"""`access.limits` in a file."""

from __future__ import annotations

from typing import Any

import pytest

from tests.config.support import fault, settings
from udptracker.config import Fault, parse

PATH = "udptracker.access.limits"


@pytest.mark.parametrize(
    ("text", "mode"), [("off", "off"), ("'off'", "off"), ("watch", "watch"), ("enforce", "enforce")]
)
def test_modes(text: str, mode: str) -> None:
    assert parse(f"udptracker: {{access: {{limits: {{mode: {text}}}}}}}", {}).settings.access.limits.mode == mode


@pytest.mark.parametrize(("value", "expected"), [(48, (48,)), ([48, 64], (64, 48)), ([56], (56,))])
def test_prefixes(value: Any, expected: tuple[int, ...]) -> None:
    assert settings(access={"limits": {"v6_prefixes": value}}).access.limits.v6_prefixes == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("mode", "on", "'off', 'watch' or 'enforce'"),
        ("connects_per_minute", -1, "an integer from 0 to 60000000"),
        ("announce_burst", 0, "an integer from 1 to 60000000"),
        ("scrapes_per_minute", "10/s", "an integer from 0 to 60000000"),
        ("v6_prefixes", [64, 60], "one or several of 64, 56 and 48, each once"),
        ("v6_prefixes", [64, 64], "one or several of 64, 56 and 48, each once"),
        ("v6_prefixes", [], "one or several of 64, 56 and 48, each once"),
        ("v6_prefixes", [[64]], "one or several of 64, 56 and 48, each once"),
        ("max_addresses", 0, "an integer from 1000 to 100000000"),
        ("max_peers_in_all", -1, "an integer of 0 or more"),
    ],
)
def test_what_cannot_be_is_refused_by_its_path(key: str, value: Any, expected: str) -> None:
    found = fault({"access": {"limits": {key: value}}})
    assert (found.path, found.expected) == (f"{PATH}.{key}", expected)


def test_a_network_with_bits_behind_its_prefix_is_refused_by_its_place() -> None:
    assert fault({"access": {"limits": {"exempt": ["::1", "10.1.2.3/8"]}}}) == Fault(
        f"{PATH}.exempt.1",
        "'10.1.2.3/8'",
        "a network such as 192.0.2.0/24 or 2001:db8::/32, with no bit set behind its prefix",
    )


def test_one_source_may_not_fill_what_is_remembered() -> None:
    given = {"max_peers_in_all": 1000, "max_tracked_peers": 31_999}
    assert str(fault({"access": {"limits": given}})) == (
        f"{PATH}.max_tracked_peers: found 31999, expected at least 32000, 32 times max_peers_in_all"
    )
    settings(access={"limits": given | {"max_tracked_peers": 32_000}})


def test_the_same_by_a_variable() -> None:
    names = {"UDPTRACKER_ACCESS_LIMITS_MODE": "enforce", "UDPTRACKER_ACCESS_LIMITS_V6_PREFIXES": "[64, 48]"}
    found = parse("udptracker:", names).settings.access.limits
    assert (found.mode, found.v6_prefixes) == ("enforce", (64, 48))
