"""The contract of `udptracker.storage.base`, as tests that every store runs.

A test module of a store subclasses `StoreContract` and gives a fixture `stores`: a function that makes an opened,
empty-to-begin-with store with a clock that the test moves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from udptracker.core.swarm import (
    FAMILIES,
    IPV4,
    IPV6,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Role,
    ScrapeOperation,
    ScrapeResult,
    compact_endpoint,
    pack_peer_v4,
    pack_peer_v6,
)
from udptracker.core.wire import Event, SwarmStats, split_peers
from udptracker.storage.base import PeerStore

SECOND = 1_000_000_000
SEEDER, LEECHER = Role.SEEDER, Role.LEECHER
NONE, STARTED, COMPLETED, STOPPED = Event.NONE, Event.STARTED, Event.COMPLETED, Event.STOPPED


def hash_of(number: int) -> bytes:
    """The info hash of a number."""
    return number.to_bytes(20, "big")


def peer_of(number: int, family: int = IPV4, peer_id: int | None = None) -> bytes:
    """The peer key of a number: every number has an endpoint of its own."""
    name = (number if peer_id is None else peer_id).to_bytes(20, "big")
    if family == IPV6:
        return pack_peer_v6(name, 1 + number % 65535, number.to_bytes(16, "big"))
    return pack_peer_v4(name, 1 + number % 65535, number.to_bytes(4, "big"))


def announce(
    peer: int | bytes,
    role: Role = LEECHER,
    event: Event = NONE,
    want: int = 50,
    info_hash: int = 1,
    family: int = IPV4,
) -> AnnounceOperation:
    """An announce operation, with numbers for what need not be spelled out."""
    key = peer_of(peer, family) if isinstance(peer, int) else peer
    return AnnounceOperation(family, hash_of(info_hash), key, role, event, 0 if event is STOPPED else want)


def endpoints(result: AnnounceResult, family: int = IPV4) -> list[bytes]:
    """The compact endpoints of an answer."""
    return split_peers(result.peers, family)


def endpoint_of(number: int, family: int = IPV4) -> bytes:
    """The compact endpoint of a number's peer."""
    return compact_endpoint(peer_of(number, family))


class Clock:
    """A store's clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.nanoseconds = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.nanoseconds

    def advance(self, seconds: float) -> None:
        self.nanoseconds += int(seconds * SECOND)


async def ask(store: PeerStore, operation: AnnounceOperation) -> AnnounceResult:
    """The answer to one announce."""
    (result,) = await store.execute([operation])
    assert isinstance(result, AnnounceResult), result
    return result


async def ask_all(store: PeerStore, operations: Sequence[AnnounceOperation]) -> list[AnnounceResult]:
    """The answers to a batch of announces."""
    results = await store.execute(operations)
    assert all(isinstance(result, AnnounceResult) for result in results), results
    return [result for result in results if isinstance(result, AnnounceResult)]


async def scrape(store: PeerStore, *info_hashes: int, family: int = IPV4) -> list[SwarmStats]:
    """The rows of a scrape."""
    (result,) = await store.execute([ScrapeOperation(family, [hash_of(number) for number in info_hashes])])
    assert isinstance(result, ScrapeResult), result
    return result.rows()


class StoreContract:
    """What every store promises."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.mark.parametrize("family", FAMILIES)
    async def test_a_lone_announcer_is_counted_and_given_nobody(self, store: PeerStore, family: int) -> None:
        assert await ask(store, announce(1, LEECHER, STARTED, family=family)) == AnnounceResult(0, 1, b"")
        assert await ask(store, announce(2, SEEDER, STARTED, info_hash=2, family=family)) == AnnounceResult(1, 0, b"")

    @pytest.mark.parametrize("family", FAMILIES)
    async def test_peers_find_each_other(self, store: PeerStore, family: int) -> None:
        await ask(store, announce(1, SEEDER, STARTED, family=family))
        result = await ask(store, announce(2, LEECHER, STARTED, family=family))
        assert (result.seeders, result.leechers) == (1, 1)
        assert endpoints(result, family) == [endpoint_of(1, family)]
        result = await ask(store, announce(1, SEEDER, NONE, family=family))
        assert endpoints(result, family) == [endpoint_of(2, family)]

    async def test_families_never_mix(self, store: PeerStore) -> None:
        await ask(store, announce(1, SEEDER, family=IPV4))
        assert await ask(store, announce(2, LEECHER, family=IPV6)) == AnnounceResult(0, 1, b"")
        assert await scrape(store, 1, family=IPV4) == [SwarmStats(1, 0, 0)]
        assert await scrape(store, 1, family=IPV6) == [SwarmStats(0, 0, 1)]

    async def test_info_hashes_never_mix(self, store: PeerStore) -> None:
        await ask(store, announce(1, SEEDER, info_hash=1))
        assert await ask(store, announce(2, LEECHER, info_hash=2)) == AnnounceResult(0, 1, b"")

    async def test_an_absent_swarm_is_zeros(self, store: PeerStore) -> None:
        assert await scrape(store, 7) == [SwarmStats(0, 0, 0)]

    async def test_scrape_keeps_order_and_repeats(self, store: PeerStore) -> None:
        await ask(store, announce(1, SEEDER, info_hash=1))
        await ask(store, announce(1, LEECHER, info_hash=2))
        rows = await scrape(store, 2, 9, 1, 2)
        assert rows == [SwarmStats(0, 0, 1), SwarmStats(0, 0, 0), SwarmStats(1, 0, 0), SwarmStats(0, 0, 1)]

    async def test_a_seeder_is_given_leechers_only(self, store: PeerStore) -> None:
        await ask_all(store, [announce(n, SEEDER) for n in (1, 2)] + [announce(n, LEECHER) for n in (3, 4)])
        result = await ask(store, announce(1, SEEDER))
        assert sorted(endpoints(result)) == sorted([endpoint_of(3), endpoint_of(4)])

    async def test_a_leecher_is_given_seeders_first(self, store: PeerStore) -> None:
        await ask_all(store, [announce(n, SEEDER) for n in (1, 2)] + [announce(n, LEECHER) for n in range(3, 13)])
        for _ in range(10):
            found = endpoints(await ask(store, announce(3, LEECHER, want=5)))
            assert len(set(found)) == 5
            assert {endpoint_of(1), endpoint_of(2)} <= set(found)
            assert endpoint_of(3) not in found

    async def test_num_want_bounds_the_answer(self, store: PeerStore) -> None:
        await ask_all(store, [announce(n, SEEDER) for n in range(1, 30)])
        for want in (0, 1, 7, 28, 29, 30, 100):
            assert len(endpoints(await ask(store, announce(99, LEECHER, want=want)))) == min(want, 29)

    async def test_stopped_removes_the_peer_and_gets_no_peers(self, store: PeerStore) -> None:
        await ask_all(store, [announce(1, SEEDER, STARTED), announce(2, LEECHER, STARTED)])
        assert await ask(store, announce(2, LEECHER, STOPPED)) == AnnounceResult(1, 0, b"")
        assert await ask(store, announce(1, LEECHER, STOPPED)) == AnnounceResult(0, 0, b"")
        assert await scrape(store, 1) == [SwarmStats(0, 0, 0)]
        assert await ask(store, announce(3, LEECHER, STOPPED)) == AnnounceResult(0, 0, b"")

    @pytest.mark.parametrize("event", [NONE, STARTED, COMPLETED])
    async def test_a_peer_is_in_one_role_at_a_time(self, store: PeerStore, event: Event) -> None:
        await ask(store, announce(1, LEECHER, STARTED))
        result = await ask(store, announce(1, SEEDER, event))
        assert (result.seeders, result.leechers) == (1, 0)
        assert await scrape(store, 1) == [SwarmStats(1, 1 if event is COMPLETED else 0, 0)]
        result = await ask(store, announce(1, LEECHER, event))
        assert (result.seeders, result.leechers) == (0, 1)

    async def test_each_graduation_counts_one_download(self, store: PeerStore) -> None:
        await ask(store, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, SEEDER, COMPLETED))
        await ask(store, announce(1, SEEDER, COMPLETED))
        assert (await scrape(store, 1))[0].downloads == 1
        await ask(store, announce(2, SEEDER, STARTED))
        assert (await scrape(store, 1))[0].downloads == 1
        await ask(store, announce(2, LEECHER, NONE))
        await ask(store, announce(2, SEEDER, COMPLETED))
        assert await scrape(store, 1) == [SwarmStats(2, 2, 0)]

    async def test_a_download_counts_once_until_the_peer_has_stopped(self, store: PeerStore) -> None:
        for _ in range(3):
            await ask(store, announce(1, LEECHER, STARTED))
            await ask(store, announce(1, SEEDER, COMPLETED))
        assert await scrape(store, 1) == [SwarmStats(1, 1, 0)]
        await ask(store, announce(1, SEEDER, STOPPED))
        await ask(store, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, SEEDER, COMPLETED))
        assert await scrape(store, 1) == [SwarmStats(1, 2, 0)]

    async def test_completed_with_bytes_left_is_a_leecher(self, store: PeerStore) -> None:
        await ask(store, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, LEECHER, COMPLETED))
        assert await scrape(store, 1) == [SwarmStats(0, 0, 1)]

    async def test_downloads_outlive_the_swarm(self, store: PeerStore) -> None:
        await ask(store, announce(1, LEECHER, STARTED))
        await ask(store, announce(1, SEEDER, COMPLETED))
        await ask(store, announce(1, SEEDER, STOPPED))
        assert await scrape(store, 1) == [SwarmStats(0, 1, 0)]

    async def test_no_endpoint_twice_and_never_the_announcers_own(self, store: PeerStore) -> None:
        await ask(store, announce(peer_of(1, peer_id=1), LEECHER, STARTED))
        await ask(store, announce(peer_of(1, peer_id=2), LEECHER, STARTED))
        await ask(store, announce(peer_of(1, peer_id=3), SEEDER, STARTED))
        found = endpoints(await ask(store, announce(2, LEECHER)))
        assert found == [endpoint_of(1)]
        assert endpoints(await ask(store, announce(peer_of(1, peer_id=4), LEECHER))) == [endpoint_of(2)]

    async def test_every_other_peer_is_equally_likely(self, store: PeerStore) -> None:
        others = list(range(1, 21))
        await ask_all(store, [announce(n, LEECHER, STARTED) for n in (0, *others)])
        seen: Counter[bytes] = Counter()
        rounds, want = 1200, 5
        for _ in range(rounds // 100):
            for _ in range(100):
                seen.update(endpoints(await ask(store, announce(0, LEECHER, want=want))))
        assert set(seen) == {endpoint_of(n) for n in others}
        expected = rounds * want / len(others)
        # Binomial with p = 1/4 and n = 1200: a standard deviation is 15, so six of them leave 1 in 10**8 to chance.
        assert all(abs(count - expected) < 90 for count in seen.values()), seen

    async def test_answers_differ(self, store: PeerStore) -> None:
        await ask_all(store, [announce(n, SEEDER) for n in range(1, 101)])
        answers = {frozenset(endpoints(await ask(store, announce(200, LEECHER, want=10)))) for _ in range(20)}
        assert len(answers) > 10

    async def test_a_batch_keeps_order_and_length(self, store: PeerStore) -> None:
        batch: list[Operation] = [announce(n, SEEDER, STARTED, info_hash=n) for n in range(1, 60)]
        batch.insert(30, ScrapeOperation(IPV4, [hash_of(999)]))
        results = await store.execute(batch)
        assert len(results) == len(batch)
        scraped = results[30]
        assert isinstance(scraped, ScrapeResult)
        assert scraped.rows() == [SwarmStats(0, 0, 0)]
        assert all(result == AnnounceResult(1, 0, b"") for at, result in enumerate(results) if at != 30)

    async def test_one_batch_may_hold_a_peers_whole_life(self, store: PeerStore) -> None:
        await store.execute([announce(1, LEECHER, STARTED), announce(1, SEEDER, COMPLETED), announce(2, LEECHER)])
        assert await scrape(store, 1) == [SwarmStats(1, 1, 1)]
        await store.execute([announce(2, LEECHER, NONE), announce(2, LEECHER, STOPPED)])
        assert await scrape(store, 1) == [SwarmStats(1, 1, 0)]

    async def test_an_empty_batch_is_answered(self, store: PeerStore) -> None:
        assert await store.execute([]) == []

    async def test_totals_follow_what_happens(self, store: PeerStore) -> None:
        await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n % 3) for n in range(9)])
        await ask_all(store, [announce(n, LEECHER, NONE, info_hash=n % 3) for n in range(20, 24)])
        await ask(store, announce(20, SEEDER, COMPLETED, info_hash=20 % 3))
        await ask(store, announce(0, SEEDER, STOPPED, info_hash=0))
        await ask(store, announce(1, SEEDER, STARTED, family=IPV6))
        totals = await store.totals()
        assert totals == {IPV4: (3, 9, 3), IPV6: (1, 1, 0)}

    async def test_reap_removes_the_stale_and_spares_the_rest(self, store: PeerStore, clock: Clock) -> None:
        for family in FAMILIES:
            await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n % 4, family=family) for n in range(40)])
            await ask_all(store, [announce(n, LEECHER, STARTED, info_hash=n % 4, family=family) for n in range(50, 90)])
        clock.advance(600)
        await ask(store, announce(0, SEEDER, info_hash=0))
        await ask(store, announce(51, LEECHER, info_hash=51 % 4, family=IPV6))
        cutoff = clock() - 300 * SECOND
        report = await store.reap(cutoff)
        assert (report.ran, report.peers, report.broken) == (True, 158, 0)
        assert await store.totals() == {IPV4: (1, 1, 0), IPV6: ((await store.totals())[IPV6].swarms, 0, 1)}
        assert await scrape(store, 0, 1, 2, 3) == [SwarmStats(1, 0, 0), *[SwarmStats(0, 0, 0)] * 3]
        assert await scrape(store, 51 % 4, family=IPV6) == [SwarmStats(0, 0, 1)]
        assert (await store.reap(cutoff)).peers == 0

    async def test_reap_removes_every_peer_of_what_is_shunned(self, store: PeerStore, clock: Clock) -> None:
        for family in FAMILIES:
            await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n % 3, family=family) for n in range(300)])
            await ask_all(
                store, [announce(n, LEECHER, STARTED, info_hash=n % 3, family=family) for n in range(300, 600)]
            )
        shunned = {hash_of(1)}
        store.shun(lambda info_hash: info_hash in shunned)
        cutoff = clock() - SECOND
        report = await store.reap(cutoff)
        assert (report.ran, report.peers, report.broken) == (True, 400, 0)
        for family in FAMILIES:
            rows = await scrape(store, 0, 1, 2, family=family)
            assert rows == [SwarmStats(100, 0, 100), SwarmStats(0, 0, 0), SwarmStats(100, 0, 100)]
        assert await store.totals() == dict.fromkeys(FAMILIES, (2, 200, 200))
        assert (await store.reap(cutoff)).peers == 0
        shunned.clear()
        await ask(store, announce(1, SEEDER, STARTED))
        assert (await store.reap(cutoff)).peers == 0
        assert await scrape(store, 1) == [SwarmStats(1, 0, 0)]

    async def test_reap_takes_a_peer_exactly_at_the_cutoff(self, store: PeerStore, clock: Clock) -> None:
        await ask(store, announce(1, SEEDER))
        cutoff = clock()
        clock.advance(2)
        await ask(store, announce(2, SEEDER))
        assert (await store.reap(cutoff)).peers == 1
        assert await scrape(store, 1) == [SwarmStats(1, 0, 0)]

    async def test_a_reaped_swarm_comes_alive_again(self, store: PeerStore, clock: Clock) -> None:
        await ask(store, announce(1, SEEDER, STARTED))
        clock.advance(100)
        await store.reap(clock())
        assert await store.totals() == {IPV4: (0, 0, 0), IPV6: (0, 0, 0)}
        await ask(store, announce(1, SEEDER, NONE))
        assert await store.totals() == {IPV4: (1, 1, 0), IPV6: (0, 0, 0)}
        clock.advance(100)
        assert (await store.reap(clock())).peers == 1

    async def test_a_model_and_the_store_agree(self, store: PeerStore, clock: Clock) -> None:
        """Random lives of random peers, checked against sets."""
        rng = random.Random(20150215)
        model: dict[tuple[int, int], dict[int, tuple[Role, int]]] = {}
        downloads: Counter[tuple[int, int]] = Counter()
        counted: set[tuple[int, int, int]] = set()
        for _ in range(40):
            batch = []
            clock.advance(10)
            # One announce a peer and batch: within a batch a store may order what it likes.
            for number in rng.sample(range(30), 12):
                family, info_hash = rng.choice(FAMILIES), rng.randrange(3)
                role, event = rng.choice((SEEDER, LEECHER)), rng.choice((NONE, STARTED, COMPLETED, STOPPED))
                batch.append(announce(number, role, event, 8, info_hash, family))
                swarm = model.setdefault((family, info_hash), {})
                was = swarm.get(number)
                if event is STOPPED:
                    swarm.pop(number, None)
                    counted.discard((family, info_hash, number))
                    continue
                if event is COMPLETED and role is SEEDER and was is not None and was[0] is LEECHER:
                    downloads[family, info_hash] += (family, info_hash, number) not in counted
                    counted.add((family, info_hash, number))
                swarm[number] = (role, clock())
            await ask_all(store, batch)
            if rng.random() < 0.2:
                cutoff = clock() - 60 * SECOND
                await store.reap(cutoff)
                for swarm in model.values():
                    for number in [n for n, (_, at) in swarm.items() if at <= cutoff]:
                        del swarm[number]
            for (family, info_hash), swarm in model.items():
                seeders = sum(role is SEEDER for role, _ in swarm.values())
                expected = SwarmStats(seeders, downloads[family, info_hash], len(swarm) - seeders)
                assert await scrape(store, info_hash, family=family) == [expected]
