"""Batches on Redis: what crosses between two nodes or two announces, shared reads, and samples of large swarms."""

from __future__ import annotations

import asyncio
from collections import Counter
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
    scrape,
)
from tests.support.servers import StoreServer
from tests.support.stores import counters_of, recount, redis_store
from udptracker.core.swarm import IPV4, AnnounceResult, ScrapeOperation, ScrapeResult, StoreError, StoreUnavailable
from udptracker.core.wire import SwarmStats
from udptracker.storage.redis.samples import LARGE_SWARM, SAMPLE_PEERS
from udptracker.storage.redis.store import RedisStore

PEERS = 4 * SAMPLE_PEERS


@pytest.fixture
def client(valkey: StoreServer) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


@pytest.fixture
async def store(valkey: StoreServer, clock: Clock) -> AsyncIterator[RedisStore]:
    async with redis_store(valkey.url, clock) as store:
        yield store


def commands_since_start(client: redis.Redis) -> Counter[str]:
    """How often the server has run each command."""
    stats = client.info("commandstats")
    assert isinstance(stats, dict)
    return Counter({name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()})


class TestCost:
    async def test_a_steady_announce_is_one_write_and_the_reads(self, store: RedisStore, client: redis.Redis) -> None:
        await ask_all(store, [announce(n, SEEDER, STARTED) for n in range(5)] + [announce(9, LEECHER, STARTED)])
        await store.totals()
        client.config_resetstat()
        await ask(store, announce(9, LEECHER, NONE))
        spent = commands_since_start(client)
        assert {name: spent[name] for name in ("hset", "hlen", "hrandfield", "hdel", "eval")} == {
            "hset": 1,
            "hlen": 2,
            "hrandfield": 2,
            "hdel": 0,
            "eval": 0,
        }

    async def test_announces_for_one_swarm_share_their_reads_and_differ(
        self, store: RedisStore, client: redis.Redis
    ) -> None:
        await ask_all(store, [announce(n, SEEDER, STARTED) for n in range(50)])
        await store.totals()
        client.config_resetstat()
        results = await ask_all(store, [announce(n, LEECHER, STARTED, want=10) for n in range(100, 140)])
        spent = commands_since_start(client)
        assert (spent["hrandfield"], spent["hlen"]) == (2, 2)
        assert all(len(set(endpoints(result))) == 10 for result in results)
        assert len({frozenset(endpoints(result)) for result in results}) > 10

    async def test_scrapes_ask_for_a_swarm_once(self, store: RedisStore, client: redis.Redis) -> None:
        """However many of a batch, or how often one of them, ask for it; each is answered in its own order."""
        await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n) for n in (1, 2)])
        await store.totals()
        client.config_resetstat()
        asked = [[1, 2, 1], [2, 3], [3, 1]]
        results = await store.execute([ScrapeOperation(IPV4, [hash_of(n) for n in numbers]) for numbers in asked])
        spent = commands_since_start(client)
        assert (spent["hlen"], spent["hget"]) == (6, 3)
        assert [result.counts for result in results if isinstance(result, ScrapeResult)] == [
            [1, 0, 0] * 3,
            [1, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0],
        ]


class TestCrossing:
    async def test_two_nodes_begin_one_swarm_at_once(
        self, store: RedisStore, valkey: StoreServer, clock: Clock, client: redis.Redis
    ) -> None:
        """However their commands interleave, the swarm is registered once and each peer counted once."""
        async with redis_store(valkey.url, clock) as other:
            for number in range(1, 60):
                event = (NONE, STARTED)[number % 2]
                await asyncio.gather(
                    ask(store, announce(1, SEEDER, event, info_hash=number)),
                    ask(other, announce(2, SEEDER, NONE, info_hash=number)),
                )
            await other.totals()
        await store.totals()
        assert client.hlen("IPv4") == 59
        assert counters_of(client) == recount(client)
        assert counters_of(client)[IPV4] == (59, 118, 0)

    async def test_a_peer_changes_roles_on_two_nodes_at_once(
        self, store: RedisStore, valkey: StoreServer, clock: Clock, client: redis.Redis
    ) -> None:
        """Whoever comes last, the counters equal what is there, and the peer's next announce puts it in one role."""
        async with redis_store(valkey.url, clock) as other:
            for number in range(1, 40):
                await ask(store, announce(number, LEECHER, STARTED))
                await asyncio.gather(
                    ask(store, announce(number, SEEDER, COMPLETED)), ask(other, announce(number, LEECHER, NONE))
                )
                clock.advance(1)
                await ask(store, announce(number, SEEDER, COMPLETED))
            await other.totals()
        await store.totals()
        assert (await scrape(store, 1))[0][::2] == (39, 0)
        assert counters_of(client) == recount(client)

    async def test_one_batch_keeps_a_peers_order_of_events(self, store: RedisStore) -> None:
        await store.execute(
            [
                announce(1, LEECHER, NONE),
                announce(1, SEEDER, COMPLETED),
                announce(2, SEEDER, NONE),
                announce(2, LEECHER, STARTED),
                announce(3, SEEDER, NONE),
                announce(3, SEEDER, STOPPED),
            ]
        )
        assert await scrape(store, 1) == [SwarmStats(1, 1, 1)]


class TestFailures:
    async def test_a_wrong_type_fails_its_slot_and_no_other(self, store: RedisStore, client: redis.Redis) -> None:
        client.set(f"IPv4_L_{hash_of(2).hex()}", "not a hash")
        scrapes = ScrapeOperation(IPV4, [hash_of(3), hash_of(2)]), ScrapeOperation(IPV4, [hash_of(3)])
        results = await store.execute(
            [announce(1, SEEDER, STARTED, info_hash=n) for n in (1, 2, 3)] + [scrapes[0], scrapes[1]]
        )
        assert [isinstance(result, StoreError) for result in results] == [False, True, False, True, False]
        assert not any(isinstance(result, StoreUnavailable) for result in results)
        scraped = results[4]
        assert isinstance(scraped, ScrapeResult)
        assert scraped.counts == [1, 0, 0]

    async def test_a_broken_download_count_is_zero(self, store: RedisStore, client: redis.Redis) -> None:
        client.hset("udptracker_downloads_IPv4_0000", hash_of(1), "many")
        await ask(store, announce(1, SEEDER, STARTED))
        assert await scrape(store, 1) == [SwarmStats(1, 0, 0)]

    async def test_foreign_fields_in_a_swarm_are_not_given_out(self, store: RedisStore, client: redis.Redis) -> None:
        await ask_all(store, [announce(n, SEEDER, STARTED) for n in (1, 2)])
        client.hset(f"IPv4_S_{hash_of(1).hex()}", "foreign", "1")
        found = endpoints(await ask(store, announce(3, LEECHER, STARTED)))
        assert sorted(found) == sorted([endpoint_of(1), endpoint_of(2)])

    async def test_a_read_only_server_fails_the_batch(self, store: RedisStore, client: redis.Redis) -> None:
        client.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
                await store.execute([announce(1, SEEDER, STARTED)])
            with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
                await store.ping()
        finally:
            client.config_set("min-replicas-to-write", 0)
        await store.ping()


class TestSamples:
    """A swarm of twice what a sample holds of each role; the clock is the test's, so a sample ends when it says."""

    @pytest.fixture
    async def large(self, store: RedisStore, clock: Clock) -> RedisStore:
        for first in range(0, PEERS, 500):
            numbers = range(first, first + 500)
            await ask_all(store, [announce(n, SEEDER if n % 2 else LEECHER, STARTED, 0) for n in numbers])
        clock.advance(5)  # what was sampled on the way is over
        return store

    async def test_a_busy_large_swarm_is_read_twice_a_ttl(
        self, large: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        client.config_resetstat()
        for _ in range(100):
            clock.advance(0.02)
            found = endpoints(await ask(large, announce(0, LEECHER, NONE, 30)))
            assert len(set(found)) == 30
        assert commands_since_start(client)["hset"] == 100
        assert 4 <= commands_since_start(client)["hrandfield"] <= 12

    async def test_a_quiet_one_is_read_each_time(self, large: RedisStore, clock: Clock, client: redis.Redis) -> None:
        client.config_resetstat()
        for _ in range(5):
            clock.advance(1.5)
            await ask(large, announce(0, LEECHER, NONE, 30))
        assert commands_since_start(client)["hrandfield"] == 10

    async def test_a_small_busy_one_is_read_each_time(
        self, store: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        await ask_all(store, [announce(n, LEECHER, STARTED, 0) for n in range(LARGE_SWARM - 1)])
        client.config_resetstat()
        for _ in range(5):
            clock.advance(0.1)
            await ask(store, announce(0, LEECHER, NONE, 30))
        assert commands_since_start(client)["hrandfield"] == 10

    async def test_nobody_is_left_out_over_time(self, large: RedisStore, clock: Clock) -> None:
        seen: Counter[bytes] = Counter()
        for _ in range(400):
            clock.advance(0.1)
            seen.update(endpoints(await ask(large, announce(0, LEECHER, NONE, 50))))
        assert set(seen) == {endpoint_of(n) for n in range(1, PEERS, 2)}

    async def test_a_sample_never_outlives_its_ttl(self, large: RedisStore, clock: Clock) -> None:
        for _ in range(3):
            clock.advance(0.1)
            before = await ask(large, announce(0, LEECHER, NONE, 30))
        await ask_all(large, [announce(n, SEEDER, STOPPED) for n in range(1, PEERS, 2)])
        assert before.seeders == PEERS // 2
        clock.advance(1.0)
        after = await ask(large, announce(0, LEECHER, NONE, 30))
        assert after.seeders == 0
        gone = {endpoint_of(n) for n in range(1, PEERS, 2)}
        assert not gone & set(endpoints(after))

    async def test_answers_out_of_a_sample_keep_the_rules(self, large: RedisStore, clock: Clock) -> None:
        seeders = {endpoint_of(n) for n in range(1, PEERS, 2)}
        leechers = {endpoint_of(n) for n in range(0, PEERS, 2)}
        for number in range(200):
            clock.advance(0.01)
            batch = [announce(2 * number, LEECHER, NONE, 20), announce(2 * number + 1, SEEDER, NONE, 20)]
            to_leecher, to_seeder = await ask_all(large, batch)
            for result, allowed in ((to_leecher, seeders), (to_seeder, leechers)):
                found = endpoints(result)
                assert len(found) == len(set(found)) == 20
                assert set(found) <= allowed
            more = endpoints(await ask(large, announce(2 * number, LEECHER, NONE, SAMPLE_PEERS + 100)))
            assert len(more) == len(set(more)) == SAMPLE_PEERS + 100
            assert endpoint_of(2 * number) not in more

    async def test_who_comes_joins_the_sample_and_who_stops_leaves_it(self, large: RedisStore, clock: Clock) -> None:
        for _ in range(2):
            before = await ask(large, announce(0, LEECHER, NONE, SAMPLE_PEERS))
        for number, role, event in (
            (PEERS + 1, SEEDER, STARTED),
            (PEERS + 2, LEECHER, NONE),
            (PEERS + 3, SEEDER, NONE),
        ):
            await ask(large, announce(number, role, event))
        answer = await ask(large, announce(0, LEECHER, NONE, 2 * SAMPLE_PEERS))
        assert (answer.seeders, answer.leechers) == (before.seeders + 2, before.leechers + 1)
        assert {endpoint_of(PEERS + n) for n in (1, 2, 3)} <= set(endpoints(answer))
        await ask_all(large, [announce(PEERS + 1, SEEDER, STOPPED), announce(PEERS + 3, LEECHER, NONE)])
        answer = await ask(large, announce(0, LEECHER, NONE, 2 * SAMPLE_PEERS))
        assert (answer.seeders, answer.leechers) == (before.seeders, before.leechers + 2)
        assert endpoint_of(PEERS + 1) not in endpoints(answer)
        assert endpoints(answer).count(endpoint_of(PEERS + 3)) == 1


async def test_batches_in_flight_are_answered_each_with_its_own(store: RedisStore) -> None:
    batches = [[announce(n, SEEDER, STARTED, info_hash=swarm) for n in range(swarm)] for swarm in range(1, 40)]
    answers = await asyncio.gather(*(store.execute(batch) for batch in batches))
    for swarm, answer in enumerate(answers, 1):
        assert answer == [AnnounceResult(swarm, 0, b"")] * swarm
    assert await scrape(store, *range(1, 40)) == [SwarmStats(swarm, 0, 0) for swarm in range(1, 40)]
