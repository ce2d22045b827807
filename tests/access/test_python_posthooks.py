"""Post-hooks that others wrote: what they are shown, and that the answer waits for none of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from tests.access.hooked import until
from tests.access.others import MODULE, WithOthers, hook, with_others
from tests.access.support import INFO_HASH, announce, scrape


@pytest.fixture
async def hooked() -> AsyncIterator[WithOthers]:
    async with with_others() as made:
        yield made


class TestPosthooks:
    async def test_they_see_what_was_let_through(self, hooked: WithOthers) -> None:
        await hooked.use(hook("AtOnce", ports=[2]), posthooks=[hook("SeeingAtOnce")])
        hooked.gate.ask(announce(1, port=1), announce(2, port=2), announce(3, port=3), scrape(4, INFO_HASH))
        assert sorted(hooked.gate.answers) == [1, 2, 3, 4]
        assert hooked.hook.calls == [], "the answer does not wait for it"
        await until(lambda: hooked.hook.calls, "it to be shown them")
        assert [[seen.port for seen in call] for call in hooked.hook.calls] == [[1, 3]]

    async def test_what_comes_meanwhile_goes_together_and_beyond_the_bound_it_is_dropped(
        self, hooked: WithOthers
    ) -> None:
        await hooked.use(posthooks=[hook("Seeing", {"max_pending": 5})])
        for number in range(1, 9):
            hooked.gate.ask(announce(number, port=number))
            await asyncio.sleep(0.001)
        assert len(hooked.gate.answers) == 8
        hooked.hook.let.set()
        await until(lambda: len(hooked.hook.calls) == 2, "the rest")
        assert [[seen.port for seen in call] for call in hooked.hook.calls] == [[1], [2, 3, 4, 5]]
        assert hooked.gate.counters.hook_drops[hooked.name("Seeing")] == 3

    async def test_one_that_fails_is_shown_the_next(self, hooked: WithOthers, caplog: pytest.LogCaptureFixture) -> None:
        await hooked.use(posthooks=[hook("SeeingAtOnce", fails=True)])
        hooked.gate.ask(announce(1))
        await until(lambda: hooked.hook.calls, "the first")
        hooked.gate.ask(announce(2))
        await until(lambda: len(hooked.hook.calls) == 2, "the second")
        assert hooked.gate.counters.hook_failures[hooked.name("SeeingAtOnce")] == 1
        assert "it failed: LookupError" in caplog.text

    async def test_one_that_says_so_is_shown_the_same_again(self, hooked: WithOthers) -> None:
        await hooked.use(posthooks=[hook("SeeingAgain")])
        hooked.gate.ask(announce(1, port=1))
        await until(lambda: len(hooked.hook.calls) == 3, "it to be content")
        assert [[seen.port for seen in call] for call in hooked.hook.calls] == [[1]] * 3
        assert hooked.gate.counters.hook_failures[hooked.name("SeeingAgain")] == 0

    async def test_one_that_hangs_is_left_and_not_shown_anything_until_it_ends(self, hooked: WithOthers) -> None:
        await hooked.use(posthooks=[hook("SeeingForEver", {"timeout": "20ms"})])
        name = hooked.name("SeeingForEver")
        hooked.gate.ask(announce(1))
        await until(lambda: hooked.gate.counters.hook_timeouts[name], "the timeout")
        hooked.gate.ask(announce(2))
        await until(lambda: hooked.gate.counters.hook_drops[name], "the drop")
        assert len(hooked.hook.calls) == 1
        assert sorted(hooked.gate.answers) == [1, 2]

    async def test_closing_shows_what_waits(self, hooked: WithOthers) -> None:
        await hooked.use(posthooks=[hook("SeeingAtOnce")])
        hooked.gate.ask(announce(1))
        await hooked.close()
        assert len(hooked.hook.calls) == 1


async def test_closing_leaves_what_does_not_close(hooked: WithOthers, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await hooked.use(posthooks=[hook("Seeing")])
        hooked.gate.ask(announce(1))
        await until(lambda: hooked.hook.calls, "the call")
        hooked.gate.ask(announce(2), announce(3))
        await hooked.close()
    assert f"hook {MODULE}:Seeing is closed, and was not shown the last 3 announces" in caplog.text
    assert hooked.gate.counters.hook_drops[hooked.name("Seeing")] == 3
    assert f"hook {MODULE}:Seeing did not close as it should: TimeoutError" in caplog.text
