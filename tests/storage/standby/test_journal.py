"""What is remembered: the newest, the bounds, and that a download is not forgotten."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest

from tests.storage.contract import (
    COMPLETED,
    LEECHER,
    NONE,
    SECOND,
    SEEDER,
    STARTED,
    STOPPED,
    announce,
    hash_of,
    peer_of,
)
from udptracker.core.swarm import FAMILIES, IPV4, AnnounceOperation, Operation, Role, ScrapeOperation
from udptracker.core.wire import Event
from udptracker.storage.standby.journal import ENTRY_BYTES, SLICE, News, Recent

_SCRAPE = ScrapeOperation(IPV4, [hash_of(number) for number in range(74)])


def heard(recent: Recent, since: int = -1) -> list[AnnounceOperation]:
    """Everything that is remembered, oldest first."""
    return [announce for part in recent.since(since) for _, announces in part for announce in announces]


def told(lives: Iterable[tuple[Role, Event]], *, counted: bool = False) -> News:
    """News of one peer that announced this, a nanosecond apart."""
    news = News(1, counted=counted)
    for stamp, (role, event) in enumerate(lives):
        assert news.hear(announce(1, role, event), stamp)
    return news


class TestRecent:
    def test_scrapes_are_not_remembered(self) -> None:
        recent = Recent(10)
        batch: list[Operation] = [_SCRAPE, announce(1), _SCRAPE]
        recent.remember(batch, 1)
        for _ in range(100):
            recent.remember([_SCRAPE], 2)
        assert len(recent) == 1
        assert heard(recent) == [announce(1)]

    def test_of_too_many_the_newest_are_kept(self) -> None:
        recent = Recent(100)
        for number in range(0, 1000, 10):
            recent.remember([announce(number + n) for n in range(10)], number)
        assert heard(recent) == [announce(number) for number in range(900, 1000)]

    def test_the_old_are_forgotten_in_slices(self) -> None:
        recent = Recent(10 * SLICE)
        for number in range(5 * SLICE):
            recent.remember([announce(number)], number)
        pauses = sum(1 for _ in recent.forget(4 * SLICE - 1))
        assert pauses == 4
        assert len(recent) == SLICE
        assert heard(recent) == [announce(number) for number in range(4 * SLICE, 5 * SLICE)]

    def test_only_what_was_heard_since_is_handed_out(self) -> None:
        recent = Recent(10 * SLICE)
        for number in range(4 * SLICE):
            recent.remember([announce(number)], number)
        parts = list(recent.since(3 * SLICE - 1))
        assert [stamp for part in parts for stamp, _ in part] == list(range(3 * SLICE, 4 * SLICE))
        assert all(sum(len(announces) for _, announces in part) <= SLICE for part in parts)

    def test_what_is_forgotten_or_remembered_meanwhile_changes_nothing_of_what_was_heard(self) -> None:
        recent = Recent(4 * SLICE)
        for number in range(4 * SLICE):
            recent.remember([announce(number)], number)
        stamps = []
        for part in recent.since(-1):
            stamps += [stamp for stamp, _ in part]
            for number in range(3 * SLICE):  # which pushes out what was not handed out yet
                recent.remember([announce(number)], 10 * SLICE)
        assert stamps == list(range(4 * SLICE))
        assert len(recent) == 4 * SLICE

    @pytest.mark.parametrize("family", FAMILIES)
    def test_its_bound_in_bytes_holds(self, family: int) -> None:
        most = 5_000
        tracemalloc.start()
        try:
            recent = Recent(most)
            for number in range(2 * most):
                recent.remember([announce(number, family=family, info_hash=number)], number)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < most * ENTRY_BYTES


class TestNews:
    def test_the_newest_state_of_each_peer(self) -> None:
        news = News(10, counted=False)
        for stamp, (peer, role) in enumerate([(1, LEECHER), (2, LEECHER), (1, SEEDER)]):
            news.hear(announce(peer, role), stamp)
        entries = [entry for chunk in news.chunks(10) for entry in chunk]
        assert sorted((entry.peer[19], entry.role, entry.stamp) for entry in entries) == [
            (1, SEEDER, 2),
            (2, LEECHER, 1),
        ]

    def test_one_peer_too_many_is_refused(self) -> None:
        news = News(2, counted=False)
        assert [news.hear(announce(number), 0) for number in (1, 2, 3, 1)] == [True, True, False, True]
        assert len(news) == 2

    def test_what_was_heard_since_is_not_settled(self) -> None:
        news = News(1_000, counted=False)
        for number in range(1_000):
            news.hear(announce(number), 1)
        chunks = list(news.chunks(100))
        assert max(map(len, chunks)) <= 100
        news.hear(announce(7, SEEDER), 2)
        for chunk in chunks:
            news.settle(chunk)
        assert len(news) == 1
        found = news.find(IPV4, hash_of(1), peer_of(7))
        assert found is not None
        assert (found.role, found.stamp) == (SEEDER, 2)

    def test_the_old_are_forgotten(self) -> None:
        news = News(100, counted=False)
        for number in range(100):
            news.hear(announce(number), number)
        for _ in news.forget(59):
            pass
        assert sorted(entry.stamp for chunk in news.chunks(7) for entry in chunk) == list(range(60, 100))

    @pytest.mark.parametrize(
        ("lives", "completed", "graduated"),
        [
            ([(SEEDER, STARTED)], False, False),
            ([(SEEDER, COMPLETED)], True, False),
            ([(SEEDER, COMPLETED), (SEEDER, NONE)], True, False),
            ([(SEEDER, COMPLETED), (SEEDER, STOPPED)], True, False),
            ([(LEECHER, STARTED), (SEEDER, COMPLETED)], True, True),
            ([(LEECHER, STARTED), (SEEDER, COMPLETED), (SEEDER, NONE), (SEEDER, NONE)], True, True),
            ([(LEECHER, STOPPED), (SEEDER, COMPLETED)], True, False),
            ([(LEECHER, COMPLETED)], False, False),
        ],
    )
    def test_a_download_is_kept_until_it_is_written(
        self, lives: list[tuple[Role, Event]], completed: bool, graduated: bool
    ) -> None:
        ((entry,),) = told(lives).chunks(1)
        assert (entry.completed, entry.graduated) == (completed, graduated)

    def test_a_download_that_the_store_has_counted_is_left_to_it(self) -> None:
        ((entry,),) = told([(LEECHER, STARTED), (SEEDER, COMPLETED)], counted=True).chunks(1)
        assert (entry.completed, entry.graduated) == (True, False)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_its_bound_in_bytes_holds(self, family: int) -> None:
        most = 5_000
        tracemalloc.start()
        try:
            news = News(most, counted=False)
            for number in range(most):
                news.hear(announce(number, family=family, info_hash=number), number * SECOND)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < most * ENTRY_BYTES
