"""Announces in a stream of Redis: what an entry holds, and what happens while Redis is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import redis

from tests.access.hooked import Hooked, until
from tests.access.support import INFO_HASH, PEER_ID, announce, scrape
from tests.conftest import Daemons, StoreServers
from tests.support.servers import StoreServer
from tests.support.waiting import eventually
from udptracker.access.hooks.part import Hooks
from udptracker.access.hooks.watching import Watching

NAME = "announce stream"
KEY = "udptracker_announces"


def stream(server: StoreServer, terms: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return {"name": NAME, "options": {"redis_broker": server.url, **options}, **(terms or {})}


def entries(server: StoreServer, key: str = KEY) -> list[dict[str, str]]:
    """What is in a stream."""
    with server.client() as client:
        found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(key))
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]


@pytest.fixture
async def hooked() -> AsyncIterator[Hooked]:
    made = Hooked()
    yield made
    await made.close()


async def test_what_was_let_through_is_there(hooked: Hooked, store_server: StoreServer) -> None:
    deny = {"name": "client approval", "options": {"blacklist": ["XX0001"]}}
    await hooked.use(deny, posthooks=[stream(store_server)])
    refused = announce(2, peer_id=b"-XX0001-000000006881")
    hooked.gate.ask(announce(1), refused, scrape(3, INFO_HASH), announce(4, bytes(20), port=7))
    await until(lambda: len(entries(store_server)) == 2, "two entries")
    first, second = entries(store_server)
    assert int(first.pop("at")) > 1_700_000_000_000
    assert first == {
        "info_hash": INFO_HASH.hex(),
        "peer_id": PEER_ID.hex(),
        "event": "started",
        "uploaded": "0",
        "downloaded": "0",
        "left": "1",
        "user": "",
    }
    assert second["info_hash"] == bytes(20).hex()


async def test_addresses_are_there_if_asked_for_and_another_key(hooked: Hooked, valkey: StoreServer) -> None:
    await hooked.use(posthooks=[stream(valkey, key="other", addresses=True)])
    hooked.gate.ask(announce(1, port=77))
    await until(lambda: entries(valkey, "other"), "an entry")
    (entry,) = entries(valkey, "other")
    assert (entry["address"], entry["port"]) == ("192.0.2.1", "77")


async def test_the_stream_is_capped(hooked: Hooked, valkey: StoreServer) -> None:
    await hooked.use(posthooks=[stream(valkey, max_length=100)])
    for turn in range(20):
        hooked.gate.ask(*(announce(turn * 60 + number) for number in range(60)))
    with valkey.client() as client:
        await until(lambda: client.exists(KEY) and added(client) == 1200, "all to be written")
    # A node of a stream is let go as a whole: of 100 entries, unless the server is told otherwise.
    assert 100 <= len(entries(valkey)) <= 300


def is_idle(hooked: Hooked) -> bool:
    """Whether the hook waits for no word of Redis."""
    assert hooked.access is not None
    (part,) = hooked.access._parts
    assert isinstance(part, Hooks)
    return all(isinstance(kept.hook, Watching) and not kept.hook._shown for kept in part._kept)


def added(client: redis.Redis) -> int:
    """How many entries a stream has ever been given."""
    return int(client.xinfo_stream(KEY)["entries-added"])


async def test_what_comes_while_redis_is_away_is_written_when_it_is_back(
    hooked: Hooked, store_servers: StoreServers
) -> None:
    server = store_servers()
    await hooked.use(posthooks=[stream(server, {"max_pending": 5})])
    hooked.gate.ask(announce(1, port=1))
    await until(lambda: entries(server) and is_idle(hooked), "the first to be there, and known to be")
    server.kill()
    for number in range(2, 12):
        hooked.gate.ask(announce(number, port=number))
    assert len(hooked.gate.answers) == 11, "nobody waits for it"
    assert hooked.gate.counters.hook_drops[NAME] == 5
    server.start()
    await until(lambda: len(entries(server)) >= 5, "the five that there was room for")
    assert hooked.gate.counters.hook_failures[NAME] == 0


async def test_a_server_that_is_full_is_waited_for(
    hooked: Hooked, store_servers: StoreServers, caplog: pytest.LogCaptureFixture
) -> None:
    server = store_servers()
    with server.client() as client:
        client.config_set("maxmemory", "1")
        await hooked.use(posthooks=[stream(server)])
        hooked.gate.ask(announce(1))
        await until(lambda: "not written for now: OOM" in caplog.text, "a word about it")
        client.config_set("maxmemory", "0")
    await until(lambda: len(entries(server)) == 1, "the entry")


async def test_a_key_that_is_no_stream_costs_what_was_to_be_written(
    hooked: Hooked, valkey: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    with valkey.client() as client:
        client.set(KEY, "something else")
    await hooked.use(posthooks=[stream(valkey)])
    hooked.gate.ask(announce(1))
    await until(lambda: hooked.gate.counters.hook_failures[NAME] == 1, "it to be counted")
    assert "WRONGTYPE" in caplog.text
    assert "Traceback" not in caplog.text


def test_every_worker_writes_to_the_redis_that_peers_are_kept_in(daemons: Daemons, valkey: StoreServer) -> None:
    config = "udptracker:\n  posthooks:\n    - name: announce stream\n"
    daemon = daemons(valkey.url, config=config, arguments=["--workers", "2"])
    for number in range(1, 11):
        daemon.announce(bytes((number * 7, *range(19))), number, left=number)
    eventually(lambda: len(entries(valkey)) == 10, "ten entries")
    assert sorted(int(entry["left"]) for entry in entries(valkey)) == list(range(1, 11))
    figures = daemon.get("/metrics")[1]
    assert 'udptracker_hook_drops_total{hook="announce stream"} 0.0' in figures
