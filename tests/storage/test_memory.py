"""The memory store: the contract, and what is its own: random order, slices of the reaper, bytes of a peer."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.storage.contract import (
    COMPLETED,
    LEECHER,
    NONE,
    SEEDER,
    STARTED,
    STOPPED,
    Clock,
    StoreContract,
    announce,
    ask,
    endpoint_of,
    endpoints,
)
from udptracker.core.counters import Counters
from udptracker.core.swarm import (
    IPV4,
    IPV6,
    AnnounceOperation,
    AnnounceResult,
    Role,
    ScrapeOperation,
    ScrapeResult,
    compact_endpoint,
    pack_peer_v4,
    pack_peer_v6,
)
from udptracker.core.wire import split_peers
from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore
from udptracker.storage.swarms import MOST_DOWNLOADS_KEPT

_REPOSITORY: Final = Path(__file__).parents[2]

_MEASURE: Final = """
import os, random
from tests.storage.contract import announce
from udptracker.storage.memory import MemoryStore
from udptracker.core.swarm import Role
from udptracker.core.wire import Event

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

store = MemoryStore(random.Random(1).random)
before = resident()
for number in range(1_000_000):
    role = Role.SEEDER if number % 10 < 6 else Role.LEECHER
    store.apply(announce(number, role, Event.STARTED, 0, info_hash=(number * 2654435761) % 100_000 << 132))
print((resident() - before) / 1_000_000)
"""

_FLOOD: Final = """
import asyncio, gc, os, random
from tests.storage.contract import Clock, announce
from udptracker.storage.memory import MemoryStore
from udptracker.core.swarm import Role
from udptracker.core.wire import Event

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def few():
    for number in range(2_000):
        store.apply(announce(number, Role.SEEDER, Event.NONE, 0, info_hash=number << 140))
        store.apply(announce(number, Role.SEEDER, Event.NONE, 0))

clock = Clock()
store = MemoryStore(random.Random(1).random, clock)
few()
before = resident()
for number in range(150_000):
    store.apply(announce(number, Role.SEEDER, Event.STARTED, 0))
    store.apply(announce(number, Role.SEEDER, Event.STARTED, 0, info_hash=number << 140))
full = resident()
clock.advance(10)
cutoff = clock()
clock.advance(10)
few()
asyncio.run(store.reap(cutoff))
gc.collect()  # what the interpreter keeps of freed objects for the next ones holds a megabyte each at worst
print(before, full, resident())
"""


class TestMemoryStore(StoreContract):
    """The contract on memory."""

    @pytest.fixture
    def store(self, clock: Clock) -> PeerStore:
        return MemoryStore(random.Random(1).random, clock)


@pytest.fixture
def memory(clock: Clock) -> MemoryStore:
    return MemoryStore(random.Random(2).random, clock)


def apply(store: MemoryStore, *args: object, **options: object) -> AnnounceResult:
    """The answer to one announce, without an event loop."""
    result = store.apply(announce(*args, **options))  # type: ignore[arg-type]  # those of `announce`
    assert isinstance(result, AnnounceResult)
    return result


class TestRandomOrder:
    def test_newcomers_take_every_place_equally_often(self) -> None:
        """The first of ten to come is found at each of ten places, whoever came and left after it."""
        rng, places = random.Random(3), Counter[int]()
        rounds = 3_000
        for _ in range(rounds):
            store = MemoryStore(rng.random)
            for number in range(15):
                apply(store, number, SEEDER, STARTED)
            for number in range(10, 15):
                apply(store, number, SEEDER, STOPPED)
            everyone = endpoints(apply(store, 99, LEECHER, STARTED))
            places[everyone.index(endpoint_of(0))] += 1
        # Binomial with p = 1/10 and n = 3000: a standard deviation is 16.4, so six of them leave 1 in 10**8 to chance.
        assert all(abs(places[at] - rounds / 10) < 99 for at in range(10)), places

    def test_an_answer_costs_the_same_in_a_large_swarm(self) -> None:
        """Generous, since the machine is shared: a walk over the swarm would be a thousand times slower."""
        costs = []
        for size in (1_000, 1_000_000):
            store = MemoryStore(random.Random(4).random)
            for number in range(size):
                apply(store, number, LEECHER, STARTED, 0)
            operations = [announce(number * 997 % size, LEECHER, NONE, 30) for number in range(2_000)]
            costs.append(min(_seconds(store, operations) for _ in range(5)))
        assert costs[1] < 100 * costs[0], costs


class TestShortAndLong:
    """A list of peers has a dictionary only while it is long: it grows and shrinks across the bounds of that here."""

    @pytest.mark.parametrize("family", [IPV4, IPV6])
    def test_it_holds_what_a_plain_model_holds(self, family: int) -> None:
        """Addresses and ports of two kinds of bytes, so that an endpoint is also found across two others."""
        rng = random.Random(5)
        size = 4 if family == IPV4 else 16
        pack = pack_peer_v4 if family == IPV4 else pack_peer_v6
        peers = [pack(bytes(20), rng.choice((0, 1, 256, 257)), bytes(rng.choices((0, 1), k=size))) for _ in range(200)]
        store = MemoryStore(rng.random)
        model: dict[bytes, Role] = {}
        sizes = set()
        for step in range(6_000):
            leaving = step // 500 % 2  # by turns more come and more go
            peer = rng.choice(peers)
            role = SEEDER if rng.random() < 0.8 else LEECHER
            event = STOPPED if rng.random() < (0.8 if leaving else 0.2) else NONE
            result = store.apply(
                AnnounceOperation(family, bytes(20), peer, role, event, 0 if event == STOPPED else 400)
            )
            own = compact_endpoint(peer)
            assert isinstance(result, AnnounceResult)
            if event == STOPPED:
                model.pop(own, None)
            else:
                model[own] = role
                others = [each for each, its in model.items() if each != own and (role is LEECHER or its is LEECHER)]
                assert sorted(split_peers(result.peers, family)) == sorted(others)
            counted = Counter(model.values())
            assert (result.seeders, result.leechers) == (counted[SEEDER], counted[LEECHER])
            sizes.add(result.seeders)
        assert min(sizes) < 10
        assert max(sizes) > 40


def _seconds(store: MemoryStore, operations: list[AnnounceOperation]) -> float:
    started = time.perf_counter()
    for operation in operations:
        store.apply(operation)
    return time.perf_counter() - started


class TestReaper:
    async def test_lets_others_run_within_five_milliseconds(self, memory: MemoryStore, clock: Clock) -> None:
        """One huge swarm and many small ones, all of them stale: the worst there is."""
        for number in range(100_000):
            apply(memory, number, SEEDER, STARTED, 0)
        for number in range(50_000):
            apply(memory, number, LEECHER, STARTED, 0, info_hash=number % 20_000 << 140)
        clock.advance(10)
        reaping = asyncio.create_task(memory.reap(clock()))
        waits: list[float] = []
        while not reaping.done():
            # Of this process alone: what the machine gives to others meanwhile is not the reaper's.
            started = time.process_time()
            await asyncio.sleep(0)
            waits.append(time.process_time() - started)
        assert (await reaping).peers == 150_000
        assert len(waits) > 50
        # A pause of the garbage collector may hit any one of them.
        assert sorted(waits)[-3] < 0.005, sorted(waits)[-10:]

    async def test_spares_who_announces_in_between(self, memory: MemoryStore, clock: Clock) -> None:
        for number in range(20_000):
            apply(memory, number, SEEDER, STARTED, 0)
        cutoff = clock()
        clock.advance(10)
        reaping = asyncio.create_task(memory.reap(cutoff))
        again = 0
        for number in range(0, 20_000, 2_500):
            await asyncio.sleep(0)
            assert not reaping.done()
            apply(memory, number, SEEDER, NONE, 0)
            apply(memory, 20_000 + number, SEEDER, STARTED, 0)
            again += 2
        removed = (await reaping).peers + (await memory.reap(cutoff)).peers
        assert removed >= 20_000 - again
        assert (await memory.totals())[IPV4] == (1, again, 0)
        assert apply(memory, 99_999, LEECHER, STARTED).seeders == again

    async def test_can_be_cut_off_and_run_again(self, memory: MemoryStore, clock: Clock) -> None:
        for number in range(20_000):
            apply(memory, number, SEEDER, STARTED, 0, info_hash=number % 7)
        clock.advance(10)
        reaping = asyncio.create_task(memory.reap(clock()))
        for _ in range(3):
            await asyncio.sleep(0)
        reaping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reaping
        left = (await memory.totals())[IPV4].seeders
        assert 0 < left < 20_000
        assert (await memory.reap(clock())).peers == left
        assert await memory.totals() == {IPV4: (0, 0, 0), IPV6: (0, 0, 0)}

    async def test_forgets_swarms_that_are_empty(self, memory: MemoryStore, clock: Clock) -> None:
        await ask(memory, announce(1, SEEDER, STARTED))
        await ask(memory, announce(2, LEECHER, STARTED, info_hash=2))
        clock.advance(10)
        await ask(memory, announce(3, LEECHER, STARTED, info_hash=2))
        assert (await memory.reap(clock() - 5_000_000_000)).swarms == 1
        assert (await memory.totals())[IPV4] == (1, 0, 1)


class TestBounds:
    """A full store keeps no newcomer, and answers it with what it has."""

    async def test_a_newcomer_to_a_full_store_is_answered_and_not_kept(self, clock: Clock) -> None:
        counters = Counters()
        store = MemoryStore(random.Random(6).random, clock, counters=counters, max_peers=3)
        apply(store, 1, SEEDER, STARTED)
        apply(store, 2, LEECHER, STARTED)
        await ask(store, announce(3, LEECHER, STARTED, info_hash=2))
        for _ in range(2):
            answer = apply(store, 4, LEECHER, STARTED)
            assert sorted(endpoints(answer)) == [endpoint_of(1), endpoint_of(2)]
            assert (answer.seeders, answer.leechers) == (1, 1)
        assert apply(store, 5, SEEDER, STARTED) == AnnounceResult(1, 1, endpoint_of(2))
        assert apply(store, 6, SEEDER, STARTED, info_hash=3) == AnnounceResult(0, 0, b"")
        assert (await store.totals())[IPV4] == (2, 1, 2)
        assert counters.unkept == {"max_peers": 4, "max_swarms": 0}

    async def test_both_families_share_a_bound(self, clock: Clock) -> None:
        store = MemoryStore(random.Random(6).random, clock, max_peers=1)
        apply(store, 1, SEEDER, STARTED)
        v6 = AnnounceOperation(IPV6, bytes(20), pack_peer_v6(bytes(20), 1, bytes(range(16))), SEEDER, STARTED, 9)
        assert store.apply(v6) == AnnounceResult(0, 0, b"")
        assert await store.totals() == {IPV4: (1, 1, 0), IPV6: (0, 0, 0)}

    async def test_who_is_in_stays_and_may_change_its_role(self, clock: Clock) -> None:
        counters = Counters()
        store = MemoryStore(random.Random(6).random, clock, counters=counters, max_peers=2, max_swarms=1)
        apply(store, 1, LEECHER, STARTED)
        apply(store, 2, LEECHER, STARTED)
        assert apply(store, 1, LEECHER, NONE).peers == endpoint_of(2)
        answer = apply(store, 2, SEEDER, COMPLETED)
        assert (answer.seeders, answer.leechers) == (1, 1)
        assert (await store.totals())[IPV4] == (1, 1, 1)
        assert counters.unkept.total() == 0

    async def test_who_stops_or_expires_makes_room(self, clock: Clock) -> None:
        store = MemoryStore(random.Random(6).random, clock, max_peers=2, max_swarms=1)
        apply(store, 1, SEEDER, STARTED)
        apply(store, 2, SEEDER, STARTED)
        apply(store, 1, SEEDER, STOPPED)
        assert apply(store, 3, SEEDER, STARTED).seeders == 2
        clock.advance(10)
        await store.reap(clock())
        assert apply(store, 4, SEEDER, STARTED, info_hash=5).seeders == 1

    async def test_a_swarm_more_than_there_may_be_is_not_kept(self, clock: Clock) -> None:
        counters = Counters()
        store = MemoryStore(random.Random(6).random, clock, counters=counters, max_swarms=2)
        for info_hash in range(1, 6):
            apply(store, 1, SEEDER, STARTED, info_hash=info_hash)
        assert apply(store, 2, LEECHER, STARTED).peers == endpoint_of(1)
        assert (await store.totals())[IPV4] == (2, 2, 1)
        assert counters.unkept == {"max_peers": 0, "max_swarms": 3}

    async def test_a_newcomer_without_room_leaves_nothing_behind(self, clock: Clock) -> None:
        """A swarm that has one role only is gone when that is, whoever came in vain meanwhile."""
        store = MemoryStore(random.Random(6).random, clock, max_peers=1)
        apply(store, 1, SEEDER, STARTED)
        apply(store, 2, LEECHER, STARTED)
        apply(store, 1, SEEDER, STOPPED)
        assert (await store.totals())[IPV4] == (0, 0, 0)

    async def test_a_bound_that_is_lowered_drops_nobody(self, clock: Clock) -> None:
        store = MemoryStore(random.Random(6).random, clock)
        for number in range(10):
            apply(store, number, SEEDER, STARTED)
        store.use(max_peers=5, max_swarms=1)
        assert apply(store, 3, SEEDER, NONE).seeders == 10
        assert apply(store, 11, SEEDER, STARTED).seeders == 10
        store.use(max_peers=0, max_swarms=0)
        assert apply(store, 11, SEEDER, STARTED).seeders == 11

    async def test_that_it_is_full_is_said_seldom(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        store = MemoryStore(random.Random(6).random, clock, max_peers=1)
        for number in range(100):
            apply(store, number, SEEDER, STARTED)
        assert [record.message for record in caplog.records] == [
            "the store is full, it has max_peers: newcomers are answered and not kept"
        ]

    @pytest.mark.parametrize("begin", [b"", bytes(4)])
    def test_swarms_whose_info_hashes_begin_alike_lie_as_apart_as_others(self, clock: Clock, begin: bytes) -> None:
        """In one dictionary, 1,400,000 of them held everybody up for 87 ms when it grew."""
        store = MemoryStore(random.Random(6).random, clock)
        for number in range(20_000):
            info_hash = int.from_bytes(begin + number.to_bytes(2, "big"), "big") << 8 * (18 - len(begin))
            apply(store, 1, SEEDER, STARTED, 0, info_hash=info_hash)
        sizes = [len(shard) for shard in store._families[IPV4].shards]
        # Binomial with p = 1/256 and n = 20,000: eight standard deviations of 8.8 above 78.
        assert max(sizes) < 150
        assert sum(sizes) == 20_000

    def test_the_downloads_of_emptied_swarms_are_bounded(self, clock: Clock) -> None:
        store = MemoryStore(random.Random(6).random, clock)
        hashes = [(number + 1) << 140 for number in range(MOST_DOWNLOADS_KEPT + 500)]
        for info_hash in hashes:
            apply(store, 1, LEECHER, STARTED, 0, info_hash=info_hash)
            apply(store, 1, SEEDER, COMPLETED, 0, info_hash=info_hash)
            apply(store, 1, SEEDER, STOPPED, 0, info_hash=info_hash)
        scraped = store.apply(ScrapeOperation(IPV4, [number.to_bytes(20, "big") for number in hashes]))
        assert isinstance(scraped, ScrapeResult)
        assert [row.downloads for row in scraped.rows()] == [0] * 500 + [1] * MOST_DOWNLOADS_KEPT


def test_what_a_flood_took_is_given_back_once_it_has_expired() -> None:
    """Resident bytes before, at the end of and after 300,000 peers: many in one swarm, and many swarms of one. The few
    that stay are spread over all that a flood touched."""
    finished = subprocess.run(
        [sys.executable, "-c", _FLOOD], cwd=_REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    before, full, after = map(int, finished.stdout.split())
    assert full - before > 30_000_000
    assert after - before < (full - before) / 3, finished.stdout


def test_a_peer_takes_at_most_200_bytes() -> None:
    """1,000,000 peers in 100,000 swarms, by the resident size of a process of their own."""
    finished = subprocess.run(
        [sys.executable, "-c", _MEASURE], cwd=_REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    assert 30 < float(finished.stdout) <= 200, finished.stdout
