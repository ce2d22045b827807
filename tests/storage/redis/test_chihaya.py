"""A chihaya node and this store on one Redis: they see each other's peers, and reap and count alike."""

from __future__ import annotations

import random

import pytest
import redis

from tests.storage.contract import (
    COMPLETED,
    LEECHER,
    NONE,
    SECOND,
    SEEDER,
    STARTED,
    STOPPED,
    Clock,
    announce,
    ask,
    ask_all,
    endpoint_of,
    endpoints,
    hash_of,
    peer_of,
    scrape,
)
from tests.support.chihaya import ChihayaNode, ChihayaPeer
from tests.support.stores import counters_of, recount, shared_contents
from udptracker.core.swarm import FAMILIES, IPV4, IPV6, Totals
from udptracker.core.wire import SwarmStats
from udptracker.storage.base import PeerStore
from udptracker.storage.redis.layout import PING


def chihaya_peer(number: int, family: int = IPV4) -> ChihayaPeer:
    """The peer of a number, as the other node has it."""
    key = peer_of(number, family)
    return ChihayaPeer(key[:20], int.from_bytes(key[20:22], "big"), key[22:])


@pytest.fixture
def chihaya(client: redis.Redis, clock: Clock) -> ChihayaNode:
    return ChihayaNode(client, clock)


@pytest.mark.parametrize("family", FAMILIES)
async def test_each_sees_the_others_peers(store: PeerStore, chihaya: ChihayaNode, family: int) -> None:
    chihaya.put_seeder(family, hash_of(1), chihaya_peer(1, family))
    chihaya.put_leecher(family, hash_of(1), chihaya_peer(2, family))
    result = await ask(store, announce(3, LEECHER, STARTED, family=family))
    assert (result.seeders, result.leechers) == (1, 2)
    assert sorted(endpoints(result, family)) == sorted([endpoint_of(1, family), endpoint_of(2, family)])
    await ask(store, announce(4, SEEDER, STARTED, family=family))
    found = chihaya.announce_peers(family, hash_of(1), seeder=False, num_want=50)
    assert {peer.key() for peer in found} == {peer_of(number, family) for number in (1, 2, 3, 4)}
    assert chihaya.announce_peers(family, hash_of(1), seeder=True, num_want=1)[0].key() in (
        peer_of(2, family),
        peer_of(3, family),
    )
    assert chihaya.scrape(family, hash_of(1)) == (2, 2)
    assert await scrape(store, 1, family=family) == [SwarmStats(2, 0, 2)]


async def test_a_peer_may_change_nodes_in_the_middle_of_its_life(
    store: PeerStore, chihaya: ChihayaNode, client: redis.Redis
) -> None:
    chihaya.put_leecher(IPV4, hash_of(1), chihaya_peer(1))
    await ask(store, announce(1, SEEDER, COMPLETED))
    assert chihaya.scrape(IPV4, hash_of(1)) == (1, 0)
    assert chihaya.delete_seeder(IPV4, hash_of(1), chihaya_peer(1))
    await ask(store, announce(2, LEECHER, STARTED))
    chihaya.graduate_leecher(IPV4, hash_of(1), chihaya_peer(2))
    assert (await ask(store, announce(2, SEEDER, NONE))).leechers == 0
    await ask(store, announce(2, SEEDER, STOPPED))
    assert chihaya.announce_peers(IPV4, hash_of(1), seeder=False, num_want=50) == []
    await store.totals()
    assert counters_of(client)[IPV4][1:] == recount(client)[IPV4][1:] == (0, 0)


async def test_each_reaps_the_others_peers(
    store: PeerStore, chihaya: ChihayaNode, client: redis.Redis, clock: Clock
) -> None:
    async def fill() -> None:
        for family in FAMILIES:
            for number in range(8):
                chihaya.put_seeder(family, hash_of(number % 3), chihaya_peer(number, family))
                chihaya.put_leecher(family, hash_of(number % 3), chihaya_peer(100 + number, family))
            await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n % 4, family=family) for n in range(20, 30)])
            await ask_all(store, [announce(n, LEECHER, NONE, info_hash=n % 4, family=family) for n in range(40, 50)])
        await store.totals()

    await fill()
    clock.advance(600)
    assert (await store.reap(clock())).peers == 72
    assert not any(map(any, counters_of(client).values()))
    assert not client.exists("IPv4", "IPv6")
    await fill()
    clock.advance(600)
    assert chihaya.collect_garbage(clock()) == 72
    assert not any(map(any, counters_of(client).values()))
    assert not client.exists("IPv4", "IPv6")


async def test_both_at_work_leave_counters_that_equal_a_recount(
    store: PeerStore, chihaya: ChihayaNode, client: redis.Redis, clock: Clock
) -> None:
    rng = random.Random(11)
    for step in range(60):
        clock.advance(5)
        await ask_all(
            store,
            [
                announce(
                    number,
                    rng.choice((SEEDER, LEECHER)),
                    rng.choice((NONE, STARTED, COMPLETED, STOPPED)),
                    info_hash=number % 4,
                    family=rng.choice(FAMILIES),
                )
                for number in rng.sample(range(60), 10)
            ],
        )
        for number in rng.sample(range(60), 5):
            family, info_hash = rng.choice(FAMILIES), hash_of(number % 4)
            peer = chihaya_peer(number, family)
            act = rng.choice((chihaya.put_leecher, chihaya.graduate_leecher, chihaya.delete_seeder))
            act(family, info_hash, peer)
        if step % 20 == 19:
            await store.reap(clock() - 60 * SECOND)
            chihaya.collect_garbage(clock() - 50 * SECOND)
    # The two count a swarm whose last seeder stopped apart: until its name is collected, or not at all.
    await store.totals()
    assert [totals[1:] for totals in counters_of(client).values()] == [
        totals[1:] for totals in recount(client).values()
    ]
    report = await store.reap(clock() - 60 * SECOND)
    assert report.broken == 0
    assert counters_of(client) == recount(client)
    assert sum(totals.seeders for totals in recount(client).values()) > 0


async def test_our_own_keys_are_never_walked_over(
    store: PeerStore, chihaya: ChihayaNode, client: redis.Redis, clock: Clock
) -> None:
    await ask(store, announce(1, LEECHER, STARTED))
    await ask(store, announce(1, SEEDER, COMPLETED))
    await ask(store, announce(2, LEECHER, STARTED))
    await ask(store, announce(2, LEECHER, STOPPED))
    own = {key for key in client.keys("udptracker_*") if key != PING}
    assert len(own) == 4
    clock.advance(600)
    chihaya.collect_garbage(clock())
    assert {key for key in client.keys("udptracker_*") if key != PING} == own
    assert shared_contents(client).keys() <= {b"IPv4_infohash_count", b"IPv4_S_count", b"IPv4_L_count"}
    assert await scrape(store, 1) == [SwarmStats(0, 1, 0)]


async def test_a_swarm_that_the_other_emptied_comes_alive_here(
    store: PeerStore, chihaya: ChihayaNode, client: redis.Redis, clock: Clock
) -> None:
    await ask(store, announce(1, SEEDER, STARTED))
    clock.advance(600)
    chihaya.collect_garbage(clock())
    await ask(store, announce(1, SEEDER, NONE))
    assert client.hkeys("IPv4") == [f"IPv4_S_{hash_of(1).hex()}".encode()]
    assert (await store.totals())[IPV4] == Totals(1, 1, 0)
    assert (await store.totals())[IPV6] == Totals(0, 0, 0)


def test_the_stand_in_is_as_strict_as_chihaya(chihaya: ChihayaNode, client: redis.Redis) -> None:
    name = f"IPv4_S_{hash_of(1).hex()}"
    chihaya.put_seeder(IPV4, hash_of(1), chihaya_peer(1))
    client.hset(name, "short", "1")
    with pytest.raises(ValueError, match="5 bytes"):
        chihaya.announce_peers(IPV4, hash_of(1), seeder=False, num_want=50)
    client.hdel(name, "short")
    client.hset(name, peer_of(1), "1.7e18")
    with pytest.raises(ValueError, match="decimal"):
        chihaya.collect_garbage(0)
