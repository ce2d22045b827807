"""Lists in Redis as a node follows them: changed by others, read anew, while it is away, and from the file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest

from tests.access.lists.support import Listed
from tests.conftest import StoreServers
from tests.support.cluster import StoreCluster
from tests.support.nodes import until
from tests.support.servers import StoreServer
from tests.support.stores import topology_of
from udptracker.access.lists import ledger as ledgers
from udptracker.access.lists.cache import BadCache, read_cache, write_cache
from udptracker.access.lists.changes import ALLOW, DENY, REMOVE, Change, pack_change, unpack_changes
from udptracker.access.lists.ledger import CHANGES, VERSION, Command, Known, Ledger, Version, key_of
from udptracker.access.lists.tables import GRACE, make_table
from udptracker.core.listed import CLIENTS, LISTS, NETWORKS, PASSKEYS, TORRENTS, hash_passkey, parse_network
from udptracker.core.swarm import StoreError


def torrent(number: int) -> bytes:
    return sha1(b"%d" % number).digest()


ENTRIES = {TORRENTS: torrent(0), CLIENTS: b"-XX", NETWORKS: parse_network("192.0.2.0/24"), PASSKEYS: hash_passkey(b"x")}


@asynccontextmanager
async def ledger_at(url: str) -> AsyncIterator[Ledger]:
    """A ledger of its own, as a command has it."""
    topology = topology_of(url)
    topology.start()
    try:
        for server in topology.servers() if topology.one_server else ():
            await server.ready()
        yield Ledger(topology)
    finally:
        await topology.close()


async def change(
    ledger: Ledger, what: int, which: str, entries: Sequence[bytes], expires: int = 0, **about: str
) -> int:
    command = Command(which, what, expires, "a test", "why", "number")
    done = 0
    for at in range(0, len(entries), ledgers.AT_ONCE):
        part = entries[at : at + ledgers.AT_ONCE]
        done = await ledger.change(command, part, [about] * len(part))
    return done


@asynccontextmanager
async def node_at(url: str, **access: Any) -> AsyncIterator[Listed]:
    """A node that follows the lists at a URL."""
    gate = Listed(shared=url, **access)
    try:
        await gate.access.open()
        yield gate
    finally:
        await gate.access.close()


def entries_of(gate: Listed) -> dict[str, int]:
    return {name: count for name, count in gate.counters.access_entries.items() if count}


class TestLedger:
    """What is kept in Redis, on both servers."""

    async def test_what_is_put_is_found_with_what_is_known_of_it(self, store_server: StoreServer) -> None:
        async with ledger_at(store_server.url) as ledger:
            assert await ledger.version() is None
            for which, entry in ENTRIES.items():
                await change(ledger, DENY, which, [entry], 4_000_000_000, user="somebody")
                (found,) = await ledger.find(which, [entry])
                assert found is not None
                assert (found.entry, found.denied, found.expires) == (entry, True, 4_000_000_000)
                about = found.about()
                assert (about["by"], about["reason"], about["user"]) == ("a test", "why", "somebody")
                assert abs(about["at"] - time.time()) < 600
                assert [known async for part in ledger.entries(which) for known in part] == [found]
                await change(ledger, REMOVE, which, [entry])
                assert await ledger.find(which, [entry]) == [None]
            version = await ledger.version()
            assert version is not None
            assert version.number == 8

    async def test_the_log_tells_who_changed_what(self, store_server: StoreServer) -> None:
        async with ledger_at(store_server.url) as ledger:
            await change(ledger, ALLOW, TORRENTS, [torrent(number) for number in range(5)])
            await change(ledger, REMOVE, NETWORKS, [ENTRIES[NETWORKS]])
            newest, first = await ledger.log(10)
            assert (newest.which, newest.what, newest.of, newest.entries) == (NETWORKS, REMOVE, 1, ["192.0.2.0/24"])
            assert (first.of, len(first.entries), first.by, first.reason) == (5, 3, "a test", "why")
            assert abs(first.at / 1000 - time.time()) < 600

    async def test_what_has_ended_leaves(self, valkey: StoreServer) -> None:
        async with ledger_at(valkey.url) as ledger:
            await change(ledger, DENY, TORRENTS, [torrent(1)], int(time.time()) - 2 * GRACE)
            await change(ledger, DENY, TORRENTS, [torrent(2)])
            assert await ledger.find(TORRENTS, [torrent(1)]) == [None]
            assert await ledger.size(TORRENTS) == 2
            assert [known.entry async for part in ledger.entries(TORRENTS) for known in part] == [torrent(2)]
            assert await ledger.size(TORRENTS) == 1

    async def test_what_has_just_ended_stays_for_a_clock_that_jumped(self, valkey: StoreServer) -> None:
        async with ledger_at(valkey.url) as ledger:
            await change(ledger, DENY, TORRENTS, [torrent(1)], int(time.time()) - 600)
            assert await ledger.find(TORRENTS, [torrent(1)]) == [None]
            async with node_at(valkey.url) as gate:
                assert not gate.lists.unwanted(torrent(1))
            assert await ledger.size(TORRENTS) == 1

    async def test_what_cannot_be_read_is_passed_over(self, valkey: StoreServer) -> None:
        with valkey.client() as client:
            values = {b"short": b"-0 {}", torrent(1): b"?0 {}", torrent(2): b"-9999999999999 {}", torrent(3): b"-0 {"}
            client.hset(key_of(TORRENTS).decode(), mapping=values)
            client.xadd("udptracker_{access}_log", {"record": "no JSON"})
        async with ledger_at(valkey.url) as ledger:
            found = [known async for part in ledger.entries(TORRENTS) for known in part]
            assert found == [Known(TORRENTS, torrent(3), True, 0, b"{")]
            assert found[0].about() == {}
            assert await ledger.log(10) == []

    async def test_on_a_cluster_all_is_in_one_slot(self, store_servers: StoreServers) -> None:
        cluster = StoreCluster(store_servers)
        async with ledger_at(cluster.url) as ledger:
            await until_it_answers(ledger)
            for which, entry in ENTRIES.items():
                await change(ledger, DENY, which, [entry])
                assert len([known async for part in ledger.entries(which) for known in part]) == 1
            assert len(await ledger.log(10)) == 4


async def until_it_answers(ledger: Ledger) -> None:
    while True:
        try:
            await ledger.version()
        except StoreError:
            await asyncio.sleep(0.05)
        else:
            return


class TestFollowing:
    async def test_every_list_is_in_force_and_out_again(self, valkey: StoreServer) -> None:
        async with ledger_at(valkey.url) as ledger, node_at(valkey.url) as gate:
            for which, entry in ENTRIES.items():
                await change(ledger, DENY, which, [entry])
            await until(lambda: entries_of(gate) == {f"{which} deny": 1 for which in LISTS})
            for which, entry in ENTRIES.items():
                await change(ledger, ALLOW, which, [entry])
            await until(lambda: entries_of(gate) == {f"{which} allow": 1 for which in LISTS})
            for which, entry in ENTRIES.items():
                await change(ledger, REMOVE, which, [entry])
            await until(lambda: entries_of(gate) == {})

    async def test_what_was_there_before_is_read_at_the_start(self, valkey: StoreServer) -> None:
        many = [torrent(number) for number in range(3_000)]
        async with ledger_at(valkey.url) as ledger:
            await change(ledger, DENY, TORRENTS, many)
            await change(ledger, ALLOW, PASSKEYS, [ENTRIES[PASSKEYS]], user="somebody")
            async with node_at(valkey.url) as gate:
                assert entries_of(gate) == {"torrents deny": 3_000, "passkeys allow": 1}
                assert all(map(gate.lists.unwanted, many))
                assert gate.counters.access_refreshed > 0

    async def test_an_entry_ends_when_it_is_due(self, valkey: StoreServer) -> None:
        async with ledger_at(valkey.url) as ledger, node_at(valkey.url) as gate:
            await change(ledger, DENY, TORRENTS, [torrent(1)], int(time.time()) + 3)
            await change(ledger, DENY, TORRENTS, [torrent(2)])
            await until(lambda: gate.lists.unwanted(torrent(2)))
            await until(lambda: not gate.lists.unwanted(torrent(1)))
            assert gate.lists.unwanted(torrent(2))

    async def test_changes_that_are_gone_are_read_from_the_lists(self, valkey: StoreServer) -> None:
        async with ledger_at(valkey.url) as ledger, node_at(valkey.url) as gate:
            await change(ledger, DENY, TORRENTS, [torrent(1)])
            await until(lambda: gate.lists.unwanted(torrent(1)))
            with valkey.client() as client:
                client.delete(CHANGES.decode())
            await change(ledger, REMOVE, TORRENTS, [torrent(1)])
            with valkey.client() as client:
                client.delete(CHANGES.decode())
            await change(ledger, DENY, TORRENTS, [torrent(2)])
            await until(lambda: gate.lists.unwanted(torrent(2)))
            assert not gate.lists.unwanted(torrent(1))

    async def test_a_change_while_all_is_read_is_not_lost(
        self, valkey: StoreServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Changed behind the walk's back, when it has passed: only the changes tell."""
        async with ledger_at(valkey.url) as ledger:
            await change(ledger, DENY, TORRENTS, [torrent(1), torrent(2)])
            walk = Ledger.entries

            async def entries(of: Ledger, which: str) -> AsyncIterator[list[Known]]:
                async for part in walk(of, which):
                    yield part
                if which == TORRENTS:
                    await change(ledger, REMOVE, TORRENTS, [torrent(1)])
                    await change(ledger, DENY, TORRENTS, [torrent(3)])

            monkeypatch.setattr(Ledger, "entries", entries)
            async with node_at(valkey.url) as gate:
                assert [gate.lists.unwanted(torrent(number)) for number in (1, 2, 3)] == [False, True, True]

    async def test_lists_that_were_begun_anew_take_the_place_of_the_old(self, valkey: StoreServer) -> None:
        async with ledger_at(valkey.url) as ledger, node_at(valkey.url) as gate:
            await change(ledger, DENY, TORRENTS, [torrent(1)])
            await until(lambda: gate.lists.unwanted(torrent(1)))
            valkey.flush()
            await until(lambda: gate.counters.access_failures["store"])
            assert gate.lists.unwanted(torrent(1)), "that Redis was emptied lets nobody in"
            await change(ledger, DENY, TORRENTS, [torrent(2)])
            await until(lambda: gate.lists.unwanted(torrent(2)))
            assert not gate.lists.unwanted(torrent(1))

    async def test_a_change_that_cannot_be_read_leaves_what_holds(self, valkey: StoreServer) -> None:
        async with ledger_at(valkey.url) as ledger, node_at(valkey.url) as gate:
            await change(ledger, DENY, TORRENTS, [torrent(1)])
            await until(lambda: gate.lists.unwanted(torrent(1)))
            with valkey.client() as client:
                client.xadd(CHANGES.decode(), {"changes": b"\xff" * 9}, id="2-0")
                epoch = client.get(VERSION.decode()).split()[0]
                client.set(VERSION.decode(), epoch + b" 2")
            await until(lambda: gate.counters.access_failures["store"])
            assert gate.lists.unwanted(torrent(1))


class TestWhileRedisIsAway:
    async def test_what_was_known_holds(self, store_servers: StoreServers) -> None:
        server = store_servers()
        async with ledger_at(server.url) as ledger, node_at(server.url) as gate:
            await change(ledger, DENY, TORRENTS, [torrent(1)])
            await until(lambda: gate.lists.unwanted(torrent(1)))
            server.stop()
            await until(lambda: gate.counters.access_failures["store"])
            assert gate.lists.unwanted(torrent(1))
            assert gate.counters.access_failures["store"] == 1, "an outage is one failure, however often it is looked"

    async def test_a_server_that_took_over_without_a_change_may_be_at_the_same_number_by_another(
        self, store_servers: StoreServers
    ) -> None:
        server = store_servers()
        async with node_at(server.url) as gate:
            async with ledger_at(server.url) as ledger:
                await change(ledger, DENY, TORRENTS, [torrent(1)])
                await change(ledger, DENY, TORRENTS, [torrent(2)])
                await until(lambda: gate.lists.unwanted(torrent(2)))
                version = await ledger.version()
            assert version is not None
            server.kill()
            await until(lambda: gate.counters.access_failures["store"])
            server.start()
            with server.client() as client:  # at once, as what a replica has is there when it takes over
                item = pack_change(Change(TORRENTS, DENY, torrent(3)))
                with client.pipeline() as together:
                    for number in (1, 2):
                        together.xadd(CHANGES.decode(), {"changes": item}, id=f"{number}-0")
                    for entry in (torrent(1), torrent(3)):
                        together.hset(key_of(TORRENTS).decode(), entry, b"-0 {}")
                    together.set(VERSION.decode(), f"{version.epoch} 2")
                    together.execute()
            await until(lambda: gate.lists.unwanted(torrent(3)))
            assert [gate.lists.unwanted(torrent(number)) for number in (1, 2)] == [True, False]

    async def test_a_node_that_starts_has_them_of_its_file(
        self, store_servers: StoreServers, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        server, file = store_servers(), tmp_path / "lists"
        many = [torrent(number) for number in range(2_000)]
        async with ledger_at(server.url) as ledger, node_at(server.url, cache=str(file)):
            await change(ledger, DENY, TORRENTS, many, 4_000_000_000)
            await change(ledger, ALLOW, PASSKEYS, [ENTRIES[PASSKEYS]], user="somebody", passkey="x")
            await until_kept(file, 2_001)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert os.listdir(tmp_path) == ["lists"]
        server.stop()
        async with node_at(server.url, cache=str(file)) as gate:
            assert entries_of(gate) == {"torrents deny": 2_000, "passkeys allow": 1}
            assert all(map(gate.lists.unwanted, many))
            assert gate.counters.access_refreshed == pytest.approx(file.stat().st_mtime)
            assert str(file) in caplog.text

    @pytest.mark.parametrize("way", ["cut", "changed", "empty", "another", "none", "a directory"])
    async def test_a_file_that_is_not_whole_is_not_used(
        self, store_servers: StoreServers, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        server, file = store_servers(), tmp_path / "lists"
        async with ledger_at(server.url) as ledger, node_at(server.url, cache=str(file)):
            await change(ledger, DENY, TORRENTS, [torrent(1), torrent(2)])
            await until_kept(file, 2)
        server.stop()
        data = file.read_bytes()
        if way == "a directory":
            file.unlink()
            file.mkdir()
        elif way == "none":
            file.unlink()
        else:
            other = b"something else\n" + b"x" * 100
            changed = data.replace(torrent(1), torrent(3))
            file.write_bytes({"cut": data[:-40], "changed": changed, "empty": b"", "another": other}[way])
        async with node_at(server.url, cache=str(file)) as gate:
            assert entries_of(gate) == {}
            assert gate.counters.access_failures["cache"] == 1
            assert str(file) in caplog.text

    async def test_with_only_what_is_allowed_nothing_is_served_before_it_is_known(
        self, store_servers: StoreServers
    ) -> None:
        server = store_servers()
        async with ledger_at(server.url) as ledger:
            await change(ledger, ALLOW, TORRENTS, [torrent(1)])
        server.stop()
        async with node_at(server.url, torrents={"unlisted": "deny"}) as gate:
            assert gate.lists.unwanted(torrent(1))


async def until_kept(file: Path, entries: int) -> None:
    """Return when the file has so many."""

    async with asyncio.timeout(40):
        while True:
            try:
                _, tables = await read_cache(file)
            except (OSError, BadCache):
                pass
            else:
                if sum(sum(table.counts()) for table in tables.values()) == entries:
                    return
            await asyncio.sleep(0.1)


def test_changes_are_read_as_they_were_written() -> None:
    written = [
        Change(TORRENTS, DENY, torrent(1), 4_000_000_000),
        Change(CLIENTS, ALLOW, b"-"),
        Change(NETWORKS, REMOVE, ENTRIES[NETWORKS]),
        Change(PASSKEYS, ALLOW, ENTRIES[PASSKEYS], 0, "jemand ä"),
    ]
    data = b"".join(map(pack_change, written))
    assert [change for part in unpack_changes(data, 3) for change in part] == written
    assert [len(part) for part in unpack_changes(data, 3)] == [3, 1]
    ends = {sum(len(pack_change(change)) for change in written[:count]) for count in range(5)}
    for cut in set(range(len(data))) - ends:
        with pytest.raises(ValueError, match=r"item|entry"):
            list(unpack_changes(data[:cut], 10))


@pytest.mark.parametrize("data", [b"\x09\0\0\0\0\0\1a\0", b"\0\7" + bytes(4) + b"\x14" + bytes(21), b"\0\0" + bytes(6)])
def test_what_is_no_change_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"item|entry"):
        list(unpack_changes(data, 10))


def test_what_was_left_by_the_killed_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    left, written, others = tmp_path / ".lists.4000000", tmp_path / ".lists.4000001", tmp_path / ".lists.backup"
    for file in (left, written, others):
        file.write_bytes(b"half")
    tables = {which: make_table(which) for which in LISTS}
    with written.open("rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        for _ in range(2):
            asyncio.run(write_cache(tmp_path / "lists", Version("a", 1), tables))
    assert sorted(tmp_path.iterdir()) == [written, others, tmp_path / "lists"]


def test_the_digest_is_of_all_before_it(tmp_path: Path) -> None:
    file = tmp_path / "lists"
    body = b'udptracker lists 1 {"epoch": "x"}\n'
    file.write_bytes(body + sha256(body).digest())
    with pytest.raises(BadCache):
        asyncio.run(read_cache(file))
