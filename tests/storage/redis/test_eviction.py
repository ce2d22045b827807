"""A store that may throw keys away is warned of when it is met."""

from __future__ import annotations

import pytest

from tests.conftest import StoreServers
from tests.support.stores import redis_store


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_is_named(store_servers: StoreServers, caplog: pytest.LogCaptureFixture, policy: str) -> None:
    async with redis_store(store_servers(["--maxmemory-policy", policy]).url) as store:
        await store.check()
    assert [record.levelname for record in caplog.records if policy in record.message] == ["WARNING"]


async def test_that_evicts_nothing_is_none(store_servers: StoreServers, caplog: pytest.LogCaptureFixture) -> None:
    async with redis_store(store_servers(["--maxmemory-policy", "noeviction"]).url):
        pass
    assert "maxmemory-policy" not in caplog.text


@pytest.mark.parametrize(("refused", "named"), [("-config", 1), ("-info", 1), ("-@dangerous", 0)])
async def test_is_named_as_far_as_it_tells(
    store_servers: StoreServers, caplog: pytest.LogCaptureFixture, refused: str, named: int
) -> None:
    server = store_servers(["--maxmemory-policy", "allkeys-lru"])
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "shy", "on", ">secret", "~*", "&*", "+@all", refused)
    url = server.url.replace("redis://", "redis://shy:secret@", 1)
    async with redis_store(url):
        pass
    assert caplog.text.count("maxmemory-policy is allkeys-lru") == named
