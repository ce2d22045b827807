"""Old news on Redis: written where nothing newer is known, whoever wrote it, and as often as one likes."""

from __future__ import annotations

from typing import Final

import pytest
import redis

from tests.storage.contract import (
    LEECHER,
    SECOND,
    SEEDER,
    STARTED,
    STOPPED,
    Clock,
    announce,
    ask,
    hash_of,
    peer_of,
    scrape,
)
from tests.support.servers import StoreServer
from tests.support.stores import ClockedRedisStore, Interposed, counters_of, recount, topology_of
from udptracker.core.swarm import FAMILIES, IPV4, Role
from udptracker.core.wire import SwarmStats
from udptracker.storage.redis.layout import stopped_key
from udptracker.storage.redis.store import RedisStore
from udptracker.storage.replayable import Entry

_BEFORE: Final = -10 * SECOND
_AFTER: Final = 10 * SECOND


@pytest.fixture
def entry(clock: Clock) -> Entry:
    """What a node heard a moment ago: peer 1 began to seed swarm 1."""
    return Entry(IPV4, hash_of(1), peer_of(1), SEEDER, False, clock())


def roles(client: redis.Redis) -> list[Role]:
    """The roles that peer 1 has in swarm 1."""
    return [
        role
        for role, letter in zip(Role, "SL", strict=True)
        if client.hexists(f"IPv4_{letter}_{hash_of(1).hex()}", peer_of(1))
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("role", Role)
async def test_what_is_not_there_is_written_as_announces_write_it(
    store: RedisStore, client: redis.Redis, clock: Clock, family: int, role: Role
) -> None:
    stamp = clock() - 5 * SECOND
    await store.replay([Entry(family, hash_of(1), peer_of(1, family), role, False, stamp)])
    await store.totals()
    name = f"IPv{family}_{'SL'[role]}_{hash_of(1).hex()}"
    assert client.hgetall(name) == {peer_of(1, family): b"%d" % stamp}
    assert client.hgetall(f"IPv{family}") == {name.encode(): b"%d" % stamp}
    assert counters_of(client) == recount(client)


async def test_to_repeat_it_changes_nothing(store: RedisStore, client: redis.Redis, clock: Clock) -> None:
    entries = [Entry(IPV4, hash_of(n % 3), peer_of(n), Role(n % 2), n % 3 == 2, clock() + n) for n in range(100)]
    for _ in range(3):
        await store.replay(entries)
        await store.totals()
        assert counters_of(client) == recount(client)
    kept = [entry for entry in entries if not entry.stopped]
    assert counters_of(client)[IPV4][1:] == tuple(sum(entry.role is role for entry in kept) for role in Role)


@pytest.mark.parametrize(
    ("stopped", "role", "age", "expected"),
    [
        (False, SEEDER, _BEFORE, [SEEDER]),
        (False, LEECHER, _BEFORE, [SEEDER]),
        (False, SEEDER, _AFTER, [SEEDER]),
        (False, LEECHER, _AFTER, [LEECHER]),
        (True, LEECHER, _BEFORE, [SEEDER]),
        (True, LEECHER, _AFTER, []),
        (True, SEEDER, _AFTER, []),
    ],
)
async def test_of_an_announce_and_a_replay_the_newer_holds(
    store: RedisStore,
    client: redis.Redis,
    clock: Clock,
    entry: Entry,
    stopped: bool,
    role: Role,
    age: int,
    expected: list[Role],
) -> None:
    await ask(store, announce(1, SEEDER, STARTED))
    await store.replay([entry._replace(stopped=stopped, role=role, stamp=clock() + age)])
    await store.totals()
    assert roles(client) == expected
    assert counters_of(client)[IPV4][1:] == recount(client)[IPV4][1:]


@pytest.mark.parametrize(("age", "expected"), [(_BEFORE, []), (_AFTER, [SEEDER])])
async def test_a_stopped_peer_stays_stopped(
    store: RedisStore, client: redis.Redis, clock: Clock, entry: Entry, age: int, expected: list[Role]
) -> None:
    await ask(store, announce(1, LEECHER, STARTED))
    await ask(store, announce(1, LEECHER, STOPPED))
    await store.replay([entry._replace(stamp=clock() + age)])
    assert roles(client) == expected


async def test_a_stop_that_is_replayed_first_is_remembered(
    store: RedisStore, client: redis.Redis, clock: Clock, entry: Entry
) -> None:
    await store.replay([entry._replace(stopped=True, stamp=clock())])
    await store.replay([entry._replace(stamp=clock() - 1)])
    assert roles(client) == []
    assert client.get(stopped_key(IPV4, hash_of(1), peer_of(1))) == b"%d" % clock()


async def test_a_peer_is_in_one_role_afterwards(store: RedisStore, clock: Clock, entry: Entry) -> None:
    await store.replay([entry._replace(role=LEECHER, stamp=clock() - 2)])
    await store.replay([entry._replace(role=SEEDER, stamp=clock() - 1)])
    await store.replay([entry._replace(role=LEECHER, stamp=clock() - 2)])
    assert await scrape(store, 1) == [SwarmStats(1, 0, 0)]


async def test_what_another_node_writes_meanwhile_is_found(
    store_server: StoreServer, client: redis.Redis, clock: Clock, entry: Entry
) -> None:
    """Between the questions and the writes a peer announced in the other role to one node, and stopped at another."""
    late = b"%d" % (clock() + 1)

    async def announce_elsewhere() -> None:
        client.hset(f"IPv4_L_{hash_of(1).hex()}", peer_of(1), late)
        client.hset("IPv4", f"IPv4_L_{hash_of(1).hex()}", late)
        client.incr("IPv4_L_count")
        client.set(stopped_key(IPV4, hash_of(1), peer_of(2)), late)

    topology = Interposed(topology_of(store_server.url))
    topology.before(b"EVAL", announce_elsewhere)
    store = ClockedRedisStore(topology, clock, remember_stops=600.0)
    await store.open()
    await store.replay([entry, entry._replace(peer=peer_of(2))])
    assert await scrape(store, 1) == [SwarmStats(0, 0, 1)]
    assert roles(client) == [LEECHER]
    await store.reap(0)
    assert counters_of(client)[IPV4] == recount(client)[IPV4] == (0, 0, 1)
    await store.close()


async def test_a_broken_time_is_older_than_any(store: RedisStore, client: redis.Redis, entry: Entry) -> None:
    name = f"IPv4_S_{hash_of(1).hex()}"
    for value in ("", "soon", "9" * 30):
        client.hset(name, entry.peer, value)
        await store.replay([entry])
        assert client.hget(name, entry.peer) == b"%d" % entry.stamp


async def test_a_graduation_while_the_store_was_away_counts_one_download(
    store: RedisStore, clock: Clock, entry: Entry
) -> None:
    await ask(store, announce(1, LEECHER, STARTED))
    clock.advance(1)
    await store.replay([entry._replace(completed=True, stamp=clock())])
    assert await scrape(store, 1) == [SwarmStats(1, 1, 0)]
    await store.replay([entry._replace(completed=True, stamp=clock())])
    assert await scrape(store, 1) == [SwarmStats(1, 1, 0)]
    await store.replay([entry._replace(peer=peer_of(2), stamp=clock(), graduated=True)])
    assert await scrape(store, 1) == [SwarmStats(2, 2, 0)]
