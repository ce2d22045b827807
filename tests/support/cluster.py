"""A cluster of real servers on 127.0.0.1, formed by the test, and what goes on in one: moving slots, losing nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

import redis

from tests.support.servers import StoreServer
from tests.support.waiting import eventually

_SLOTS: Final = 16_384
_ARGUMENTS: Final = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")


class StoreCluster:
    """`masters` with the slots shared evenly, and a replica of each if asked for.

    Args:
        start: starts a server with these arguments and ends it with the test.
        arguments: more of each server's command line.
    """

    def __init__(
        self,
        start: Callable[..., StoreServer],
        masters: int = 3,
        *,
        replicas: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        self._start = start
        self._arguments = (*_ARGUMENTS, *arguments)
        self.masters = [start(self._arguments) for _ in range(masters)]
        self.replicas = [start(self._arguments) for _ in range(masters if replicas else 0)]
        self._form()

    @property
    def url(self) -> str:
        """All of its masters as a `redis_broker`."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.masters)

    def flush(self) -> None:
        """Empty it."""
        for server in self.masters:
            server.flush()

    def key_sets(self) -> list[set[bytes]]:
        """The keys on each master."""
        found = []
        for server in self.masters:
            with server.client() as client:
                found.append(set(client.scan_iter(count=1000)))
        return found

    def owner(self, key: bytes) -> StoreServer:
        """The master that holds a key's slot."""
        return next(server for server in self.masters if _slot(server, key) in _own_slots(server))

    def join(self) -> StoreServer:
        """One more master, which has no slots yet."""
        server = self._start(self._arguments)
        _call(self.masters[0], "CLUSTER", "MEET", "127.0.0.1", server.port)
        self.masters.append(server)
        everyone = (*self.masters, *self.replicas)
        _wait_for_each(everyone, lambda each: _knows(each, len(everyone)), "to know the cluster")
        _wait_for_each(everyone, _is_ok, "to find the cluster whole")
        return server

    def begin_move(self, key: bytes, target: StoreServer) -> None:
        """Put a key's slot between its owner and `target`, with its keys on `target` already: clients are told ASK."""
        source, slot = self.owner(key), _slot(target, key)
        _call(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", _name(source))
        _call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", _name(target))
        keys = cast(list[bytes], _call(source, "CLUSTER", "GETKEYSINSLOT", slot, 1000))
        if keys:
            _call(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def finish_move(self, key: bytes, target: StoreServer) -> None:
        """Give the slot to `target`: clients are told MOVED by everyone else."""
        for server in (target, *(server for server in self.masters if server is not target)):
            _call(server, "CLUSTER", "SETSLOT", _slot(server, key), "NODE", _name(target))

    def _form(self) -> None:
        everyone = (*self.masters, *self.replicas)
        for at, server in enumerate(self.masters):
            first, last = (_SLOTS * edge // len(self.masters) for edge in (at, at + 1))
            _call(server, "CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            _call(server, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for server in everyone[1:]:
            _call(everyone[0], "CLUSTER", "MEET", "127.0.0.1", server.port)
        _wait_for_each(everyone, lambda server: _knows(server, len(everyone)), "to know the cluster")
        for master, replica in zip(self.masters, self.replicas, strict=False):
            _call(replica, "CLUSTER", "REPLICATE", _name(master))
        _wait_for_each(everyone, _is_ok, "to find the cluster whole")
        _wait_for_each(self.replicas, _follows, "to be in step with its master")


def _wait_for_each(servers: Sequence[StoreServer], probe: Callable[[StoreServer], bool], what: str) -> None:
    for server in servers:
        eventually(partial(probe, server), f"the server on port {server.port} {what}")


def _call(server: StoreServer, *command: object) -> object:
    with server.client() as client:
        return client.execute_command(*command)


def _name(server: StoreServer) -> str:
    return cast(bytes, _call(server, "CLUSTER", "MYID")).decode()


def _slot(server: StoreServer, key: bytes) -> int:
    return cast(int, _call(server, "CLUSTER", "KEYSLOT", key))


def _own_slots(server: StoreServer) -> set[int]:
    with server.client() as client:
        nodes = cast(dict[str, dict[str, object]], client.cluster("NODES"))
    own = next(node for node in nodes.values() if "myself" in str(node["flags"]))
    ranges = [[int(edge) for edge in pair] for pair in cast(list[list[str]], own["slots"])]
    return {slot for pair in ranges for slot in range(pair[0], pair[-1] + 1)}


def _knows(server: StoreServer, nodes: int) -> bool:
    with server.client() as client:
        known = cast(dict[str, dict[str, object]], client.cluster("NODES")).values()
    return len(known) == nodes and not any("handshake" in str(node["flags"]) for node in known)


def _is_ok(server: StoreServer) -> bool:
    with server.client() as client:
        return cast(dict[str, str], client.cluster("INFO"))["cluster_state"] == "ok"


def _follows(replica: StoreServer) -> bool:
    with replica.client() as client:
        try:
            return cast(dict[str, str], client.info("replication"))["master_link_status"] == "up"
        except redis.RedisError:
            return False
