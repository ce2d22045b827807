"""What a memory store holds as blocks: made in slices, and taken by a store that answers meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Final

import pytest
from hypothesis import given, settings
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
    hash_of,
    scrape,
)
from udptracker.core.swarm import FAMILIES, IPV4, AnnounceOperation, Role, place_of
from udptracker.storage.blocks import Block, Restoring
from udptracker.storage.memory import MemoryStore

LIFETIME: Final = 2100.0
LARGE: Final = 5_000
"""Peers of a swarm that has blocks of its own."""


def store_of(clock: Clock, max_peers: int = 0) -> MemoryStore:
    return MemoryStore(random.Random(1).random, clock, max_peers=max_peers)


def tell(store: MemoryStore, *operations: AnnounceOperation) -> None:
    """Announces, now."""
    store.begin()
    for operation in operations:
        store.apply(operation)


def take(restoring: Restoring, blocks: Iterable[Block]) -> Iterator[None]:
    """Every slice of it."""
    for block in blocks:
        yield from restoring.take(block)


def restore(
    copy: MemoryStore, store: MemoryStore, lifetime: float = LIFETIME, share: tuple[int, int] = (0, 1)
) -> Restoring:
    """What takes blocks of a store into another one, at the same moment."""
    restoring = copy.restore(lifetime, *share)
    restoring.date((copy.age - store.age) // 10**9)
    return restoring


def copied(
    store: MemoryStore, clock: Clock, lifetime: float = LIFETIME, share: tuple[int, int] = (0, 1)
) -> tuple[MemoryStore, Restoring]:
    """A store with what is in another one, and what brought it there. Its epoch is that of the other one."""
    copy = store_of(clock)
    copy._epoch = store._epoch
    restoring = restore(copy, store, lifetime, share)
    for _ in take(restoring, list(store.blocks())):
        pass
    copy.restored()
    return copy, restoring


def held(store: MemoryStore) -> dict[tuple[int, bytes], tuple[int, list[tuple[Role, bytes, int]]]]:
    """All that is in a store: downloads, and role, endpoint and word of each peer, by family and info hash."""
    everything: dict[tuple[int, bytes], tuple[int, list[tuple[Role, bytes, int]]]] = {}
    for family, swarms in store._families.items():
        width = swarms.width
        assert sum(map(len, swarms.shards)) == swarms.swarms
        counted = {Role.SEEDER: 0, Role.LEECHER: 0}
        for shard in swarms.shards:
            for info_hash, swarm in shard.items():
                found = []
                for role, peers in ((Role.SEEDER, swarm.seeders), (Role.LEECHER, swarm.leechers)):
                    if peers is None:
                        continue
                    counted[role] += len(peers.heard)
                    assert len(peers.order) == width * len(peers.heard)
                    for nth, word in enumerate(peers.heard):
                        endpoint = bytes(peers.order[nth * width : (nth + 1) * width])
                        assert peers.find(endpoint) == nth
                        found.append((role, endpoint, word))
                roles = [role for role, _, _ in found]
                assert (swarm.seeding, swarm.leeching) == (roles.count(Role.SEEDER), roles.count(Role.LEECHER))
                everything[family, info_hash] = swarm.downloads, sorted(found)
        for info_hash, (downloads, _) in swarms.kept.items():
            assert (family, info_hash) not in everything
            everything[family, info_hash] = downloads, []
        assert (swarms.seeders, swarms.leechers) == (counted[Role.SEEDER], counted[Role.LEECHER])
    return everything


peers = st.integers(0, 400)
announces = st.builds(
    announce,
    peer=peers,
    role=st.sampled_from(Role),
    event=st.sampled_from([NONE, STARTED, COMPLETED, STOPPED]),
    want=st.just(0),
    info_hash=st.sampled_from([0, 1, 2, 1 << 152, 3 << 140]),
    family=st.sampled_from(FAMILIES),
)
steps = st.lists(st.tuples(announces, st.integers(0, 60)), max_size=300)


class TestRoundTrip:
    @given(steps)
    @settings(max_examples=150)
    def test_a_store_comes_back_as_it_was(self, history: list[tuple[AnnounceOperation, int]]) -> None:
        clock = Clock()
        store = store_of(clock)
        for operation, seconds in history:
            tell(store, operation)
            clock.advance(seconds)
        copy, _ = copied(store, clock)
        assert held(copy) == held(store)
        assert list(copy.blocks()) == list(store.blocks())

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("size", [1, 33, 1_999, 2_001, LARGE, 100_001])
    def test_of_every_size(self, clock: Clock, family: int, size: int) -> None:
        store = store_of(clock)
        tell(store, *[announce(number, Role(number % 2), STARTED, 0, 7, family) for number in range(size)])
        tell(store, *[announce(number, SEEDER, STARTED, 0, 8, family) for number in range(40)])
        assert held(copied(store, clock)[0]) == held(store)

    async def test_downloads_come_back_with_and_without_peers(self, clock: Clock) -> None:
        store = store_of(clock)
        for info_hash in (1, 2):
            tell(store, announce(1, LEECHER, STARTED, 0, info_hash), announce(1, SEEDER, COMPLETED, 0, info_hash))
        tell(store, announce(1, SEEDER, STOPPED, 0, 2))
        copy, _ = copied(store, clock)
        tell(copy, announce(1, SEEDER, COMPLETED, 0, 1))  # its download was counted, and is not counted again
        assert [row.downloads for row in await scrape(copy, 1, 2)] == [1, 1]


class TestAges:
    def test_the_old_do_not_come_back_and_the_others_keep_their_ages(self, clock: Clock) -> None:
        """In swarms of which all, some or none are stale, and in one of more peers than a slice takes."""
        store = store_of(clock)
        tell(store, announce(1, SEEDER, STARTED, 0, 1), announce(2, LEECHER, STARTED, 0, 2))
        tell(store, *[announce(number, LEECHER, STARTED, 0, 3) for number in range(LARGE)])
        clock.advance(100)
        tell(store, announce(3, LEECHER, STARTED, 0, 2), announce(4, SEEDER, STARTED, 0, 4))
        tell(store, *[announce(number, LEECHER, STARTED, 0, 3) for number in range(0, LARGE, 2)])
        now = 2 * store._second
        young = {swarm: (0, [each for each in found if each[2] == now]) for swarm, (_, found) in held(store).items()}
        copy, taken = copied(store, clock, lifetime=50)
        assert held(copy) == {swarm: found for swarm, found in young.items() if found[1]}
        assert (taken.peers, taken.stale) == (2 + LARGE // 2, 2 + LARGE // 2)

    async def test_downloads_of_a_swarm_of_which_nobody_is_left_are_kept(self, clock: Clock) -> None:
        store = store_of(clock)
        tell(store, announce(1, LEECHER, STARTED, 0), announce(1, SEEDER, COMPLETED, 0))
        clock.advance(100)
        copy, _ = copied(store, clock, lifetime=50)
        assert await scrape(copy, 1) == [(0, 1, 0)]
        tell(copy, announce(2, SEEDER, STARTED, 0))
        assert await scrape(copy, 1) == [(1, 1, 0)]

    @pytest.mark.parametrize("size", [3, LARGE])
    async def test_who_comes_back_expires_when_due(self, clock: Clock, size: int) -> None:
        store = store_of(clock)
        tell(store, *[announce(number, SEEDER, STARTED, 0) for number in range(size)])
        clock.advance(1000)
        copy = store_of(clock)  # of an epoch of its own
        for _ in take(restore(copy, store), store.blocks()):
            pass
        lifetime = int(LIFETIME * 1e9)
        clock.advance(LIFETIME - 1000 - 2)
        assert (await copy.reap(copy.now() - lifetime)).peers == 0
        clock.advance(3)
        assert (await copy.reap(copy.now() - lifetime)).peers == size


class TestWhileAnswering:
    """What is announced while blocks are taken wins, before its swarm is, after it, and in between."""

    @pytest.mark.parametrize("size", [10, 1_000, LARGE])
    @pytest.mark.parametrize("when", [0, 1, 2])
    def test_what_is_announced_wins(self, clock: Clock, size: int, when: int) -> None:
        store = store_of(clock)
        tell(store, *[announce(number, LEECHER, STARTED, 0) for number in range(size)])
        clock.advance(60)
        copy = store_of(clock)
        restoring = restore(copy, store)
        slices = take(restoring, list(store.blocks()))
        for _ in range((0, 2, 1_000_000)[when]):
            if next(slices, STARTED) is STARTED:
                break
        tell(copy, announce(0, SEEDER, COMPLETED, 0))  # was a leecher, and is not one again
        tell(copy, announce(1, LEECHER, NONE, 0), announce(2, LEECHER, STOPPED, 0))
        tell(copy, announce(3, LEECHER, STARTED, 0), announce(3, LEECHER, STOPPED, 0))
        tell(copy, announce(4, LEECHER, STOPPED, 0), announce(4, SEEDER, STARTED, 0))
        tell(copy, announce(size, LEECHER, STARTED, 0))
        for _ in slices:
            pass
        copy.restored()
        _, found = held(copy)[IPV4, hash_of(1)]
        assert [role for role, _, _ in found].count(SEEDER) == 2
        assert [role for role, _, _ in found].count(LEECHER) == size - 2 - 2 + 1
        assert len([word for _, _, word in found if word >= 2 * copy._second]) == 4
        assert len({endpoint for _, endpoint, _ in found}) == len(found)

    def test_a_download_that_was_counted_stays_so(self, clock: Clock) -> None:
        store = store_of(clock)
        tell(store, announce(1, LEECHER, STARTED, 0), announce(1, SEEDER, COMPLETED, 0))
        copy = store_of(clock)
        tell(copy, announce(1, LEECHER, STARTED, 0))
        for _ in take(restore(copy, store), store.blocks()):
            pass
        tell(copy, announce(1, SEEDER, COMPLETED, 0))
        ((downloads, found),) = held(copy).values()
        assert (downloads, len(found)) == (1, 1)

    def test_a_bound_on_peers_holds(self, clock: Clock) -> None:
        store = store_of(clock)
        tell(store, *[announce(number, LEECHER, STARTED, 0, number) for number in range(100)])
        tell(store, *[announce(number, LEECHER, STARTED, 0, 0) for number in range(LARGE)])
        copy = store_of(clock, max_peers=60)
        taken = restore(copy, store)
        for _ in take(taken, store.blocks()):
            pass
        assert taken.peers + taken.unkept == LARGE + 99
        assert 60 <= taken.peers < 60 + 2_000  # a slice goes on when it has begun
        assert sum(len(found) for _, found in held(copy).values()) == taken.peers


class TestWorkers:
    @given(st.integers(1, 5), st.sets(st.integers(0, 2**32 - 1), max_size=50))
    @settings(max_examples=30)
    def test_each_takes_its_share(self, places: int, beginnings: set[int]) -> None:
        clock = Clock()
        store = store_of(clock)
        tell(store, *[announce(number, LEECHER, STARTED, 0, number << 128) for number in beginnings])
        tell(store, *[announce(number, LEECHER, STARTED, 0, 1 << 128) for number in range(LARGE)])
        shares = []
        for place in range(places):
            copy, _ = copied(store, clock, share=(place, places))
            shares.append(held(copy))
            assert all(place_of(info_hash, places) == place for _, info_hash in shares[-1])
        assert {swarm: found for share in shares for swarm, found in share.items()} == held(store)


class TestSlices:
    """How much is done between two pauses, by what is in it: how long that takes, `bench.snapshot` tells."""

    def filled(self, clock: Clock) -> MemoryStore:
        store = store_of(clock)
        tell(store, *[announce(number, Role(number % 2), STARTED, 0, number << 140) for number in range(3_000)])
        tell(store, *[announce(number, LEECHER, STARTED, 0, number % 30 + (1 << 155)) for number in range(9_000)])
        tell(store, *[announce(number, LEECHER, STARTED, 0, 1 << 156) for number in range(120_000)])
        return store

    def test_a_block_is_no_more_than_a_slice(self, clock: Clock) -> None:
        blocks = list(self.filled(clock).blocks())
        assert sum(block.peers for block in blocks) == 132_000
        assert max(block.swarms for block in blocks) <= 400
        assert max(block.peers for block in blocks if block.swarms > 1) < 22_000
        assert max(block.peers for block in blocks) == 100_000

    def test_a_slice_takes_no_more(self, clock: Clock) -> None:
        """Of peers in long lists, and of those in swarms that were announced to."""
        store, copy = self.filled(clock), store_of(clock)
        tell(copy, *[announce(200_000 + number, LEECHER, STARTED, 0, number << 140) for number in range(3_000)])
        restoring = restore(copy, store)
        before = most = 0
        for _ in take(restoring, list(store.blocks())):
            most = max(most, restoring.peers - before)
            before = restoring.peers
        assert restoring.peers == 132_000
        assert most <= 4_000

    def test_what_does_not_change_meanwhile_is_in_it(self, clock: Clock) -> None:
        store = self.filled(clock)
        before, blocks = held(store), []
        for number, block in enumerate(store.blocks()):
            blocks.append(block)
            tell(store, announce(number, Role(number % 2), STOPPED, 0, number << 140))
            tell(store, announce(300_000 + number, SEEDER, STARTED, 0, (number + 5_000) << 140))
        copy = store_of(clock)
        for _ in take(restore(copy, store), blocks):
            pass
        after = held(copy)
        for swarm, found in held(store).items():
            if found == before.get(swarm):
                assert after[swarm] == found

    def test_small_swarms_that_change_while_a_large_one_is_written_are_whole(self, clock: Clock) -> None:
        store, small = store_of(clock), range(200)
        tell(store, *[announce(number, SEEDER, STARTED, 0, swarm << 140) for swarm in small for number in range(5)])
        tell(store, *[announce(number, LEECHER, STARTED, 0, n << 150) for n in (1, 2, 3) for number in range(LARGE)])
        before, blocks = held(store), []
        for number, block in enumerate(store.blocks()):
            blocks.append(block)
            tell(store, *[announce(10_000 + number, SEEDER, STARTED, 0, swarm << 140) for swarm in small])
        assert len(blocks) > 3
        copy = store_of(clock)
        copy._epoch = store._epoch
        for _ in take(restore(copy, store), blocks):
            pass
        after = held(copy)
        assert all(set(peers) <= set(after[swarm][1]) for swarm, (_, peers) in before.items())

    async def test_downloads_of_a_swarm_that_comes_alive_meanwhile_are_there_once(self, clock: Clock) -> None:
        store = store_of(clock)
        tell(store, announce(1, LEECHER, STARTED, 0), announce(1, SEEDER, COMPLETED, 0), announce(1, SEEDER, STOPPED))
        making = store.blocks()
        blocks = [next(making)]
        tell(store, announce(2, LEECHER, STARTED, 0), announce(2, SEEDER, COMPLETED, 0))
        blocks += making
        copy = store_of(clock)
        for _ in take(restore(copy, store), blocks):
            pass
        assert await scrape(copy, 1) == await scrape(store, 1) == [(1, 2, 0)]
