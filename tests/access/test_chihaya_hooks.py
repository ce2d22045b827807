"""chihaya's hooks that need nothing but themselves: the same rules, words and intervals as there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.access.support import INFO_HASH, PEER_ID, Gate, announce, scrape
from tests.access.tokens import issuer, token
from tests.config.support import settings
from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.udp import Refused
from tests.support.waiting import PATIENCE
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


CHIHAYA = """
chihaya:
  announce_interval: "30m"
  min_announce_interval: "15m"
  metrics_addr: "0.0.0.0:6880"
  http:
    addr: "0.0.0.0:6969"
    https_addr: ""
    tls_cert_path: ""
    tls_key_path: ""
    read_timeout: "5s"
    write_timeout: "5s"
    enable_keepalive: false
    idle_timeout: "30s"
    enable_request_timing: false
    announce_routes:
      - "/announce"
    scrape_routes:
      - "/scrape"
    allow_ip_spoofing: false
    real_ip_header: "x-real-ip"
    max_numwant: 100
    default_numwant: 50
    max_scrape_infohashes: 50
  udp:
    addr: "0.0.0.0:6969"
    max_clock_skew: "10s"
    private_key: "paste a random string here that will be used to hmac connection IDs"
    enable_request_timing: false
    allow_ip_spoofing: false
    max_numwant: 100
    default_numwant: 50
    max_scrape_infohashes: 50
  storage:
    name: "memory"
    config:
      gc_interval: "3m"
      peer_lifetime: "31m"
      shard_count: 1024
      prometheus_reporting_interval: "1s"
  prehooks:

  - name: "jwt"
    options:
      issuer: "https://issuer.example"
      audience: "https://tracker.example"
      jwk_set_url: "KEYS"
      jwk_set_update_interval: "5m"

  - name: "client approval"
    options:
      whitelist:
        - "UT0001"

  - name: "interval variation"
    options:
      modify_response_probability: 1
      max_increase_delta: 60
      modify_min_interval: true

  - name: "torrent approval"
    options:
      whitelist:
        - "HASH"
"""
"""chihaya's example file with its hooks in force."""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_of_chihaya_with_its_four_hooks_starts_unchanged(daemons: Daemons, workers: int) -> None:
    with issuer() as served:
        config = CHIHAYA.replace("KEYS", f"{served.url}/keys").replace("HASH", INFO_HASH.hex())
        daemon = daemons("memory", config=config, arguments=["--workers", str(workers)])
    with daemon.client() as client:

        def ask(given: str, info_hash: bytes = INFO_HASH, peer_id: bytes = PEER_ID) -> wire.AnnounceResponse:
            options = wire.encode_url_data(f"/announce{given}")
            return client.announce(info_hash, 6881, peer_id=peer_id, options=options)

        def words(*asked: Any) -> str:
            with pytest.raises(Refused) as refused:
                ask(*asked)
            return str(refused.value)

        assert 1801 <= ask(f"?jwt={token()}").interval <= 1860
        assert words("") == "unapproved request: missing jwt"
        assert words(f"?jwt={token(exp=1)}") == "unapproved request: invalid jwt"
        assert words(f"?jwt={token()}", INFO_HASH, b"-XX0001-000000006881") == "unapproved client"
        assert words(f"?jwt={token(infohash=OTHER.hex())}", OTHER) == "unapproved torrent"
        assert client.scrape(OTHER)[0].seeders == 0
    figures = daemon.get("/metrics")[1]
    assert 'udptracker_hook_refusals_total{hook="jwt"} 2.0' in figures
    assert 'udptracker_hook_refusals_total{hook="interval variation"} 0.0' in figures


def test_a_file_whose_keys_are_nowhere_refuses_the_start(tmp_path: Path) -> None:
    with issuer() as served:
        config = CHIHAYA.replace("KEYS", served.url).replace("HASH", INFO_HASH.hex())
    with Daemon(tmp_path, config=config) as daemon:
        daemon.start(wait=False)
        assert daemon.process.wait(PATIENCE) != 0
        assert "jwt: there is no key set: 127.0.0.1" in daemon.log
        assert "Traceback" not in daemon.log
