"""The walk that expires peers on Redis: alone among nodes, against those who announce meanwhile, over broken data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from tests.storage.contract import (
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
    hash_of,
    peer_of,
    scrape,
)
from tests.support.servers import StoreServer
from tests.support.stores import (
    ClockedRedisStore,
    Interposed,
    counters_of,
    recount,
    redis_store,
    shared_contents,
    topology_of,
)
from tests.support.waiting import PATIENCE
from udptracker.core.swarm import FAMILIES, IPV4, StoreUnavailable
from udptracker.storage.redis.layout import REAPER_LEASE
from udptracker.storage.redis.store import RedisStore


@pytest.fixture
def topology(store_server: StoreServer) -> Interposed:
    return Interposed(topology_of(store_server.url))


@pytest.fixture
async def store(topology: Interposed, clock: Clock) -> AsyncIterator[RedisStore]:
    store = ClockedRedisStore(topology, clock)
    await store.open()
    yield store
    await store.close()


async def fill(store: RedisStore, peers: int = 600, swarms: int = 40) -> None:
    """Seeders and leechers in both families, half of the peers each."""
    for family in FAMILIES:
        for role in (SEEDER, LEECHER):
            numbers = range(role * peers, role * peers + peers // 4)
            await ask_all(store, [announce(n, role, STARTED, 0, info_hash=n % swarms, family=family) for n in numbers])
    await store.totals()


class TestLease:
    async def test_lets_one_of_two_nodes_walk(
        self, store: RedisStore, store_server: StoreServer, clock: Clock, client: redis.Redis
    ) -> None:
        await fill(store)
        clock.advance(60)
        async with redis_store(store_server.url, clock) as other:
            reports = await asyncio.gather(store.reap(clock()), other.reap(clock()))
        assert sorted(report.ran for report in reports) == [False, True]
        assert sum(report.peers for report in reports) == 600
        assert not client.exists(REAPER_LEASE)

    async def test_of_a_dead_node_runs_out(self, store: RedisStore, client: redis.Redis) -> None:
        client.set(REAPER_LEASE, "a node that died", px=300)
        assert not (await store.reap(0)).ran
        async with asyncio.timeout(PATIENCE):
            while True:
                if (await store.reap(0)).ran:
                    break

    async def test_lasts_longer_than_a_node_is_silent(
        self, store: RedisStore, topology: Interposed, client: redis.Redis
    ) -> None:
        left: list[int] = []

        async def look() -> None:
            left.append(client.pttl(REAPER_LEASE))

        topology.before(b"HSCAN", look)
        await store.reap(0)
        assert 25_000 < left[0] <= 30_000

    async def test_is_kept_until_the_next_walk_is_due(
        self, store_server: StoreServer, clock: Clock, client: redis.Redis
    ) -> None:
        async with redis_store(store_server.url, clock, reap_interval=60.0) as store:
            await fill(store)
            clock.advance(60)
            assert (await store.reap(clock())).ran
            assert 50_000 < client.pttl(REAPER_LEASE) <= 60_000
            async with redis_store(store_server.url, clock, reap_interval=60.0) as other:
                assert not (await other.reap(clock())).ran
                client.delete(REAPER_LEASE)  # as if it had run out
                assert (await other.reap(clock())).ran

    async def test_is_given_up_by_a_walk_that_was_cut_off(
        self, store_server: StoreServer, topology: Interposed, clock: Clock, client: redis.Redis
    ) -> None:
        store = ClockedRedisStore(topology, clock, reap_interval=60.0)
        await store.open()
        await fill(store)
        clock.advance(60)
        middle = asyncio.Event()

        async def stay() -> None:
            middle.set()
            await asyncio.Event().wait()

        topology.before(b"EVAL", stay)
        reaping = asyncio.create_task(store.reap(clock()))
        async with asyncio.timeout(PATIENCE):
            await middle.wait()
        assert client.exists(REAPER_LEASE)
        reaping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reaping
        assert not client.exists(REAPER_LEASE)
        await store.close()

    async def test_holds_nobody_up_while_the_store_stands_still(
        self, store: RedisStore, store_server: StoreServer, topology: Interposed, clock: Clock
    ) -> None:
        await fill(store)
        clock.advance(60)
        middle = asyncio.Event()

        async def freeze() -> None:
            store_server.pause()
            middle.set()

        topology.before(b"EVAL", freeze)
        reaping = asyncio.create_task(store.reap(clock()))
        try:
            async with asyncio.timeout(PATIENCE):
                await middle.wait()
                reaping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reaping
        finally:
            store_server.resume()


class TestIndex:
    """The hash that names the swarm hashes."""

    async def names(self, store: RedisStore, client: redis.Redis) -> set[bytes]:
        await fill(store)
        await store.reap(0)
        names = {name for name in client.hkeys("IPv4") if isinstance(name, bytes)}
        assert len(names) == 80
        return names

    async def test_that_is_deleted_is_there_again_after_a_walk(
        self, store: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        names = await self.names(store, client)
        clock.advance(60)
        client.delete("IPv4")
        client.set("IPv4_S_not_a_swarm", "x")
        assert (await store.reap(0)).ran
        assert client.hgetall("IPv4") == dict.fromkeys(names, str(clock()).encode()), "by the store's clock"
        assert counters_of(client) == recount(client)

    async def test_that_is_deleted_among_newcomers_is_found_by_a_probe(
        self, store: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        names = await self.names(store, client)
        client.delete("IPv4")
        await ask_all(store, [announce(n, LEECHER, STARTED, 0, info_hash=100 + n) for n in range(100)])
        clock.advance(1)
        for _ in range(2):
            await ask(store, announce(1, SEEDER, NONE, info_hash=1))
        await store.reap(0)
        assert names < set(client.hkeys("IPv4"))
        assert counters_of(client) == recount(client)
        assert not client.exists("udptracker_lost_IPv4")

    async def test_that_lost_one_name_gets_it_back(self, store: RedisStore, client: redis.Redis) -> None:
        names = await self.names(store, client)
        client.hdel("IPv4", *list(names)[:1])
        await store.reap(0)
        assert set(client.hkeys("IPv4")) == names

    async def test_the_dead_in_it_are_reaped_again(self, store: RedisStore, clock: Clock, client: redis.Redis) -> None:
        await self.names(store, client)
        client.delete("IPv4", "IPv6")
        clock.advance(60)
        assert (await store.reap(clock())).peers == 600
        assert not any(map(any, counters_of(client).values()))

    async def test_nothing_is_looked_for_while_it_is_whole(self, store: RedisStore, client: redis.Redis) -> None:
        await self.names(store, client)
        client.config_resetstat()
        await store.reap(0)
        stats = client.info("commandstats")
        assert isinstance(stats, dict)
        assert "cmdstat_scan" not in stats

    async def test_of_another_type_does_not_keep_the_other_family_from_being_reaped(
        self, store: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        await fill(store)
        client.set("IPv4", "not a hash")
        clock.advance(60)
        report = await store.reap(clock())
        assert (report.peers, report.broken) == (300, 1)
        assert not client.exists("IPv6")


class TestMeanwhile:
    async def test_a_peer_that_announces_between_scan_and_removal_stays(
        self, store: RedisStore, topology: Interposed, clock: Clock, client: redis.Redis
    ) -> None:
        await ask_all(store, [announce(n, SEEDER, STARTED, 0) for n in range(10)])
        cutoff = clock()
        clock.advance(60)
        topology.before(b"EVAL", lambda: ask(store, announce(3, SEEDER, NONE, 0)))
        report = await store.reap(cutoff)
        assert (report.peers, report.swarms) == (9, 0)
        assert client.hkeys(f"IPv4_S_{hash_of(1).hex()}") == [peer_of(3)]
        assert counters_of(client) == recount(client)

    async def test_a_swarm_that_comes_alive_before_its_name_is_taken_stays(
        self, store: RedisStore, topology: Interposed, clock: Clock, client: redis.Redis
    ) -> None:
        await ask(store, announce(1, SEEDER, STARTED))
        clock.advance(60)
        topology.before(b"KEYS[2]", lambda: ask(store, announce(2, SEEDER, NONE)))
        report = await store.reap(clock() - SECOND)
        assert (report.peers, report.swarms) == (1, 0)
        assert client.hkeys("IPv4") == [f"IPv4_S_{hash_of(1).hex()}".encode()]
        assert counters_of(client)[IPV4] == (1, 1, 0)

    async def test_a_peer_that_stops_between_scan_and_removal_is_removed_once(
        self, store: RedisStore, topology: Interposed, clock: Clock, client: redis.Redis
    ) -> None:
        await ask_all(store, [announce(n, LEECHER, STARTED, 0) for n in range(10)])
        clock.advance(60)
        topology.before(b"EVAL", lambda: ask(store, announce(3, LEECHER, STOPPED)))
        assert (await store.reap(clock())).peers == 9
        assert counters_of(client)[IPV4] == (0, 0, 0)

    async def test_many_announces_lose_nothing(self, store: RedisStore, clock: Clock, client: redis.Redis) -> None:
        await fill(store)
        cutoff = clock()
        clock.advance(60)
        reaping = asyncio.create_task(store.reap(cutoff))
        fresh: set[int] = set()
        while not reaping.done():
            numbers = [(len(fresh) * 7 + n) % 10_000 for n in range(20)]
            await ask_all(store, [announce(n, SEEDER, NONE, 0, info_hash=n % 40) for n in numbers])
            fresh.update(numbers)
        await reaping
        rows = await scrape(store, *range(40))
        assert sum(row.seeders for row in rows) == len(fresh)
        assert all(row.leechers == 0 for row in rows)
        await store.reap(cutoff)
        assert counters_of(client) == recount(client)


class TestBrokenData:
    async def test_is_removed_and_counted_and_stops_nothing(
        self, store: RedisStore, clock: Clock, client: redis.Redis
    ) -> None:
        await ask(store, announce(1, SEEDER, STARTED))
        await ask(store, announce(2, LEECHER, STARTED))
        await ask(store, announce(3, SEEDER, STARTED, info_hash=9))
        stamp = str(clock())
        name = f"IPv4_S_{hash_of(1).hex()}"
        for number, value in enumerate(("", "soon", "-1", "1.8e18", "9" * 20, "9" * 5_000, "\x00")):
            client.hset(name, peer_of(100 + number), value)
        for field in ("", "short", peer_of(1, 6), "x" * 27):
            client.hset(name, field, stamp)
        for broken in ("", "rubbish", "IPv6_S_" + "00" * 20, "IPv4_X_" + "00" * 20, "IPv4_S_" + "zz" * 20):
            client.hset("IPv4", broken, stamp)
        wrong_type = f"IPv4_L_{hash_of(7).hex()}"
        client.set(wrong_type, "not a hash")
        client.hset("IPv4", wrong_type, stamp)
        report = await store.reap(clock() - SECOND)
        values, fields, names, types = 7, 4, 5, 1
        assert (report.peers, report.broken, report.swarms) == (0, values + fields + names + types, 0)
        contents = shared_contents(client)
        assert contents.pop(wrong_type.encode()) == b"not a hash"
        assert set(contents[b"IPv4"]) == {
            name.encode(),
            f"IPv4_L_{hash_of(1).hex()}".encode(),
            f"IPv4_S_{hash_of(9).hex()}".encode(),
        }
        assert contents[name.encode()] == {peer_of(1): stamp.encode()}
        assert counters_of(client) == recount(client)
        assert (await store.reap(clock() - SECOND)).broken == 0

    async def test_of_another_type_fails_its_own_announce_only(self, store: RedisStore, client: redis.Redis) -> None:
        client.set(f"IPv4_S_{hash_of(1).hex()}", "not a hash")
        good, bad, other = await store.execute(
            [announce(1, SEEDER, STARTED, info_hash=2), announce(1, SEEDER, STARTED), announce(2, info_hash=2)]
        )
        assert isinstance(bad, Exception)
        assert not isinstance(bad, StoreUnavailable)
        assert not isinstance(good, Exception)
        assert not isinstance(other, Exception)


class TestCounters:
    @pytest.mark.parametrize("wrong", ["0", "-17", "999999", "not a number"])
    async def test_are_set_right(self, store: RedisStore, client: redis.Redis, wrong: str) -> None:
        await fill(store)
        right = counters_of(client)
        assert right == recount(client)
        for family in FAMILIES:
            for name in ("infohash", "S", "L"):
                client.set(f"IPv{family}_{name}_count", wrong)
        assert (await store.reap(0)).peers == 0
        assert counters_of(client) == right
        assert await store.totals() == right

    async def test_that_are_broken_count_as_nothing(self, store: RedisStore, client: redis.Redis) -> None:
        await ask(store, announce(1, SEEDER, STARTED))
        client.set("IPv4_S_count", "not a number")
        assert (await store.totals())[IPV4] == (1, 0, 0)


class TestCutOff:
    async def test_in_the_middle_it_can_be_run_again(
        self, store: RedisStore, topology: Interposed, clock: Clock, client: redis.Redis
    ) -> None:
        await fill(store)
        clock.advance(60)
        middle = asyncio.Event()

        async def stay() -> None:
            middle.set()
            await asyncio.Event().wait()

        async def skip_one() -> None:
            topology.before(b"EVAL", stay)

        topology.before(b"EVAL", skip_one)
        reaping = asyncio.create_task(store.reap(clock()))
        async with asyncio.timeout(PATIENCE):
            await middle.wait()
        reaping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reaping
        left = sum(totals.seeders + totals.leechers for totals in recount(client).values())
        assert 0 < left < 600
        report = await store.reap(clock())
        assert (report.ran, report.peers) == (True, left)
        assert not any(map(any, counters_of(client).values()))
        assert not client.exists("IPv4", "IPv6")

    async def test_by_the_server_it_says_so(
        self, store: RedisStore, topology: Interposed, clock: Clock, client: redis.Redis
    ) -> None:
        await fill(store)
        clock.advance(60)

        async def cut() -> None:
            topology.drop_links("cut by the test")

        topology.before(b"EVAL", cut)
        with pytest.raises(StoreUnavailable):
            await store.reap(clock())
        client.delete(REAPER_LEASE)  # as if it had run out
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    report = await store.reap(clock())
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
                else:
                    break
        assert report.peers == 600
        assert not any(map(any, counters_of(client).values()))
