"""chihaya's hooks that need nothing but themselves: the same rules, words and intervals as there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.access.support import INFO_HASH, Gate, announce, scrape
from tests.config.support import settings
from tests.conftest import Daemons
from tests.support.udp import Refused
from udptracker.access.access import Access
from udptracker.access.hooks.part import Hooks
from udptracker.core import wire
from udptracker.core.reasons import UNAPPROVED_CLIENT, UNAPPROVED_TORRENT

OTHER = bytes(20)
VECTOR = json.loads((Path(__file__).parent / "data" / "interval_variation.json").read_text())
"""What chihaya's own hook made of an interval of 1800 seconds."""


async def gate(*hooks: dict[str, Any], **body: Any) -> Gate:
    """With these hooks and nothing else in force."""
    found = Gate()
    part = Hooks(settings(prehooks=list(hooks), **body), found.counters)
    await Access([part], found.guard, found.tracker).open()
    return found


def hook(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "options": options}


class TestTorrentApproval:
    async def test_only_those_of_the_whitelist(self) -> None:
        asked = await gate(hook("torrent approval", whitelist=[INFO_HASH.hex().upper()]))
        asked.ask(announce(1), announce(2, OTHER), scrape(3, OTHER))
        assert [asked.refusal(number) for number in (1, 2, 3)] == [None, UNAPPROVED_TORRENT, None]
        assert UNAPPROVED_TORRENT == "unapproved torrent"
        assert asked.counters.hook_refusals == {"torrent approval": 1}
        assert asked.counters.refused[UNAPPROVED_TORRENT] == 1

    async def test_all_but_those_of_the_blacklist(self) -> None:
        asked = await gate(hook("torrent approval", blacklist=[INFO_HASH.hex()]))
        asked.ask(announce(1), announce(2, OTHER))
        assert [asked.refusal(number) for number in (1, 2)] == [UNAPPROVED_TORRENT, None]

    async def test_an_empty_list_decides_nothing(self) -> None:
        asked = await gate(hook("torrent approval", whitelist=[], blacklist=None))
        asked.ask(announce(1))
        assert asked.refusal(1) is None


class TestClientApproval:
    """Cases of chihaya's own test (`bittorrent/client_id_test.go`) among them."""

    @pytest.mark.parametrize(
        ("peer_id", "client"),
        [
            (b"-AZ3034-6wfG2wk6wWLc", "AZ3034"),
            (b"-BS5820-oy4La2MWGEFj", "BS5820"),
            (b"M3-7-2--4aHpLkZAoWA8", "M3-7-2"),
            (b"T00---0----f089b47ca", "T00---"),
            (b"A\xc3\xa9bcd" + bytes(14), "Aébcd"),
        ],
    )
    async def test_a_client_is_six_bytes(self, peer_id: bytes, client: str) -> None:
        asked = await gate(hook("client approval", whitelist=[client]))
        asked.ask(announce(1, peer_id=peer_id), announce(2, peer_id=b"x" + peer_id[1:]))
        assert [asked.refusal(number) for number in (1, 2)] == [None, UNAPPROVED_CLIENT]
        assert UNAPPROVED_CLIENT == "unapproved client"
        asked = await gate(hook("client approval", blacklist=[client]))
        asked.ask(announce(1, peer_id=peer_id), announce(2, peer_id=b"x" + peer_id[1:]))
        assert [asked.refusal(number) for number in (1, 2)] == [UNAPPROVED_CLIENT, None]


class TestIntervalVariation:
    def test_the_vector_has_both_kinds(self) -> None:
        assert {row["interval"] == 1800 for row in VECTOR} == {True, False}

    @pytest.mark.parametrize("row", VECTOR, ids=range(len(VECTOR)))
    async def test_intervals_are_those_of_chihaya(self, row: dict[str, Any]) -> None:
        options = {key: row[key] for key in ("modify_response_probability", "max_increase_delta")}
        asked = await gate(hook("interval variation", modify_min_interval=True, **options))
        request = announce(1, bytes.fromhex(row["info_hash"]), peer_id=bytes.fromhex(row["peer_id"]))
        asked.ask(request)
        response = asked.answers[1]
        assert isinstance(response, wire.AnnounceResponse)
        assert response.interval == row["interval"]

    async def test_it_adds_to_the_interval_that_is_configured_and_two_of_them_to_each_other(self) -> None:
        one = hook("interval variation", modify_response_probability=1, max_increase_delta=1)
        asked = await gate(one, one, announce_interval="10m")
        asked.ask(announce(1))
        response = asked.answers[1]
        assert isinstance(response, wire.AnnounceResponse)
        assert response.interval == 602


async def test_who_is_refused_by_one_is_not_shown_to_the_next() -> None:
    both = [
        hook("client approval", blacklist=["UT0001"]),
        hook("torrent approval", blacklist=[INFO_HASH.hex()]),
    ]
    for hooks, words in ((both, UNAPPROVED_CLIENT), (both[::-1], UNAPPROVED_TORRENT)):
        asked = await gate(*hooks)
        asked.ask(announce(1))
        assert asked.refusal(1) == words
        assert sum(asked.counters.hook_refusals.values()) == 1


def test_a_running_tracker_takes_other_lists_and_counts_by_hook(daemons: Daemons) -> None:
    config = "chihaya:\n  prehooks:\n    - {{name: torrent approval, options: {{blacklist: ['{}']}}}}\n"
    daemon = daemons("memory", config=config.format(OTHER.hex()))
    assert 'udptracker_hook_refusals_total{hook="torrent approval"} 0.0' in daemon.get("/metrics")[1]
    with daemon.client() as client:
        client.announce(INFO_HASH, 1)
        with pytest.raises(Refused, match="unapproved torrent"):
            client.announce(OTHER, 1)
        daemon.reconfigure(config.format(INFO_HASH.hex()))
        client.announce(OTHER, 1)
        with pytest.raises(Refused, match="unapproved torrent"):
            client.announce(INFO_HASH, 1)
    assert 'udptracker_hook_refusals_total{hook="torrent approval"} 2.0' in daemon.get("/metrics")[1]
