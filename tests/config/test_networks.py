"""Networks in a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tests.config.support import fault, settings
from udptracker.config import Fault

PATH = "udptracker.udp.ip_spoofing_networks"


def networks(value: Any) -> tuple[str, ...]:
    return settings(udp={"ip_spoofing_networks": value}).udp.ip_spoofing_networks


def test_one_or_several() -> None:
    assert networks([]) == networks("") == networks(None) == ()
    assert networks("10.0.0.0/8") == ("10.0.0.0/8",)
    assert networks(["10.0.0.0/8", "fd00::/8", "192.0.2.1", "::1"]) == ("10.0.0.0/8", "fd00::/8", "192.0.2.1", "::1")


@pytest.mark.parametrize("text", ["ten", "10.0.0.0/33", "10.1.2.3/8", "2001:db8::1/64", "::1/127"])
def test_what_is_none_is_refused_by_its_place(text: str) -> None:
    assert fault({"udp": {"ip_spoofing_networks": ["10.0.0.0/8", text]}}) == Fault(
        f"{PATH}.1",
        repr(text),
        "a network such as 192.0.2.0/24 or 2001:db8::/32, with no bit set behind its prefix",
    )


@pytest.mark.parametrize("value", [7, True, {"a": 1}, [7]])
def test_so_is_what_is_no_text(value: Any) -> None:
    assert fault({"udp": {"ip_spoofing_networks": value}}).path.startswith(PATH)
