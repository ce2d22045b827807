"""What error replies mean: each code of the servers' sources, and the real thing where a server can be made to."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest
import redis
from hiredis import ReplyError

from tests.conftest import StoreServers
from tests.storage.contract import SEEDER, STARTED, announce, ask
from tests.support import servers
from tests.support.servers import StoreServer
from tests.support.stores import topology_of, until_connected
from tests.support.waiting import eventually
from udptracker.core.swarm import StoreError, StoreUnavailable
from udptracker.redis.link import Timeouts
from udptracker.storage.redis.errors import code_of, store_error
from udptracker.storage.redis.store import RedisStore

_SCRIPT = "ERR Error running script (call to f_0): @user_script:1: @user_script: 1: "

AWAY = [
    "LOADING Redis is loading the dataset in memory",
    "LOADING Valkey is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "BUSY Valkey is busy running a module command.",
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 0, on @user_script:1.",
    f"{_SCRIPT}-READONLY You can't write against a read only replica. ",
    "REDIRECT 127.0.0.1:6380",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "OOM command not allowed when used memory > 'maxmemory'.",
    f"{_SCRIPT}-OOM command not allowed when used memory > 'maxmemory'. ",
    "CLUSTERDOWN The cluster is down",
    "CLUSTERDOWN Hash slot not served",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MOVED 1234 127.0.0.1:6381",
    "ASK 1234 127.0.0.1:6381",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "NOMASTERLINK Can't SYNC while failing over",
    "DENIED Redis is running in protected mode because protected mode is enabled",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM this user has no permissions to run the 'hset' command",
    "NOPERM No permissions to access a key",
    f"{_SCRIPT}The user executing the script can't access at least one of the keys mentioned in the command arguments",
    "ERR unknown command 'HRANDFIELD', with args beginning with: ",
    "ERR unknown command `HRANDFIELD`, with args beginning with: ",
    "ERR max number of clients reached",
    "ERR max number of clients + cluster connections reached",
    "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000.",
]
OF_ONE_OPERATION = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    f"{_SCRIPT}-WRONGTYPE Operation against a key holding the wrong kind of value ",
    "ERR hash value is not an integer",
    "ERR increment or decrement would overflow",
    "ERR value is not an integer or out of range",
    "ERR syntax error",
    "ERR Error running script (call to f_0): @user_script:1: user_script:1: attempt to index a nil value",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "NOSCRIPT No matching script. Please use EVAL.",
    "BUSYKEY Target key name already exists.",
    "BUSYGROUP Consumer Group name already exists",
    "EXECABORT Transaction discarded because of previous errors.",
    "NOTBUSY No scripts in execution right now.",
    "INVALIDOBJ Corrupted HLL object detected",
    "",
]


@pytest.mark.parametrize("text", AWAY)
def test_the_server_as_a_whole(text: str) -> None:
    assert type(store_error(ReplyError(text))) is StoreUnavailable


@pytest.mark.parametrize("text", OF_ONE_OPERATION)
def test_one_operation(text: str) -> None:
    assert type(store_error(ReplyError(text))) is StoreError


def _busy(client: redis.Redis, _: StoreServer) -> None:
    client.config_set("lua-time-limit", 10)

    def run_for_ever() -> None:
        with suppress(redis.RedisError):
            redis.Redis(port=client.connection_pool.connection_kwargs["port"]).eval("while true do end", 0)

    threading.Thread(target=run_for_ever, daemon=True).start()
    eventually(lambda: _is_busy(client), "the script to be slow")


def _is_busy(client: redis.Redis) -> bool:
    try:
        client.get("x")
    except redis.RedisError as error:
        return "busy" in str(error).lower()
    return False


def _out_of_memory(client: redis.Redis, _: StoreServer) -> None:
    client.config_set("maxmemory", 1)


def _without_replicas(client: redis.Redis, _: StoreServer) -> None:
    client.config_set("min-replicas-to-write", 1)


def _a_replica(client: redis.Redis, _: StoreServer) -> None:
    client.replicaof("127.0.0.1", 1)


def _a_replica_without_its_master(client: redis.Redis, _: StoreServer) -> None:
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", 1)


def _unable_to_save(client: redis.Redis, server: StoreServer) -> None:
    client.config_set("save", "3600 1")
    in_the_way = server.directory / "dump.rdb" / "file"
    in_the_way.parent.mkdir()
    in_the_way.touch()
    client.bgsave()
    eventually(lambda: _info(client)["rdb_last_bgsave_status"] == "err", "the save to fail")


def _info(client: redis.Redis) -> dict[str, str]:
    return cast(dict[str, str], client.info("persistence"))


@pytest.mark.parametrize("binary", [servers.valkey, servers.redis6], ids=["valkey", "redis6"])
@pytest.mark.parametrize(
    ("code", "bring_about"),
    [
        ("BUSY", _busy),
        ("OOM", _out_of_memory),
        ("NOREPLICAS", _without_replicas),
        ("READONLY", _a_replica),
        ("MASTERDOWN", _a_replica_without_its_master),
        ("MISCONF", _unable_to_save),
    ],
)
async def test_what_a_server_says_when_it_cannot_serve(
    store_servers: StoreServers,
    binary: Callable[[], object],
    code: str,
    bring_about: Callable[[redis.Redis, StoreServer], None],
) -> None:
    """To a batch, to a check, and to a script, whose error Redis 6.2 wraps in words of its own."""
    server = store_servers(binary=binary())
    topology = topology_of(server.url, Timeouts(5.0, 5.0, 5.0))
    store = RedisStore(topology, random.random)
    await store.open()
    await ask(store, announce(1, SEEDER, STARTED))
    with server.client() as client:
        await asyncio.to_thread(bring_about, client, server)
    script = topology.call(b"x", "EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "x")
    with pytest.raises(ReplyError) as of_script:
        await script
    assert type(store_error(of_script.value)) is StoreUnavailable
    assert code_of(str(of_script.value)) == code
    with pytest.raises(StoreUnavailable) as of_batch:
        await store.execute([announce(1, SEEDER, STARTED)])
    # A replica without its master says of writes that it is one.
    assert code_of(str(of_batch.value)) in (code, "READONLY" if code == "MASTERDOWN" else code)
    with pytest.raises(StoreUnavailable):
        await store.check()
    await store.close()


async def test_a_command_that_was_renamed_is_named(store_servers: StoreServers) -> None:
    server = store_servers(("--rename-command", "HRANDFIELD", ""))
    topology = topology_of(server.url)
    store = RedisStore(topology, random.random)
    topology.start()
    await until_connected(topology, 1)
    with pytest.raises(StoreUnavailable, match="unknown command 'HRANDFIELD'"):
        await store.check()
    with pytest.raises(StoreUnavailable, match="unknown command 'HRANDFIELD'"):
        await store.execute([announce(1, SEEDER, STARTED)])
    await store.close()
