"""The status page in a real browser."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemons, StoreServers
from tests.support.browser import Browser
from tests.support.daemon import Daemon
from tests.support.waiting import eventually
from udptracker.core.busiest import BusySwarm
from udptracker.core.counters import Counters
from udptracker.observe.http import HttpServer
from udptracker.observe.pages import pages
from udptracker.observe.status import Status

WIDTHS = (320, 360, 412, 800, 1280, 1920)
MARKUP = "<img src=x onerror=window.harmed=1></script><script>window.harmed=1</script>"


def url(daemon: Daemon) -> str:
    return f"http://127.0.0.1:{daemon.metrics_port}/"


def state(page: Browser) -> str:
    return page.text("#state")


def overflows(page: Browser) -> list[Any]:
    """What reaches beyond the window: nothing but what scrolls by itself may."""
    return list(
        page.evaluate(
            "[...document.querySelectorAll('body *')]"
            ".filter((e) => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 0.5)"
            ".map((e) => e.tagName + '#' + e.id)"
        )
    )


def untidy(changes: dict[str, Any]) -> dict[str, Any]:
    """Stats of a node that has been through everything, with these changes."""
    counters = Counters()
    counters.totals.update({4: (10**7, 10**8, 10**8), 6: (10**6, 10**7, 10**7)})
    clock = iter(range(0, 10_000, 5))
    status = Status(
        lambda: {
            "host": "a-very-long-host-name." * 5,
            "version": "1.2.3",
            "build": "plain",
            "python": "3.11.2",
            "storage": "redis+cluster: " + ", ".join(f"valkey-{n}.example.net:6379" for n in range(6)),
            "listen": [f"[2001:db8::{n}]:6969" for n in range(12)],
            "settings": {"announce_interval": "30m", "udp.connection_id_lifetime": "2m"},
        },
        has_standby=True,
        snapshots=lambda: {str(number): counters.snapshot() for number in range(16)},
        kernel_drops=lambda: 10**12,
        ready=lambda: (False, "worker 3: the store does not answer: " + "CLUSTERDOWN " * 20),
        busiest=lambda: [BusySwarm("ab" * 20, 123456.7, 10**6, 10**6)] * 10,
        clock=lambda: next(clock),
    )
    for point in range(150):
        counters.requests[:] = [10**7 * point] * 6
        counters.refused["bad connection ID"] = 10**7 * point
        counters.store_up = 0 if 60 < point < 80 or point > 140 else 1
        for histogram in counters.durations:
            histogram.add(100 * (1 + point % 7), 1000)
            histogram.add(10**6, 20)
        status.sample()
    return {**copy.deepcopy(status.stats()), **changes}


@contextmanager
def serving(stats: dict[str, Any]) -> Iterator[str]:
    """The page over these stats; its URL."""
    site = pages(
        metrics=lambda _: (b"", "text/plain"), stats=lambda: stats, alive=lambda: True, ready=lambda: (True, "")
    )
    server = HttpServer("127.0.0.1", 0, pages=site)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        server.stop()


def test_it_renders_and_refreshes_and_asks_nobody_else(page: Browser, daemons: Daemons, pictures: Path) -> None:
    daemon = daemons("memory")
    page.open(url(daemon))
    eventually(lambda: state(page) == "serving", "the page to be filled")
    info_hash = b"status page of a hash"[:20]
    for _ in range(3):
        daemon.announce(info_hash, 6881, left=0)
    eventually(lambda: page.text("#tile-seeders") == "1", "the seeder")
    eventually(lambda: page.text("#busiest td") == info_hash.hex(), "the swarm")
    daemon.announce(info_hash, 6882, source="127.0.0.2")
    eventually(lambda: page.text("#tile-leechers") == "1", "the leecher")
    eventually(lambda: page.evaluate("document.querySelectorAll('#chart polygon').length") == 3, "the chart")
    assert page.requested() == {url(daemon), f"{url(daemon)}stats.json"}
    assert page.complaints() == []
    page.picture(pictures / "light.png")


def test_it_shows_a_store_that_is_away_and_its_return(
    page: Browser, daemons: Daemons, store_servers: StoreServers, pictures: Path
) -> None:
    store = store_servers()
    daemon = daemons(store.url, config="udptracker: {storage: {config: {redis_read_timeout: 500ms}}}")
    page.open(url(daemon))
    eventually(lambda: state(page) == "serving", "the page to be filled")
    store.kill()
    eventually(lambda: state(page) == "on the stand-in", "the outage")
    banner = page.text("#banner")
    assert "answers from what it has heard" in banner
    assert banner.split("heard: ")[1]
    assert page.evaluate("document.querySelector('#store .off').textContent") == "no"
    page.picture(pictures / "outage.png")
    store.start()
    eventually(lambda: state(page) == "serving", "the return")
    assert page.evaluate("document.querySelector('#banner').hidden") is True


def test_it_shows_that_the_tracker_does_not_answer_and_goes_on_when_it_does(page: Browser, daemons: Daemons) -> None:
    daemon = daemons("memory")
    page.open(url(daemon))
    eventually(lambda: state(page) == "serving", "the page to be filled")
    daemon.kill()
    eventually(lambda: state(page) == "no answer", "the outage")
    assert "What is shown below is old" in page.text("#banner")
    assert page.evaluate("document.querySelector('main').className") == "stale"
    daemon.start()
    eventually(lambda: state(page) == "serving", "the return")
    assert page.evaluate("document.querySelector('main').className") == ""


def test_nothing_overflows_on_any_screen(page: Browser, pictures: Path) -> None:
    with serving(untidy({})) as there:
        page.open(there)
        eventually(lambda: state(page) == "on the stand-in", "the page to be filled")
        backgrounds = set()
        for width in WIDTHS:
            for dark in (False, True):
                page.look(width=width, dark=dark)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert overflows(page) == []
                backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.picture(pictures / f"untidy-{width}.png")
        assert len(backgrounds) == 2, "a light scheme and a dark one"
        assert page.complaints() == []


@pytest.mark.parametrize("place", ["host", "version", "storage", "word", "reason", "hash", "setting", "listen"])
def test_what_was_heard_does_not_become_markup(page: Browser, place: str) -> None:
    stats = untidy({})
    if place == "word":
        stats["store"]["word"] = MARKUP
    elif place == "reason":
        stats["refused"][MARKUP] = 5
    elif place == "hash":
        stats["busiest"][0]["info_hash"] = MARKUP
    elif place == "setting":
        stats["settings"][MARKUP] = MARKUP
    else:
        stats[place] = [MARKUP] if place == "listen" else MARKUP
    assert MARKUP in json.loads(json.dumps(json.dumps(stats))).replace("\\", "")
    with serving(stats) as there:
        page.open(there)
        eventually(lambda: MARKUP[:20] in page.text("body"), "the text")
        assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
        assert page.evaluate("window.harmed === undefined") is True
        assert page.complaints() == []
