"""The Redis layout: pure functions, and exactly what stands in Redis after announces."""

from __future__ import annotations

import random

import hiredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.contract import (
    COMPLETED,
    LEECHER,
    NONE,
    SEEDER,
    STARTED,
    STOPPED,
    Clock,
    announce,
    ask,
    ask_all,
    hash_of,
    peer_of,
    scrape,
)
from tests.support.servers import StoreServer
from tests.support.stores import counters_of, recount, redis_store, shared_contents
from udptracker.core.swarm import FAMILIES, IPV4, IPV6, PEER_KEY_BYTES, Role
from udptracker.storage.redis import layout

_HEX = "00ff" * 10


def unpack(packed: bytes) -> list[list[bytes]]:
    """The commands in packed bytes, as a server reads them."""
    reader = hiredis.Reader()
    reader.feed(packed)
    commands = []
    while (command := reader.gets()) is not False:
        commands.append(command)
    return commands


class TestNames:
    def test_are_those_of_the_shared_document(self) -> None:
        info_hash = bytes.fromhex(_HEX)
        assert layout.group(IPV4) == b"IPv4"
        assert layout.group(IPV6) == b"IPv6"
        assert layout.swarm_key(IPV4, SEEDER, info_hash) == f"IPv4_S_{_HEX}".encode()
        assert layout.swarm_key(IPV6, LEECHER, info_hash) == f"IPv6_L_{_HEX}".encode()
        assert layout.info_hash_counter(IPV4) == b"IPv4_infohash_count"
        assert layout.peers_counter(IPV4, SEEDER) == b"IPv4_S_count"
        assert layout.peers_counter(IPV6, LEECHER) == b"IPv6_L_count"

    def test_our_own_begin_with_our_name(self) -> None:
        own = [layout.REAPER_LEASE, layout.downloads_key(IPV4, hash_of(1)), layout.stopped_key(IPV6, hash_of(1), b"x")]
        assert all(key.startswith(b"udptracker_") for key in own)

    @given(st.sampled_from(FAMILIES), st.sampled_from(Role), st.binary(min_size=20, max_size=20))
    def test_a_swarm_key_is_read_back(self, family: int, role: Role, info_hash: bytes) -> None:
        assert layout.parse_swarm_key(layout.swarm_key(family, role, info_hash)) == (family, role, info_hash)

    @pytest.mark.parametrize(
        "name",
        [
            *("", "IPv4", "IPv4_S_", "IPv5_S_" + _HEX, "IPv4_X_" + _HEX, "IPv4_S_" + _HEX[1:], "IPv4_S_0" + _HEX),
            *("IPv4_S_" + "zz" * 20, "IPv4_S_" + _HEX.upper(), "IPv4_S_" + _HEX[:-2] + "  ", "IPv4_S_\xff" + _HEX[1:]),
        ],
    )
    def test_another_name_is_no_swarm_key(self, name: str) -> None:
        assert layout.parse_swarm_key(name.encode("latin-1")) is None


class TestPieces:
    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("role", Role)
    def test_join_to_the_commands_that_packing_makes(self, family: int, role: Role) -> None:
        commands, end = layout.COMMANDS[family, role], layout.END
        digits, peer, stamp = _HEX.encode(), bytes(range(PEER_KEY_BYTES[family])), b"1700000000123456789"
        key = layout.swarm_key(family, role, bytes.fromhex(_HEX))
        packed = [
            *(commands.put, digits, commands.peer, peer, layout.stamp_end(stamp)),
            *(commands.drop, digits, commands.peer, peer, end),
            *(commands.size, digits, end),
            *(commands.size, digits, commands.random, digits, layout.COUNTS[17]),
            *(commands.register, digits, layout.stamp_end(stamp)),
        ]
        assert commands.key + digits == key
        assert unpack(b"".join(packed)) == [
            [b"HSET", key, peer, stamp],
            [b"HDEL", key, peer],
            [b"HLEN", key],
            [b"HLEN", key],
            [b"HRANDFIELD", key, b"17"],
            [b"HSET", b"IPv%d" % family, key, stamp],
        ]

    @pytest.mark.parametrize("family", FAMILIES)
    def test_join_to_a_read_of_downloads(self, family: int) -> None:
        commands, info_hash = layout.DOWNLOADS[family], bytes(range(20))
        packed = (commands.get, info_hash[:2].hex().encode(), commands.field, info_hash, layout.END)
        assert unpack(b"".join(packed)) == [[b"HGET", layout.downloads_key(family, info_hash), info_hash]]

    @given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
    def test_a_packed_command_is_read_back(self, arguments: list[bytes]) -> None:
        assert unpack(layout.command(*arguments)) == [arguments]

    def test_changes_are_summed_by_counter(self) -> None:
        packed = layout.sum_changes([(b"a", 1), (b"b", 1), (b"a", 1), (b"b", -1), (b"c", -1)])
        assert [(key, unpack(command)) for key, command in packed] == [
            (b"a", [[b"INCRBY", b"a", b"2"]]),
            (b"c", [[b"INCRBY", b"c", b"-1"]]),
        ]


class TestContents:
    """What a chihaya node finds beside us."""

    @pytest.mark.parametrize("family", FAMILIES)
    async def test_of_a_seeder_and_a_leecher(self, store_server: StoreServer, clock: Clock, family: int) -> None:
        async with redis_store(store_server.url, clock, remember_stops=60.0) as store:
            first = b"%d" % clock()
            await ask(store, announce(1, SEEDER, STARTED, info_hash=5, family=family))
            clock.advance(1)
            second = b"%d" % clock()
            await ask(store, announce(2, LEECHER, NONE, info_hash=5, family=family))
        name = f"IPv{family}"
        seeders, leechers = (f"{name}_{letter}_{hash_of(5).hex()}".encode() for letter in "SL")
        with store_server.client() as client:
            assert shared_contents(client) == {
                name.encode(): {seeders: first, leechers: second},
                seeders: {peer_of(1, family): first},
                leechers: {peer_of(2, family): second},
                f"{name}_infohash_count".encode(): b"1",
                f"{name}_S_count".encode(): b"1",
                f"{name}_L_count".encode(): b"1",
            }
        assert (len(first), len(peer_of(1, family))) == (19, {IPV4: 26, IPV6: 38}[family])

    async def test_a_leecher_alone_counts_no_info_hash(self, valkey: StoreServer, clock: Clock) -> None:
        async with redis_store(valkey.url, clock) as store:
            await ask(store, announce(1, LEECHER, STARTED))
        with valkey.client() as client:
            assert client.get("IPv4_infohash_count") is None
            assert client.get("IPv4_L_count") == b"1"

    @pytest.mark.parametrize("event", [NONE, COMPLETED])
    async def test_of_a_graduation(self, valkey: StoreServer, clock: Clock, event: int) -> None:
        async with redis_store(valkey.url, clock) as store:
            await ask(store, announce(1, LEECHER, STARTED))
            await ask(store, announce(1, SEEDER, COMPLETED if event else NONE))
        stamp, hexadecimal = b"%d" % clock(), hash_of(1).hex()
        seeders, leechers = (f"IPv4_{letter}_{hexadecimal}".encode() for letter in "SL")
        with valkey.client() as client:
            assert shared_contents(client) == {
                # The name of the emptied hash stays for the reaper, as chihaya leaves it.
                b"IPv4": {seeders: stamp, leechers: stamp},
                seeders: {peer_of(1): stamp},
                b"IPv4_infohash_count": b"1",
                b"IPv4_S_count": b"1",
                b"IPv4_L_count": b"0",
            }
            downloads = client.hgetall("udptracker_downloads_IPv4_0000")
            assert downloads == ({hash_of(1): b"1"} if event is COMPLETED else {})

    async def test_a_steady_announce_leaves_the_registry_alone(self, valkey: StoreServer, clock: Clock) -> None:
        async with redis_store(valkey.url, clock) as store:
            await ask(store, announce(1, SEEDER, STARTED))
            first = b"%d" % clock()
            clock.advance(60)
            await ask(store, announce(1, SEEDER, NONE))
        name = f"IPv4_S_{hash_of(1).hex()}"
        with valkey.client() as client:
            assert client.hgetall("IPv4") == {name.encode(): first}
            assert client.hgetall(name) == {peer_of(1): b"%d" % clock()}

    async def test_a_stop_is_remembered_for_a_while(self, valkey: StoreServer, clock: Clock) -> None:
        async with redis_store(valkey.url, clock, remember_stops=60.0) as store:
            await ask(store, announce(1, LEECHER, STARTED))
            await ask(store, announce(1, LEECHER, STOPPED))
        key = layout.stopped_key(IPV4, hash_of(1), peer_of(1))
        with valkey.client() as client:
            assert client.get(key) == b"%d" % clock()
            assert 0 < client.pttl(key) <= 60_000

    async def test_after_a_busy_time_nothing_is_there_that_should_not_be(
        self, store_server: StoreServer, clock: Clock
    ) -> None:
        rng = random.Random(7)
        async with redis_store(store_server.url, clock, remember_stops=60.0) as store:
            for _ in range(30):
                clock.advance(0.5)
                await ask_all(
                    store,
                    [
                        announce(
                            number,
                            rng.choice((SEEDER, LEECHER)),
                            rng.choice((NONE, STARTED, COMPLETED, STOPPED)),
                            info_hash=number % 5,
                            family=rng.choice(FAMILIES),
                        )
                        for number in rng.sample(range(200), 40)
                    ],
                )
                await scrape(store, 1, 2, 3)
            await store.totals()
        with store_server.client() as client:
            _assert_well_formed(client)
            assert counters_of(client) == recount(client)


def _assert_well_formed(client: redis.Redis) -> None:
    """Every key is one that chihaya's document describes, and every field and value has the one form it may have."""
    contents = shared_contents(client)
    registered = {family: contents.pop(layout.group(family), {}) for family in FAMILIES}
    for family in FAMILIES:
        for key in (layout.info_hash_counter(family), *(layout.peers_counter(family, role) for role in Role)):
            assert int(contents.pop(key, b"0")) >= 0
    assert contents, "nothing was stored"
    for name, fields in contents.items():
        parsed = layout.parse_swarm_key(name)
        assert parsed is not None, name
        assert name in registered[parsed[0]]
        assert {len(field) for field in fields} == {PEER_KEY_BYTES[parsed[0]]}
        assert all(len(value) == 19 and value.isdigit() for value in fields.values())
    for names in registered.values():
        assert all(len(value) == 19 and value.isdigit() for value in names.values())
