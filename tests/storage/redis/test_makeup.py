"""What a batch makes up for on Redis: roles on clocks apart, one endpoint under many ids, names not written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

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
    endpoint_of,
    endpoints,
    hash_of,
    peer_of,
    scrape,
)
from tests.support.servers import StoreServer
from tests.support.stores import ClockedRedisStore, Interposed, counters_of, recount, redis_store, topology_of
from udptracker.core.counters import Counters
from udptracker.core.swarm import IPV4, AnnounceOperation, Role, ScrapeOperation, StoreError, StoreUnavailable
from udptracker.core.wire import Event, SwarmStats
from udptracker.storage.redis.makeup import CLOCKS_APART
from udptracker.storage.redis.store import RedisStore

SEEDERS = f"IPv4_S_{hash_of(1).hex()}"
LEECHERS = f"IPv4_L_{hash_of(1).hex()}"


@pytest.fixture
def client(valkey: StoreServer) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def topology(valkey: StoreServer) -> Interposed:
    return Interposed(topology_of(valkey.url))


@pytest.fixture
async def store(topology: Interposed, clock: Clock, counters: Counters) -> AsyncIterator[RedisStore]:
    store = ClockedRedisStore(topology, clock, remember_stops=600.0, counters=counters)
    await store.open()
    yield store
    await store.close()


def same_endpoint(number: int, peer_id: int, role: Role, event: Event = NONE) -> AnnounceOperation:
    return announce(peer_of(number, peer_id=peer_id), role, event)


class TestClocksApart:
    @pytest.fixture
    async def ahead(self, valkey: StoreServer, clock: Clock) -> AsyncIterator[RedisStore]:
        """Another node, whose clock is a little ahead."""
        async with redis_store(valkey.url, lambda: clock() + CLOCKS_APART // 2) as ahead:
            yield ahead

    @pytest.mark.parametrize(("was", "becomes"), [(LEECHER, SEEDER), (SEEDER, LEECHER)])
    async def test_a_change_of_role_reaches_the_node_that_is_behind(
        self, store: RedisStore, ahead: RedisStore, client: redis.Redis, was: Role, becomes: Role
    ) -> None:
        await ask(ahead, announce(1, was, STARTED))
        result = await ask(store, announce(1, becomes, NONE))
        expected = (1, 0) if becomes is SEEDER else (0, 1)
        assert (result.seeders, result.leechers) == expected
        assert (await scrape(store, 1))[0][::2] == expected
        await ahead.totals()
        await store.totals()
        assert counters_of(client)[IPV4][1:] == expected

    async def test_a_peer_that_both_move_at_once_is_in_one_role(
        self, store: RedisStore, ahead: RedisStore, topology: Interposed, client: redis.Redis
    ) -> None:
        topology.before(b"EVAL", lambda: ask(ahead, announce(1, LEECHER, NONE)))
        await ask(store, announce(1, SEEDER, NONE))
        assert sorted([client.hlen(SEEDERS), client.hlen(LEECHERS)]) == [0, 1]
        await ahead.totals()
        await store.totals()
        assert counters_of(client) == recount(client)

    async def test_what_is_newer_by_more_stays(self, store: RedisStore, valkey: StoreServer, clock: Clock) -> None:
        async with redis_store(valkey.url, lambda: clock() + 2 * CLOCKS_APART) as far_ahead:
            await ask(far_ahead, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, SEEDER, NONE))
        assert (await scrape(store, 1))[0][::2] == (1, 1)


class TestOneEndpoint:
    async def test_under_many_ids_crowds_nobody_out(self, store: RedisStore) -> None:
        await ask_all(store, [same_endpoint(99, number, SEEDER) for number in range(70)])
        await ask_all(store, [announce(number, SEEDER, NONE) for number in range(20)])
        everybody = {endpoint_of(number) for number in (*range(20), 99)}
        for _ in range(20):
            found = endpoints(await ask(store, announce(200, LEECHER, NONE, want=30)))
            assert len(found) == len(set(found))
            assert set(found) - {endpoint_of(200)} == everybody

    async def test_in_both_roles_is_made_up_for(self, store: RedisStore) -> None:
        for number in range(20):
            await ask_all(store, [same_endpoint(number, 0, SEEDER), same_endpoint(number, 1, LEECHER)])
        await ask_all(store, [announce(number, LEECHER, NONE) for number in range(40, 55)])
        for _ in range(20):
            found = endpoints(await ask(store, announce(200, LEECHER, NONE, want=30)))
            assert len(set(found)) == len(found) == 30

    async def test_is_given_once_out_of_a_sample(self, store: RedisStore, clock: Clock) -> None:
        await ask_all(store, [same_endpoint(number, 0, SEEDER) for number in range(60)])
        await ask_all(store, [same_endpoint(number, 1, LEECHER) for number in range(60)])
        for _ in range(50):
            clock.advance(0.01)
            found = endpoints(await ask(store, announce(200, LEECHER, NONE, want=100)))
            assert len(found) == len(set(found)) == 60

    async def test_is_freed_of_older_ids_by_who_starts(
        self, store: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        await ask_all(store, [same_endpoint(1, peer_id, SEEDER) for peer_id in range(5)])
        await ask_all(store, [same_endpoint(1, peer_id, LEECHER) for peer_id in range(5, 9)])
        await ask_all(store, [announce(2, LEECHER), announce(3, SEEDER)])
        clock.advance(1)
        await ask(store, same_endpoint(1, 100, LEECHER, STARTED))
        assert client.hkeys(SEEDERS) == [peer_of(3)]
        assert set(client.hkeys(LEECHERS)) == {peer_of(2), peer_of(1, peer_id=100)}
        await store.totals()
        assert counters_of(client) == recount(client)

    async def test_keeps_who_starts_at_the_same_moment(self, store: RedisStore, client: redis.Redis) -> None:
        await ask_all(store, [same_endpoint(1, peer_id, LEECHER, STARTED) for peer_id in range(2)])
        assert client.hlen(LEECHERS) == 2

    async def test_costs_a_steady_announce_nothing(self, store: RedisStore, client: redis.Redis) -> None:
        await ask_all(store, [same_endpoint(1, peer_id, LEECHER) for peer_id in range(5)])
        client.config_resetstat()
        await ask(store, same_endpoint(1, 0, LEECHER))
        assert client.hlen(LEECHERS) == 5
        stats = client.info("commandstats")
        assert isinstance(stats, dict)
        assert "cmdstat_eval" not in stats


class TestDownloads:
    async def test_count_once_until_the_peer_has_stopped(self, store: RedisStore) -> None:
        for _ in range(5):
            await ask(store, announce(1, LEECHER, STARTED))
            await ask(store, announce(1, SEEDER, COMPLETED))
        assert await scrape(store, 1) == [SwarmStats(1, 1, 0)]
        await ask(store, announce(1, SEEDER, STOPPED))
        await ask(store, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, SEEDER, COMPLETED))
        assert await scrape(store, 1) == [SwarmStats(1, 2, 0)]

    @pytest.mark.parametrize(
        ("stored", "shown"), [("-1", 0), (str(2**32 - 1), 2**32 - 1), (str(2**32), 2**32 - 1), ("9" * 30, 2**32 - 1)]
    )
    async def test_that_do_not_fit_are_the_nearest_that_do(
        self, store: RedisStore, client: redis.Redis, counters: Counters, stored: str, shown: int
    ) -> None:
        client.hset("udptracker_downloads_IPv4_0000", hash_of(1), stored)
        await ask(store, announce(1, SEEDER, STARTED, info_hash=2))
        assert await scrape(store, 1, 2) == [SwarmStats(0, shown, 0), SwarmStats(1, 0, 0)]
        assert counters.store_misfits == (int(stored) != shown)

    @pytest.mark.parametrize("stored", ["many", "9" * 30, str(2**63 - 1), ""])
    async def test_that_cannot_be_counted_further_keep_nobody_out(
        self, store: RedisStore, client: redis.Redis, counters: Counters, stored: str
    ) -> None:
        client.hset("udptracker_downloads_IPv4_0000", hash_of(1), stored)
        await ask(store, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, SEEDER, COMPLETED))
        assert counters.store_misfits == 1

    async def test_of_another_type_keep_nobody_out(
        self, store: RedisStore, client: redis.Redis, counters: Counters
    ) -> None:
        client.set("udptracker_downloads_IPv4_0000", "no hash")
        await ask(store, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, SEEDER, COMPLETED))
        assert counters.store_misfits == 1
        assert await scrape(store, 1, 2) == [SwarmStats(1, 0, 0), SwarmStats(0, 0, 0)]


class TestRegistration:
    async def test_that_fails_is_no_success_and_is_tried_until_it_holds(
        self, store: RedisStore, client: redis.Redis
    ) -> None:
        client.set("IPv4", "not a hash")
        started, steady = await store.execute([announce(1, SEEDER, STARTED), announce(2, LEECHER, NONE, info_hash=2)])
        for result in (started, steady):
            assert isinstance(result, StoreError)
            assert not isinstance(result, StoreUnavailable)
        again = await ask(store, announce(1, SEEDER, NONE))
        assert (again.seeders, again.leechers) == (1, 0)
        client.delete("IPv4")
        await store.execute([ScrapeOperation(IPV4, [hash_of(3)])])
        assert set(client.hkeys("IPv4")) == {SEEDERS.encode(), f"IPv4_L_{hash_of(2).hex()}".encode()}
        await store.totals()
        assert counters_of(client) == recount(client)
        client.delete("IPv4")
        await store.execute([ScrapeOperation(IPV4, [hash_of(3)])])
        assert not client.exists("IPv4")

    async def test_that_is_gone_is_noticed_by_a_steady_announce(
        self, store: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        await ask_all(store, [announce(number, SEEDER, STARTED, info_hash=number) for number in range(5)])
        client.delete("IPv4")
        clock.advance(1)
        await ask(store, announce(3, SEEDER, NONE, info_hash=3))
        assert client.hkeys("IPv4") == [f"IPv4_S_{hash_of(3).hex()}".encode()]
        await ask(store, announce(3, SEEDER, NONE, info_hash=3))
        assert client.get("udptracker_lost_IPv4") == b"1"
