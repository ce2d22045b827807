"""The table of stores: what the configuration names is what is made, and it works."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support.servers import StoreServer
from udptracker import config
from udptracker.config import StorageSettings
from udptracker.config.settings import STORES
from udptracker.core.counters import Counters
from udptracker.core.swarm import IPV4, AnnounceOperation, AnnounceResult, Role, pack_peer_v4
from udptracker.core.wire import Event
from udptracker.service.stores import make_store
from udptracker.storage.memory import MemoryStore
from udptracker.storage.standby.circuit import StandbyStore

OPERATION = AnnounceOperation(IPV4, bytes(20), bytes(26), Role.SEEDER, Event.STARTED, 0)


def storage(name: str, **fields: Any) -> StorageSettings:
    tree = {"storage": {"name": name, "config": fields}}
    return config.from_tree(tree, "udptracker", {}).settings.storage


def test_memory() -> None:
    assert type(make_store(storage("memory"), random.random, Counters()).store) is MemoryStore


def test_the_bounds_on_memory_are_those_of_all_workers_together_and_can_be_changed() -> None:
    counters = Counters()
    made = make_store(storage("memory", max_peers=10, max_swarms=0), random.random, counters, sharers=4)
    kept = []
    for most in (10, 18):
        made.use(storage("memory", max_peers=most).config)
        for number in range(10):
            peer = pack_peer_v4(bytes(20), 1 + number, bytes(4))
            operation = AnnounceOperation(IPV4, bytes(20), peer, Role.SEEDER, Event.STARTED, 0)
            assert isinstance(made.store, MemoryStore)
            result = made.store.apply(operation)
        assert isinstance(result, AnnounceResult)
        kept.append(result.seeders)
    assert kept == [3, 5]
    assert counters.unkept == {"max_peers": 12, "max_swarms": 0}


async def test_redis_has_a_stand_in(store_server: StoreServer) -> None:
    store = make_store(storage("redis", redis_broker=store_server.url), random.random, Counters()).store
    assert type(store) is StandbyStore
    await store.open()
    try:
        assert await store.execute([OPERATION]) == [AnnounceResult(1, 0, b"")]
        with store_server.client() as client:
            assert client.hlen(f"IPv4_S_{'00' * 20}") == 1
    finally:
        await store.close()


async def test_by_its_unix_socket(valkey: StoreServer) -> None:
    store = make_store(storage("redis", redis_broker=valkey.unix_url), random.random, Counters()).store
    await store.open()
    try:
        assert await store.execute([OPERATION]) == [AnnounceResult(1, 0, b"")]
    finally:
        await store.close()


@pytest.mark.parametrize("name", STORES)
async def test_each_store_of_the_configuration_can_be_made_and_given_other_settings(name: str) -> None:
    settings = storage(name)
    assert type(settings.config) is STORES[name]
    made = make_store(settings, random.random, Counters())
    made.use(settings.config)
    assert settings.describe()


@pytest.mark.parametrize("name", STORES)
def test_each_secret_is_one_of_its_settings_and_not_shown(name: str) -> None:
    config = STORES[name]()
    for key, shown in config.secrets.items():
        assert "swordfish" not in shown("redis://swordfish@127.0.0.1:6379/0")
        assert hasattr(getattr(config, key), "get_secret_value")
