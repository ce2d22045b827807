"""Nodes without a key of their own agree on one through Redis."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.conftest import Daemons, StoreServers
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer
from tests.support.stores import redis_store
from tests.support.waiting import eventually
from udptracker.config import Settings
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.swarm import StoreError
from udptracker.core.wire import Event
from udptracker.service import keys
from udptracker.service.keys import SharedKeys
from udptracker.storage.redis.keys import KEY_BYTES, SHARED_KEYS, announce_next, issue_with
from udptracker.storage.redis.store import RedisStore

ADDRESS = bytes((127, 0, 0, 1))


def takes(node: Daemon, connection_id: bytes) -> None:
    """Whether an announce with an id is answered: that it is refused fails the test."""
    with node.client() as client:
        client.connection_id = connection_id
        client.announce(bytes(20), 1000, event=Event.NONE)


class TestDaemons:
    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_take_each_others_ids_also_after_a_restart(
        self, valkey: StoreServer, daemons: Daemons, workers: str
    ) -> None:
        first, second = (daemons(valkey.url, arguments=["--workers", workers]) for _ in range(2))
        for one, other in ((first, second), (second, first)):
            with one.client() as client:
                takes(other, client.connect())
        with first.client() as client:
            connection_id = client.connect()
        first.stop()
        first.start()
        takes(first, connection_id)
        assert "agree on one through Redis" in first.log

    def test_use_a_configured_key_and_keep_it_to_themselves(self, valkey: StoreServer, daemons: Daemons) -> None:
        node = daemons(valkey.url, config="udptracker: {udp: {private_key: s3cr3t}}")
        with node.client() as client:
            assert ConnectionIds([b"s3cr3t"]).valid(client.connect(), client.address, time.time())
        with valkey.client() as client:
            assert not client.exists(SHARED_KEYS)

    def test_that_start_while_the_store_is_away_take_both(self, store_servers: StoreServers, tmp_path: Path) -> None:
        server = store_servers()
        shared = bytes(range(KEY_BYTES))
        with server.client() as client:
            client.set(SHARED_KEYS, shared.hex())
            client.save()
        server.kill()
        with Daemon(tmp_path, server.url) as node:
            node.start(wait=False)
            eventually(lambda: node.alive_and_answers("/healthz"), "the tracker to live")
            with node.client() as client:
                before = client.connect()
            server.start()
            node.wait_until_ready()
            ids = ConnectionIds([shared])

            def issues_with_the_shared_one() -> bool:
                with node.client() as client:
                    return ids.valid(client.connect(), client.address, time.time())

            eventually(issues_with_the_shared_one, "the tracker to take the key of the store")
            takes(node, before)


class Node:
    """What a node does about its keys, without the rest of it."""

    def __init__(self, store: RedisStore, own: bytes) -> None:
        self.ids = ConnectionIds([own])
        self._own = own
        self._keys = SharedKeys(store)

    async def refresh(self) -> None:
        if await self._keys.refresh(self._own):
            self.ids.replace_keys([*self._keys.shared, self._own])

    def issue(self) -> bytes:
        return self.ids.issue(ADDRESS, time.time())

    def takes(self, other: Node) -> bool:
        return self.ids.valid(other.issue(), ADDRESS, time.time())


class TestSharedKeys:
    @pytest.fixture
    async def nodes(self, valkey: StoreServer) -> AsyncIterator[tuple[Node, Node]]:
        async with AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(redis_store(valkey.url)) for _ in range(2)]
            one, other = (Node(store, bytes([at]) * KEY_BYTES) for at, store in enumerate(stores))
            await one.refresh()
            await other.refresh()
            yield one, other

    async def test_are_rotated_without_refusing_anybody(
        self, valkey: StoreServer, nodes: tuple[Node, Node], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        one, other = nodes
        async with redis_store(valkey.url) as store:
            topology = store._topology
            before = valkey_keys(valkey)
            fresh = await announce_next(topology)
            for late, early in ((one, other), (other, one)):
                await early.refresh()
                assert one.takes(other)
                assert other.takes(one)
                await late.refresh()
            await issue_with(topology, fresh)
            await one.refresh()
            assert one.takes(other)
            assert other.takes(one)
            await other.refresh()
            assert one.takes(other)
            assert other.takes(one)
            assert valkey_keys(valkey) == [fresh, *before]
            assert ConnectionIds([fresh]).valid(one.issue(), ADDRESS, time.time())
        valkey.flush()
        await one.refresh()
        await other.refresh()
        assert one.takes(other)
        said = [record.message for record in caplog.records if "connection ids" in record.message]
        assert said == 2 * ["connection ids are issued with a new key"], (
            "once by each, and not of what was there before"
        )

    async def test_come_back_after_the_store_was_emptied(self, valkey: StoreServer, nodes: tuple[Node, Node]) -> None:
        one, other = nodes
        before = valkey_keys(valkey)
        valkey.flush()
        await other.refresh()
        await one.refresh()
        assert valkey_keys(valkey) == before
        assert one.takes(other)

    async def test_that_are_none_leave_the_node_its_own(
        self, valkey: StoreServer, nodes: tuple[Node, Node], caplog: pytest.LogCaptureFixture
    ) -> None:
        with valkey.client() as client:
            client.set(SHARED_KEYS, "rubbish")
        for _ in range(2):
            await nodes[0].refresh()
        assert nodes[0].takes(nodes[1])
        assert [record.levelname for record in caplog.records if "holds no keys" in record.message] == ["WARNING"]


def valkey_keys(server: StoreServer) -> list[bytes]:
    """The keys that are shared now."""
    with server.client() as client:
        held = client.get(SHARED_KEYS)
        assert isinstance(held, bytes)
        return [bytes.fromhex(text) for text in held.decode().split()]


class TestRotate:
    def test_makes_a_new_one_and_keeps_the_last(self, valkey: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keys, "REFRESH_SECONDS", 0.01)
        given = settings(valkey.url)
        keys.rotate(given)
        first = valkey_keys(valkey)
        keys.rotate(given)
        second = valkey_keys(valkey)
        assert len({*first, *second}) == 3
        assert second[1] == first[0]

    def test_refuses_where_nothing_is_shared(self, valkey: StoreServer) -> None:
        with pytest.raises(StoreError, match="private_key"):
            keys.rotate(settings(valkey.url, private_key="s3cr3t"))
        with pytest.raises(StoreError, match="Redis"):
            keys.rotate(Settings.model_validate({"storage": {"name": "memory"}}))


def settings(url: str, **udp: str) -> Settings:
    """Of a node on Redis."""
    return Settings.model_validate({"udp": udp, "storage": {"name": "redis", "config": {"redis_broker": url}}})
