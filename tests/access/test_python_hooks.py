"""Hooks that others wrote: what they see, what they may do, and that nothing they do harms anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest

from tests.access import some_hooks
from tests.access.hooked import until
from tests.access.others import MODULE, WithOthers, hook, with_others
from tests.access.support import INFO_HASH, PEER_ID, SOURCE, announce, scrape
from tests.config.support import settings
from udptracker.access.base import AccessError
from udptracker.access.hooks import Announce, Event
from udptracker.access.hooks.api import MOST_THREADS
from udptracker.core import wire
from udptracker.core.reasons import UNAPPROVED_TORRENT, UNDECIDED
from udptracker.core.swarm import AnnounceOperation, Role
from udptracker.core.tracker import Question


@pytest.fixture
async def hooked() -> AsyncIterator[WithOthers]:
    async with with_others() as made:
        yield made


def a_question(data: bytes, source: bytes) -> Announce:
    request = wire.decode_announce(data, data[11])
    peer = request.peer_id + request.port.to_bytes(2, "big") + source
    operation = AnnounceOperation(4, request.info_hash, peer, Role.LEECHER, Event(request.event), 50)
    return Announce(Question(operation, data, source, None), operation, 7.5)


class TestWhatAHookSees:
    def test_everything_that_was_said(self) -> None:
        options = wire.encode_url_data("/key/announce?User=a&user=b%20c;x=")
        request = wire.AnnounceRequest(INFO_HASH, PEER_ID, 1, 2, 2**64 - 1, 3, bytes(4), 5, -1, 6881, options)
        seen = a_question(wire.encode_announce_request(bytes(8), 9, request), SOURCE)
        assert (seen.info_hash, seen.peer_id, seen.client) == (INFO_HASH, PEER_ID, b"UT0001")
        assert (seen.source, seen.address, seen.port) == (ip_address("192.0.2.1"), ip_address("192.0.2.1"), 6881)
        assert (seen.downloaded, seen.left, seen.uploaded) == (1, 2, 2**64 - 1)
        assert (seen.event, seen.at, seen.user) == (Event.STOPPED, 7.5, "")
        assert (seen.path, seen.query) == ("/key/announce", "User=a&user=b%20c;x=")
        assert seen.parameters == {"user": "b c", "x": ""}

    def test_the_same_of_opentrackers_announce_over_ipv6(self) -> None:
        options = wire.encode_url_data("/x")
        request = wire.AnnounceRequest(INFO_HASH, PEER_ID, 1, 0, 3, 1, bytes(16), 5, -1, 6881, options)
        seen = a_question(wire.encode_announce_request(bytes(8), 9, request), ip_address("2001:db8::1").packed)
        assert (seen.source, seen.path, seen.query) == (ip_address("2001:db8::1"), "/x", "")
        assert (seen.downloaded, seen.left, seen.uploaded, seen.event) == (1, 0, 3, Event.COMPLETED)

    @pytest.mark.parametrize(
        ("reason", "told"),
        [("no", "no"), (" no ", "no"), ("", "refused"), ("a\nb\x1b", "a\\nb\\x1b"), ("é" * 80, "é" * 50)],
    )
    def test_a_reason_is_one_short_line(self, reason: str, told: str) -> None:
        seen = a_question(announce(1), SOURCE)
        seen.refuse(reason)
        assert seen.refusal == told

    @pytest.mark.parametrize("seconds", [0, -1, 8760 * 3600 + 1])
    def test_an_interval_is_a_second_to_a_year(self, seconds: int) -> None:
        with pytest.raises(ValueError, match="1 to 31536000"):
            a_question(announce(1), SOURCE).interval = seconds


@pytest.mark.parametrize("which", ["AtOnce", "Later"])
class TestBothKinds:
    async def test_some_of_a_turn_are_refused(self, hooked: WithOthers, which: str) -> None:
        await hooked.use(hook(which, ports=[2], at_once=True))
        hooked.gate.ask(announce(1, port=1), announce(2, port=2), scrape(3, INFO_HASH))
        assert await hooked.refusals(1, 2, 3) == [None, "not this port", None]
        assert [len(call) for call in hooked.hook.calls] == [2]
        counters, name = hooked.gate.counters, hooked.name(which)
        assert (counters.hook_refusals[name], counters.refused[name]) == (1, 1)
        assert sum(counters.hook_durations[name].counts) == 1

    async def test_what_one_before_has_refused_is_not_shown(self, hooked: WithOthers, which: str) -> None:
        deny = hook("torrent approval", blacklist=[INFO_HASH.hex()])
        await hooked.use(deny, hook(which, ports=[1], at_once=True))
        hooked.gate.ask(announce(1, port=1))
        assert (await hooked.refusals(1), hooked.hook.calls) == ([UNAPPROVED_TORRENT], [])
        await hooked.use(hook(which, ports=[1], at_once=True), deny)
        hooked.gate.ask(announce(2, port=1), announce(3, port=3))
        assert await hooked.refusals(2, 3) == ["not this port", UNAPPROVED_TORRENT]

    async def test_every_count_is_there_from_the_start(self, hooked: WithOthers, which: str) -> None:
        await hooked.use(hook(which))
        counters, name = hooked.gate.counters, hooked.name(which)
        for counts in (
            counters.refused,
            counters.hook_refusals,
            counters.hook_failures,
            counters.hook_timeouts,
            counters.hook_drops,
        ):
            assert counts[name] == 0
            assert name in counts
        assert counters.snapshot()["hook_durations"][name]["total"] == 0


class TestIntervals:
    async def test_it_may_be_another(self, hooked: WithOthers) -> None:
        await hooked.use(hook("AtOnce"))

        def longer(seen: Announce) -> None:
            seen.interval = 4000

        hooked.hook.does = longer
        hooked.gate.ask(announce(1))
        response = hooked.gate.answers[1]
        assert isinstance(response, wire.AnnounceResponse)
        assert response.interval == 4000


@pytest.mark.parametrize("policy", ["refuse", "allow"])
class TestWhatFails:
    @staticmethod
    def expected(policy: str) -> str | None:
        return UNDECIDED if policy == "refuse" else None

    @pytest.mark.parametrize(
        ("which", "kind"), [("Failing", "LookupError"), ("FailingAtOnce", "SystemExit"), ("Lying", "TypeError")]
    )
    async def test_it_raises(
        self, hooked: WithOthers, policy: str, which: str, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        await hooked.use(hook(which, {"on_failure": policy}))
        hooked.gate.ask(announce(1), announce(2, port=2))
        assert await hooked.refusals(1, 2) == [self.expected(policy)] * 2, "what it had half decided does not count"
        assert hooked.gate.counters.hook_failures[hooked.name(which)] == 2
        assert f"hook {MODULE}:{which}: it failed: {kind}" in caplog.text
        assert hooked.gate.faults == []

    async def test_it_hangs(self, hooked: WithOthers, policy: str, caplog: pytest.LogCaptureFixture) -> None:
        await hooked.use(hook("Later", {"on_failure": policy, "timeout": "20ms"}))
        hooked.gate.ask(announce(1), scrape(2, INFO_HASH))
        assert hooked.gate.refusal(2) is None
        assert await hooked.refusals(1) == [self.expected(policy)]
        assert hooked.gate.counters.hook_timeouts[hooked.name("Later")] == 1
        assert "it was not done within 0.02 s" in caplog.text

    async def test_it_does_not_let_itself_be_cancelled(self, hooked: WithOthers, policy: str) -> None:
        await hooked.use(hook("NeverDone", {"on_failure": policy, "timeout": "20ms"}))
        for number in range(1, 5):
            hooked.gate.ask(announce(number))
            assert await hooked.refusals(number) == [self.expected(policy)]
        hooked.gate.ask(announce(5))
        assert await hooked.refusals(5) == [self.expected(policy)]
        assert len(hooked.hook.calls) == 4, "it is not asked any more"
        assert hooked.gate.counters.hook_drops[hooked.name("NeverDone")] == 1
        hooked.hook.let.set()
        await until(lambda: hooked.hook.calls[0][0].refusal, "its late word")
        await hooked.use(hook("NeverDone", {"timeout": "1h"}))
        hooked.gate.ask(announce(6))
        assert await hooked.refusals(6) == ["too late"], "it is asked again"

    async def test_too_many_wait(self, hooked: WithOthers, policy: str) -> None:
        await hooked.use(hook("Later", {"on_failure": policy, "timeout": "1h", "max_pending": 3}))
        hooked.gate.ask(announce(1), announce(2))
        hooked.gate.ask(announce(3), announce(4))
        await asyncio.sleep(0.01)
        assert sorted(hooked.gate.answers) == [3, 4]
        assert [hooked.gate.refusal(number) for number in (3, 4)] == [self.expected(policy)] * 2
        assert hooked.gate.counters.hook_drops[hooked.name("Later")] == 2
        hooked.hook.let.set()
        assert await hooked.refusals(1, 2) == [None, None]


@pytest.mark.parametrize("which", ["Blocking", "BlockingAtOnce"])
async def test_one_that_holds_the_loop_up_is_named(
    hooked: WithOthers, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    await hooked.use(hook(which))
    hooked.gate.ask(announce(1))
    assert await hooked.refusals(1) == [None]
    assert f"hook {MODULE}:{which}: it held the tracker up for" in caplog.text


async def test_what_comes_while_four_calls_are_on_their_way_goes_together(hooked: WithOthers) -> None:
    await hooked.use(hook("Later", {"timeout": "1h"}, ports=[8]))
    for number in range(1, 11):
        hooked.gate.ask(announce(number, port=number))
        await asyncio.sleep(0)
    await until(lambda: len(hooked.hook.calls) == 4, "four calls")
    await asyncio.sleep(0.01)
    assert len(hooked.hook.calls) == 4
    hooked.hook.let.set()
    answers = await hooked.refusals(*range(1, 11))
    assert sorted(map(len, hooked.hook.calls)) == [1, 1, 1, 1, 6]
    assert answers == ["not this port" if number == 8 else None for number in range(1, 11)]


async def test_one_that_waits_longer_than_it_may_is_not_asked_at_all(hooked: WithOthers) -> None:
    await hooked.use(hook("NeverDone", {"timeout": "500ms"}))
    for number in range(1, 9):
        hooked.gate.ask(announce(number))
        await asyncio.sleep(0)
    assert await hooked.refusals(*range(1, 9)) == [UNDECIDED] * 8
    assert len(hooked.hook.calls) == 4
    assert hooked.gate.counters.hook_timeouts[hooked.name("NeverDone")] == 8


class TestInThread:
    async def test_what_it_returns_and_raises(self, hooked: WithOthers, caplog: pytest.LogCaptureFixture) -> None:
        await hooked.use(hook("InThread", {"timeout": "1h"}, raises=[2]))
        hooked.gate.ask(announce(1, port=1))
        assert await hooked.refusals(1) == ["from a thread"]
        hooked.gate.ask(announce(2, port=2))
        assert await hooked.refusals(2) == [UNDECIDED]
        assert "RuntimeError: StopIteration()" in caplog.text

    async def test_threads_that_do_not_end_are_bounded(
        self, hooked: WithOthers, caplog: pytest.LogCaptureFixture
    ) -> None:
        await hooked.use(hook("InThread", {"timeout": "10ms"}, ports=[1]))
        for number in range(1, MOST_THREADS + 1):
            hooked.gate.ask(announce(number, port=1))
            assert await hooked.refusals(number) == [UNDECIDED]
        await hooked.use(hook("InThread", {"timeout": "1h"}, ports=[1]))
        hooked.gate.ask(announce(90, port=2))
        assert await hooked.refusals(90) == [UNDECIDED]
        assert "16 threads of this hook do not end" in caplog.text
        hooked.hook.end.set()
        await until(lambda: not hooked.hook._threads, "the threads to end")
        hooked.gate.ask(announce(91, port=2))
        assert await hooked.refusals(91) == ["from a thread"]


class TestRecall:
    async def test_what_a_hook_remembers_it_is_not_asked_about(self, hooked: WithOthers) -> None:
        await hooked.use(hook("Remembering", {"timeout": "20ms"}, ports=[2]))
        hooked.gate.ask(announce(1, port=1), announce(2, port=2), announce(3, port=3))
        assert await hooked.refusals(1, 2, 3) == [UNDECIDED, "as before", UNDECIDED]
        assert [[seen.port for seen in call] for call in hooked.hook.calls] == [[1, 3]]
        hooked.gate.ask(announce(4, port=2))
        assert await hooked.refusals(4) == ["as before"]
        assert len(hooked.hook.calls) == 1

    async def test_one_that_fails_to_remember_is_asked(self, hooked: WithOthers) -> None:
        await hooked.use(hook("Remembering", {"timeout": "1h"}, ports=None))
        hooked.hook.let.set()
        hooked.gate.ask(announce(1, port=1))
        assert await hooked.refusals(1) == [None]
        assert hooked.gate.counters.hook_failures[hooked.name("Remembering")] == 1

    async def test_one_that_gives_back_something_else_is_asked(self, hooked: WithOthers) -> None:
        await hooked.use(hook("Misremembering", {"timeout": "1h"}))
        hooked.gate.ask(announce(1, port=1), announce(2, port=2))
        assert await hooked.refusals(1, 2) == [None, None]
        assert hooked.gate.counters.hook_failures[hooked.name("Misremembering")] == 2
        assert [[seen.port for seen in call] for call in hooked.hook.calls] == [[1, 2]]


class TestLife:
    async def test_opened_once_and_closed_once(self, hooked: WithOthers) -> None:
        await hooked.use(hook("AtOnce"), posthooks=[hook("Seeing", at_once=True)])
        assert [each.life for each in some_hooks.made] == [["open"], ["open"]]
        await hooked.close()
        assert [each.life for each in some_hooks.made] == [["open", "close"]] * 2

    async def test_what_is_as_before_goes_on_and_the_rest_is_made_anew(self, hooked: WithOthers) -> None:
        await hooked.use(hook("AtOnce", ports=[1]), hook("Later", ports=[2]))
        same, gone = some_hooks.made
        await hooked.use(hook("AtOnce", ports=[3]), hook("AtOnce", ports=[1]), announce_interval="10m")
        assert len(some_hooks.made) == 3
        assert (same.life, some_hooks.made[2].life) == (["open"], ["open"])
        await until(lambda: gone.life == ["open", "close"], "what is gone to be closed")
        hooked.gate.ask(announce(1, port=1), announce(2, port=2), announce(3, port=3))
        assert await hooked.refusals(1, 2, 3) == ["not this port", None, "not this port"]

    async def test_what_is_on_its_way_is_decided_before_a_hook_is_closed(self, hooked: WithOthers) -> None:
        await hooked.use(hook("Later", {"timeout": "10s"}, ports=[1]))
        later = hooked.hook
        hooked.gate.ask(announce(1, port=1))
        await until(lambda: later.calls, "the call")
        await hooked.use()
        later.let.set()
        assert await hooked.refusals(1) == ["not this port"]
        assert later.life == ["open"]
        hooked.gate.ask(announce(2, port=1))
        assert await hooked.refusals(2) == [None]

    async def test_what_is_prepared_and_not_taken_leaves_nothing_open(self, hooked: WithOthers) -> None:
        await hooked.use(hook("AtOnce", ports=[1]))
        assert hooked.access is not None
        for port in (2, 3):
            await hooked.access.prepare(settings(prehooks=[hook("AtOnce", ports=[port])]))
        await hooked.access.give_up()
        assert [each.life for each in some_hooks.made] == [["open"], ["open", "close"], ["open", "close"]]
        hooked.gate.ask(announce(1, port=1), announce(2, port=2), announce(3, port=3))
        assert await hooked.refusals(1, 2, 3) == ["not this port", None, None]

    async def test_what_is_prepared_at_the_end_is_closed(self, hooked: WithOthers) -> None:
        await hooked.use()
        assert hooked.access is not None
        await hooked.access.prepare(settings(prehooks=[hook("AtOnce")]))
        await hooked.close()
        assert hooked.hook.life == ["open", "close"]

    async def test_other_terms_are_taken_by_the_same_hook(self, hooked: WithOthers) -> None:
        await hooked.use(hook("Later", {"timeout": "1h"}))
        await hooked.use(hook("Later", {"timeout": "20ms", "on_failure": "allow"}))
        hooked.gate.ask(announce(1))
        assert await hooked.refusals(1) == [None]
        assert len(some_hooks.made) == 1

    async def test_if_one_cannot_be_had_all_is_as_before(self, hooked: WithOthers) -> None:
        await hooked.use(hook("AtOnce", ports=[1]))
        with pytest.raises(AccessError, match=r"prehooks\.1\.options\.limit: found nothing"):
            await hooked.use(hook("AtOnce", ports=[2]), hook("picky"))
        assert [each.life for each in some_hooks.made] == [["open"], ["open", "close"]]
        with pytest.raises(AccessError, match="does not open"):
            await hooked.use(hook("AtOnce", ports=[2]), hook("AtOnce", unable=True))
        assert [each.life for each in some_hooks.made[2:]] == [["open", "close"], ["open"]], "what was opened is closed"
        hooked.gate.ask(announce(1, port=1), announce(2, port=2))
        assert await hooked.refusals(1, 2) == ["not this port", None]

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (hook("picky"), "prehooks.0.options.limit: found nothing, expected an integer of 1 or more"),
            (hook("picky", limit="S3CRET"), "prehooks.0.options.limit: found a str, expected an integer of 1 or more"),
            (hook("picky", limit=1, deep=[5, 7.5]), "prehooks.0.options.deep.1: found 7.5, expected less"),
            (hook("picky", limit="odd"), "prehooks.0.options: no odd ones"),
            (hook("broken"), f"prehooks.0: {MODULE}:broken cannot be made: RuntimeError: broken\\nin two"),
            (hook("neither"), f"prehooks.0.name: {MODULE}:neither makes a object, and no PreHook"),
            (hook("Seeing"), f"prehooks.0.name: {MODULE}:Seeing makes a Seeing, and no PreHook"),
            (hook("absent"), f"prehooks.0.name: {MODULE}:absent cannot be loaded: AttributeError: "),
            ({"name": "tests.absent:x"}, "prehooks.0.name: tests.absent:x cannot be loaded: ModuleNotFoundError: "),
            (
                hook("AtOnce", unable=True),
                f"prehooks.0: {MODULE}:AtOnce does not open: ConnectionError: nobody there",
            ),
        ],
    )
    async def test_what_cannot_be_had_is_told_by_its_path(self, hooked: WithOthers, given: Any, told: str) -> None:
        with pytest.raises(AccessError) as refused:
            await hooked.use(given)
        assert str(refused.value).startswith(told)

    async def test_options_are_the_hooks_own(self, hooked: WithOthers) -> None:
        one = hook("AtOnce", deep={"list": [1]})
        await hooked.use(one)
        hooked.hook.options["deep"]["list"].append(2)
        await hooked.use(one)
        assert len(some_hooks.made) == 1
