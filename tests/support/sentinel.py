"""Servers that a sentinel watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import redis

from tests.support.servers import StoreServer
from tests.support.waiting import eventually

_SENTINEL = """\
sentinel monitor main 127.0.0.1 {port} 1
sentinel auth-pass main s3cret
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 2000
"""


class Watched:
    """A master, its replica and the sentinel that watches them, each asking for a password."""

    def __init__(self, start: Callable[..., StoreServer]) -> None:
        self.master = start(("--repl-diskless-sync-delay", "0"), password="s3cret")
        replicates = ("--replicaof", f"127.0.0.1 {self.master.port}", "--masterauth", "s3cret")
        self.replica = start(replicates, password="s3cret")
        eventually(lambda: info(self.replica, "replication")["master_link_status"] == "up", "the replica to follow")
        config = _SENTINEL.format(port=self.master.port)
        self.sentinel = start(("--sentinel",), config=config, password="watch")
        eventually(lambda: info(self.sentinel, "sentinel")["master0"]["slaves"] == 1, "the replica to be known")

    def fail_over(self) -> None:
        """Let the sentinel make the replica the master, which it may refuse until it has heard enough of it."""
        eventually(self._begins_to_fail_over, "the sentinel to begin a failover")
        eventually(lambda: info(self.replica, "replication")["role"] == "master", "the failover")

    def _begins_to_fail_over(self) -> bool:
        with self.sentinel.client() as client:
            try:
                client.execute_command("SENTINEL", "FAILOVER", "main")
            except redis.ResponseError:
                return False
            return True

    @property
    def url(self) -> str:
        """The master as a `redis_broker`."""
        return f"redis+sentinel://s3cret@127.0.0.1:1,127.0.0.1:{self.sentinel.port}/main/0?sentinel_password=watch"


def info(server: StoreServer, section: str) -> dict[str, Any]:
    """A section of a server's INFO."""
    with server.client() as client:
        return cast(dict[str, Any], client.info(section))
