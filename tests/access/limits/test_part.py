"""The limits among the parts of the access control: which of them are in force, what several workers grant, and what is
said of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.access.support import INFO_HASH, SOURCE, Gate, announce, scrape, use
from tests.config.support import settings
from tests.support.turns import until
from udptracker.access.access import Access
from udptracker.access.limits.part import Limits
from udptracker.core import wire
from udptracker.core.counters import ANNOUNCED, CONNECTED, REFUSED, SCRAPED, Counters
from udptracker.core.reasons import (
    ANNOUNCE_LIMIT,
    BAD_CONNECTION_ID,
    BAD_ID_LIMIT,
    CONNECT_LIMIT,
    SCRAPE_LIMIT,
    TOO_MANY_PEERS,
)
from udptracker.service.orders import for_worker

NOW = 1_700_000_000.0


def limits(**given: Any) -> Limits:
    return Limits(settings(access={"limits": given}), Counters())


def let_in(part: Limits, kind: int, times: int = 100, now: float = NOW) -> int:
    (door,) = part.doors
    return [door(kind, SOURCE, now) for _ in range(times)].count(None)


def test_off_is_nothing_at_all() -> None:
    part = limits(mode="off", announces_per_minute=1, max_peers_in_all=1)
    assert (*part.doors, *part.rules, *part.slow_rules, *part.watchers) == ()


@pytest.mark.parametrize("mode", ["watch", "enforce"])
def test_peers_are_looked_at_only_where_they_have_a_bound(mode: str) -> None:
    assert (len(limits(mode=mode).doors), len(limits(mode=mode).rules)) == (1, 0)
    for bound in ("max_peers_in_swarm", "max_peers_in_all"):
        assert len(limits(mode=mode, **{bound: 1}).rules) == 1


def test_each_kind_has_its_own_rate_and_burst() -> None:
    part = limits(
        mode="enforce",
        connects_per_minute=60,
        connect_burst=1,
        announces_per_minute=120,
        announce_burst=2,
        scrapes_per_minute=180,
        scrape_burst=3,
        bad_ids_per_minute=240,
        bad_id_burst=4,
    )
    kinds = (CONNECTED, REFUSED, SCRAPED, ANNOUNCED)
    assert [let_in(part, kind) for kind in kinds] == [1, 4, 3, 2]
    assert [let_in(part, kind, now=NOW + 0.51) for kind in kinds[1:]] == [2, 1, 1]


class TestSeveralWorkers:
    def test_each_grants_its_share_of_a_rate_and_a_whole_burst(self) -> None:
        given = {"mode": "enforce", "announces_per_minute": 240, "announce_burst": 10}
        part = Limits(for_worker(settings(workers=4, access={"limits": given})), Counters())
        assert let_in(part, ANNOUNCED) == 10
        assert let_in(part, ANNOUNCED, now=NOW + 5) == 5

    def test_and_of_the_bound_on_peers(self) -> None:
        given = {"mode": "enforce", "max_peers_in_all": 5}
        part = Limits(for_worker(settings(workers=4, access={"limits": given})), Counters())
        gate = Gate(part.rules)
        gate.ask(*[announce(port, port=port) for port in range(1, 5)])
        assert [gate.refusal(port) for port in range(1, 5)] == [None, None, TOO_MANY_PEERS, TOO_MANY_PEERS]


class Guarded:
    """A tracker behind the limits alone."""

    def __init__(self, **given: Any) -> None:
        self.gate = Gate()
        self.part = Limits(settings(access={"limits": given}), self.gate.counters)
        self.access = Access([self.part], self.gate.guard, self.gate.tracker)

    async def use(self, *, log_peers: bool = False, **given: Any) -> None:
        await use(self.access, settings(log_peers=log_peers, access={"limits": given}))

    def connects(self, count: int) -> int:
        requests = [(wire.encode_connect_request(each), SOURCE, None) for each in range(count)]
        return len(self.gate.tracker.receive(requests, NOW, 7).replies)

    def bad_ids(self, count: int) -> int:
        requests = [(bytes(8) + announce(each)[8:], SOURCE, None) for each in range(count)]
        return len(self.gate.tracker.receive(requests, NOW, 7).replies)


ONE = {"connect_burst": 1, "announce_burst": 1, "scrape_burst": 1, "bad_id_burst": 1}


class TestInATracker:
    async def test_what_is_over_gets_no_answer_and_is_counted(self) -> None:
        guarded = Guarded(mode="enforce", **ONE)
        await guarded.access.open()
        assert guarded.connects(3) == 1
        assert guarded.bad_ids(3) == 1
        guarded.gate.ask(announce(1), announce(2), announce(3), scrape(4, INFO_HASH), scrape(5, INFO_HASH))
        assert sorted(guarded.gate.answers) == [1, 4]
        dropped, refused = guarded.gate.counters.dropped, guarded.gate.counters.refused
        reasons = (CONNECT_LIMIT, ANNOUNCE_LIMIT, SCRAPE_LIMIT, BAD_ID_LIMIT)
        assert [dropped[reason] for reason in reasons] == [2, 2, 1, 2]
        assert (dropped[BAD_CONNECTION_ID], refused[BAD_CONNECTION_ID]) == (0, 1)
        assert guarded.gate.counters.limited == [0, 2, 0, 2, 0, 1, 0, 2, 0, 0, 0, 0]
        await guarded.access.close()

    async def test_or_is_only_counted(self) -> None:
        guarded = Guarded(mode="watch", **ONE)
        await guarded.access.open()
        assert guarded.connects(3) == 3
        guarded.gate.ask(announce(1), announce(2), announce(3), scrape(4, INFO_HASH), scrape(5, INFO_HASH))
        assert sorted(guarded.gate.answers) == [1, 2, 3, 4, 5]
        assert guarded.bad_ids(3) == 1, "one a minute, whatever the limit"
        assert guarded.gate.counters.limited == [2, 0, 2, 0, 1, 0, 2, 0, 0, 0, 0, 0]
        await guarded.access.close()

    async def test_a_reload_changes_everything_and_forgets_nothing(self) -> None:
        guarded = Guarded(mode="watch", announce_burst=3, announces_per_minute=1)
        await guarded.access.open()
        guarded.gate.ask(announce(1), announce(2), announce(3))
        await guarded.use(mode="enforce", announce_burst=3, announces_per_minute=1)
        guarded.gate.ask(announce(4))
        assert sorted(guarded.gate.answers) == [1, 2, 3]
        await guarded.use(mode="off")
        guarded.gate.ask(announce(5))
        await guarded.use(mode="enforce", announce_burst=4, announces_per_minute=1)
        guarded.gate.ask(announce(6), announce(7))
        assert sorted(guarded.gate.answers) == [1, 2, 3, 5, 6]
        await guarded.access.close()

    async def test_nobody_is_kept_out_by_what_is_sent_in_its_name(self) -> None:
        guarded = Guarded(mode="enforce", connects_per_minute=1, bad_ids_per_minute=1, **ONE)
        await guarded.access.open()
        guarded.connects(1000)
        guarded.bad_ids(1000)
        guarded.gate.ask(announce(1), scrape(2, INFO_HASH))
        assert sorted(guarded.gate.answers) == [1, 2]
        assert guarded.connects(1000) == 1000, "nor from its next connection id"
        await guarded.access.close()


class TestTheReport:
    async def test_is_of_what_was_over_since_the_last(self) -> None:
        guarded = Guarded(mode="watch", **ONE)
        await guarded.access.open()
        assert guarded.part.report() == ""
        guarded.connects(3)
        guarded.gate.ask(announce(1), announce(2))
        said = "over the limits in the last minute, and only counted: 2 connects, 1 announces; by source, of 1: 3"
        assert guarded.part.report() == said
        assert guarded.part.report() == ""
        await guarded.access.close()

    async def test_has_addresses_only_where_they_are_logged(self) -> None:
        guarded = Guarded()
        await guarded.use(log_peers=True, mode="enforce", **ONE)
        guarded.gate.ask(announce(1), announce(2))
        guarded.gate.ask(*[announce(each) for each in range(3, 6)], source=bytes(7) + bytes((1,)) * 9)
        assert guarded.part.report() == (
            "over the limits in the last minute, and refused or dropped: 3 announces; by source, of 2: "
            "0:0:0:1::/64 2, 192.0.2.1 1"
        )

    async def test_goes_to_the_log(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr("udptracker.access.limits.part._REPORT_SECONDS", 0.001)
        guarded = Guarded(mode="watch", **ONE)
        caplog.set_level("INFO", "udptracker.access.limits.part")
        await guarded.access.open()
        guarded.connects(3)
        await until(lambda: "2 connects" in caplog.text, "the line in the log")
        assert "192.0.2.1" not in caplog.text
        await guarded.access.close()
