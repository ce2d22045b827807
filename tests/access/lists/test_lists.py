"""Lists in the configuration and in files, and what they do to announces and scrapes."""

from __future__ import annotations

import asyncio
import os
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from tests.access.lists.support import listed, settings_of
from tests.access.support import INFO_HASH, NOW, PEER_ID, SOURCE, Gate, announce, scrape, use
from tests.config.support import fault, tree
from tests.support.nodes import until
from udptracker.access.access import Access
from udptracker.access.base import AccessError, Part
from udptracker.access.hooks.part import Hooks
from udptracker.access.lists.part import Lists
from udptracker.access.lists.rules import PasskeyRule
from udptracker.config import from_tree
from udptracker.core import wire
from udptracker.core.reasons import DENIED_NETWORK, UNAPPROVED_CLIENT, UNAPPROVED_PASSKEY, UNAPPROVED_TORRENT
from udptracker.net.burst import packed_source

OTHER = bytes(19) + b"o"
PASSKEY = "0123456789abcdef0123456789abcdef"


class TestTorrents:
    async def test_a_denied_one_is_refused_and_has_no_peers_in_a_scrape(self) -> None:
        async with listed() as gate:
            gate.ask(announce(1), announce(2, OTHER))
            await use(gate.access, settings_of(torrents={"deny": [INFO_HASH.hex()]}))
            gate.ask(announce(3), announce(4, OTHER), scrape(5, INFO_HASH, OTHER, INFO_HASH))
            assert [gate.refusal(each) for each in (3, 4)] == [UNAPPROVED_TORRENT, None]
            answer = gate.answers[5]
            assert isinstance(answer, wire.ScrapeResponse)
            assert [swarm.leechers for swarm in answer.swarms] == [0, 1, 0]
            assert gate.counters.refused[UNAPPROVED_TORRENT] == 1

    async def test_with_an_allow_list_all_others_are_denied(self) -> None:
        async with listed(torrents={"unlisted": "deny", "allow": [INFO_HASH.hex()]}) as gate:
            gate.ask(announce(1), announce(2, OTHER), scrape(3, OTHER, INFO_HASH))
            assert [gate.refusal(each) for each in (1, 2)] == [None, UNAPPROVED_TORRENT]
            answer = gate.answers[3]
            assert isinstance(answer, wire.ScrapeResponse)
            assert [swarm.leechers for swarm in answer.swarms] == [0, 1]

    async def test_what_is_denied_is_denied_whoever_allows_it(self, tmp_path: Path) -> None:
        allowed = tmp_path / "allowed"
        allowed.write_text(INFO_HASH.hex())
        async with listed(torrents={"deny": [INFO_HASH.hex()], "allow_from": str(allowed)}) as gate:
            gate.ask(announce(1))
            assert gate.refusal(1) == UNAPPROVED_TORRENT


class TestClients:
    @pytest.mark.parametrize("length", [1, 3, 8, 19, 20])
    async def test_one_is_denied_by_how_its_peer_id_begins(self, length: int) -> None:
        async with listed(clients={"deny": [PEER_ID[:length].decode()]}) as gate:
            gate.ask(announce(1), announce(2, peer_id=b"+" + PEER_ID[1:]))
            assert [gate.refusal(each) for each in (1, 2)] == [UNAPPROVED_CLIENT, None]

    async def test_the_longest_of_all_sources_decides(self, tmp_path: Path) -> None:
        denied = tmp_path / "denied"
        denied.write_text("-UT\n-UT0002  # a version\n")
        async with listed(clients={"unlisted": "deny", "allow": ["-UT0"], "deny_from": str(denied)}) as gate:
            gate.ask(
                announce(1, peer_id=b"-UT0001-000000000001"),
                announce(2, peer_id=b"-UT0002-000000000001"),
                announce(3, peer_id=b"-UT1000-000000000001"),
                announce(4, peer_id=b"-XX0001-000000000001"),
                scrape(5, INFO_HASH),
            )
            refusals = [gate.refusal(each) for each in (1, 2, 3, 4, 5)]
            assert refusals == [None, *[UNAPPROVED_CLIENT] * 3, None]


class TestNetworks:
    async def test_a_denied_one_hears_nothing_but_what_is_allowed_of_it(self) -> None:
        async with listed(networks={"deny": ["192.0.2.0/24", "2001:db8::/32"], "allow": ["192.0.2.128/25"]}) as gate:
            v6 = bytes.fromhex("20010db8") + bytes(12)
            mapped = packed_source(f"::ffff:{IPv4Address(SOURCE)}")
            gate.ask(announce(1))
            gate.ask(announce(2), source=bytes((192, 0, 2, 129)))
            gate.ask(announce(3), source=bytes((198, 51, 100, 1)))
            gate.ask(announce(4), source=v6)
            gate.ask(announce(5), source=mapped)
            assert sorted(gate.answers) == [2, 3]
            connect = [(wire.encode_connect_request(6), SOURCE, None)]
            assert gate.tracker.receive(connect, NOW, 7).replies == []
            assert gate.counters.dropped[DENIED_NETWORK] == 4


URLS = [
    f"/{PASSKEY}/announce",
    f"/announce/{PASSKEY}",
    f"/announce?passkey={PASSKEY}",
    f"/announce?x=1&passkey={PASSKEY}&y=2",
    f"/announce/{PASSKEY.replace('0', '%30')}",
]


class TestPasskeys:
    @pytest.mark.parametrize("url", URLS)
    @pytest.mark.parametrize("hashed", [False, True])
    async def test_one_is_found_in_the_announce_url(self, url: str, hashed: bool) -> None:
        from hashlib import sha256

        entry = f"sha256:{sha256(PASSKEY.encode()).hexdigest()}" if hashed else PASSKEY
        users: list[str] = []
        async with listed(passkeys={"required": True, "allow": [f"{entry} somebody"]}) as gate:
            gate.guard.use(gate.lists.rules, (), [lambda questions: users.extend(each.user for each in questions)])
            for number in (1, 2):  # read, and remembered
                gate.ask(announce(number, url=f"udp://tracker{url}"))
                assert gate.refusal(number) is None
            assert users == ["somebody"] * 2

    @pytest.mark.parametrize(
        "url",
        ["", "/announce", "/", f"/{PASSKEY}", f"/announce?key={PASSKEY}", f"/announce/{PASSKEY[:-1]}", "/announce/%ff"],
    )
    async def test_without_one_that_is_known_an_announce_is_refused(self, url: str) -> None:
        async with listed(passkeys={"required": True, "allow": [PASSKEY]}) as gate:
            gate.ask(announce(1, url=f"udp://tracker{url}"), scrape(2, INFO_HASH))
            assert [gate.refusal(each) for each in (1, 2)] == [UNAPPROVED_PASSKEY, None]

    async def test_where_none_is_required_it_tells_the_user(self) -> None:
        users: list[str] = []
        async with listed(passkeys={"allow": [f"{PASSKEY} somebody"]}) as gate:
            gate.guard.use(gate.lists.rules, (), [lambda questions: users.extend(each.user for each in questions)])
            gate.ask(announce(1, url=f"udp://tracker/{PASSKEY}/announce"), announce(2))
            assert users == ["somebody", ""]

    def test_any_number_of_urls_is_remembered_in_bounded_memory(self) -> None:
        rule = PasskeyRule(most_urls=10)
        rule.use([], required=True)
        gate = Gate([rule])
        for number in range(40):
            gate.ask(announce(number, url=f"udp://tracker/announce?passkey={number:032}"))
        gate.ask(announce(40, url="udp://tracker/announce/" + "x" * 300))
        assert len(rule._read) <= 10
        assert all(gate.refusal(number) == UNAPPROVED_PASSKEY for number in range(41))


class TestFiles:
    async def test_comments_and_blank_lines_are_no_entries(self, tmp_path: Path) -> None:
        file = tmp_path / "denied"
        file.write_bytes(b"\xef\xbb\xbf# taken down\r\n\r\n" + INFO_HASH.hex().encode() + b"  # in March\r\n")
        async with listed(torrents={"deny_from": str(file)}) as gate:
            gate.ask(announce(1), announce(2, OTHER))
            assert [gate.refusal(each) for each in (1, 2)] == [UNAPPROVED_TORRENT, None]
            assert gate.counters.access_entries["torrents deny"] == 1

    @pytest.mark.parametrize("way", ["written", "replaced", "link"])
    async def test_a_change_is_taken_in(self, tmp_path: Path, way: str) -> None:
        first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "list"
        first.write_text(f"{INFO_HASH.hex()}\n")
        second.write_text(f"{OTHER.hex()}\n")
        os.utime(second, ns=(first.stat().st_atime_ns, first.stat().st_mtime_ns))
        link.symlink_to(first)
        path = link if way == "link" else first
        async with listed(torrents={"deny_from": str(path)}) as gate:
            if way == "written":
                first.write_text(f"# another\n{OTHER.hex()}\n")
            elif way == "replaced":
                second.replace(first)
            else:
                fresh = tmp_path / "fresh"
                fresh.symlink_to(second)
                fresh.replace(link)
            await until(lambda: gate.lists.unwanted(OTHER))
            assert not gate.lists.unwanted(INFO_HASH)

    async def test_what_is_no_file_keeps_nobody_waiting(self, tmp_path: Path) -> None:
        """To open a named pipe would wait for whoever writes to it."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        async with listed() as gate:
            for path in (pipe, tmp_path):
                with pytest.raises(AccessError, match="found no file"):
                    await use(gate.access, settings_of(torrents={"deny_from": str(path)}))

    @pytest.mark.parametrize("bad", ["zz", "é" * 20, "0" * 41, "x" * 9000, b"\xff\xfe"])
    async def test_a_bad_line_is_named_and_the_old_list_stays(
        self, tmp_path: Path, bad: str | bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "denied"
        file.write_text(f"{INFO_HASH.hex()}\n")
        async with listed(torrents={"deny_from": str(file)}) as gate:
            line = bad if isinstance(bad, bytes) else bad.encode()
            file.write_bytes(OTHER.hex().encode() + b"\n\n" + line + b"\n")
            await until(lambda: gate.counters.access_failures["file"])
            assert gate.lists.unwanted(INFO_HASH)
            assert not gate.lists.unwanted(OTHER)
            assert f"{file}, line 3: found " in caplog.text
            assert "expected 40 hexadecimal digits" in caplog.text
            file.touch()
            with pytest.raises(AccessError, match="line 3"):
                await use(gate.access, settings_of(torrents={"deny_from": str(file)}))
            file.write_text(f"{OTHER.hex()}\n")
            await until(lambda: gate.lists.unwanted(OTHER))

    async def test_one_that_is_gone_leaves_the_old_list(self, tmp_path: Path) -> None:
        file = tmp_path / "denied"
        file.write_text(f"{INFO_HASH.hex()}\n")
        async with listed(torrents={"deny_from": str(file)}) as gate:
            file.unlink()
            await until(lambda: gate.counters.access_failures["file"])
            assert gate.lists.unwanted(INFO_HASH)
            await asyncio.sleep(0)
            assert gate.counters.access_failures["file"] == 1

    async def test_what_another_part_refuses_leaves_a_list_in_force_that_cannot_be_read_again(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "torrents"
        file.write_text(f"{INFO_HASH.hex()}\n")
        before = settings_of(torrents={"deny_from": str(file)})
        refused = from_tree({"prehooks": [{"name": "no.such.module:hook"}]}, "udptracker", {}).settings
        gate = Gate()
        parts: list[Part] = [Lists(before, gate.counters, speaks=True), Hooks(before, gate.counters)]
        access = Access(parts, gate.guard, gate.tracker)
        await access.open()
        try:
            file.write_text("no info hash\n")
            with pytest.raises(AccessError):
                await use(access, refused)
            gate.ask(announce(1))
            assert gate.refusal(1) == UNAPPROVED_TORRENT
        finally:
            await access.close()

    async def test_a_start_with_a_bad_one_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "passkeys"
        file.write_text(f"{PASSKEY} somebody\nshort! nobody\n")
        for path in (file, tmp_path / "nowhere"):
            with pytest.raises(AccessError) as told:
                async with listed(passkeys={"allow_from": str(path)}):
                    pass
            assert str(path) in str(told.value)
            assert "short" not in str(told.value)

    async def test_a_long_one_holds_nobody_up_and_is_read_whole(self, tmp_path: Path) -> None:
        file = tmp_path / "denied"
        file.write_text("".join(f"{number:040x}\n" for number in range(30_000)))
        async with listed(torrents={"deny_from": str(file)}) as gate:
            assert gate.counters.access_entries["torrents deny"] == 30_000
            assert all(gate.lists.unwanted(number.to_bytes(20, "big")) for number in range(30_000))


@pytest.mark.parametrize(
    ("access", "told"),
    [
        ({"torrents": {"unlisted": "deny"}}, "access.torrents.unlisted"),
        ({"torrents": {"unlisted": "deny", "allow": [INFO_HASH.hex()]}}, ""),
        ({"torrents": {"unlisted": "deny"}, "shared": "redis://127.0.0.1"}, ""),
        ({"passkeys": {"required": True}}, "access.passkeys.required"),
        ({"passkeys": {"required": True, "allow_from": "/a/file"}}, ""),
    ],
)
def test_lists_that_let_nobody_in_are_warned_of(access: Any, told: str) -> None:
    warnings = tree({"access": access}).warnings
    assert [told in warning for warning in warnings] == [True] * bool(told)


@pytest.mark.parametrize(
    ("access", "path", "found", "expected"),
    [
        ({"torrents": {"deny": ["zz"]}}, "access.torrents.deny.0", "'zz'", "40 hexadecimal digits"),
        ({"torrents": {"deny": "zz"}}, "access.torrents.deny", "'zz'", "40 hexadecimal digits"),
        ({"torrents": {"unlisted": "maybe"}}, "access.torrents.unlisted", "'maybe'", "'allow' or 'deny'"),
        ({"clients": {"allow": ["x" * 21]}}, "access.clients.allow.0", "'xx", "1 to 20 bytes"),
        ({"networks": {"deny": ["192.0.2.1/24"]}}, "access.networks.deny.0", "'192.0.2.1/24'", "behind its prefix"),
        ({"networks": {"deny": ["::"] * 257}}, "access.networks.deny", "a list", "at most 256"),
        ({"passkeys": {"allow": ["tiny s3cr3t"]}}, "access.passkeys.allow.0", "(hidden)", "8 to 128"),
        ({"torrents": {"deny_from": "a"}}, "access.torrents.deny_from", "'a'", "absolute path"),
        ({"shared": "http://s3cr3t@x"}, "access.shared", "(hidden)", "redis://"),
        ({"torents": {}}, "access.torents", "an unknown key", "'torrents'"),
    ],
)
def test_what_cannot_be_is_refused_by_its_path(access: Any, path: str, found: str, expected: str) -> None:
    told = fault({"access": access})
    assert (told.path, found in told.found, expected in told.expected) == (f"udptracker.{path}", True, True)
    assert "s3cr3t" not in str(told)


async def test_lists_that_nobody_has_ask_about_nothing(tmp_path: Path) -> None:
    """So that the way of a request costs what it does without them, and takes them in with a reload."""
    async with listed() as gate:
        assert (gate.tracker.admit, gate.lists.rules) == (None, [])
        for which in ("torrents", "clients"):
            await use(gate.access, settings_of(**{which: {"unlisted": "deny"}}))
            gate.answers.clear()
            gate.ask(announce(1))
            assert gate.refusal(1) is not None, which
        await use(gate.access, settings_of(passkeys={"required": True}))
        gate.answers.clear()
        gate.ask(announce(1))
        assert gate.refusal(1) is not None
        file = tmp_path / "networks"
        file.touch()
        await use(gate.access, settings_of(networks={"deny_from": str(file)}))
        file.write_text("192.0.2.0/24\n")
        await until(lambda: gate.counters.access_entries["networks deny"])
        gate.answers.clear()
        gate.ask(announce(1))
        assert gate.answers == {}
