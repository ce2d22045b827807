"""What is seen of a store from outside, and a clock of this machine that a test moves."""

from __future__ import annotations

import time
from typing import cast

import redis

from tests.storage.contract import (
    SECOND,
    hash_of,
)
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer

HOUR = 3600


def swarm(letter: str, number: int = 1) -> str:
    """The name of a swarm hash."""
    return f"IPv4_{letter}_{hash_of(number).hex()}"


def peers(client: redis.Redis, letter: str, number: int = 1) -> set[bytes]:
    """Who is in a swarm."""
    return set(cast(list[bytes], client.hkeys(swarm(letter, number))))


class Steady:
    """This machine's steady clock, which a test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> int:
        return time.monotonic_ns() + int(self.ahead * SECOND)


def through(proxy: Proxy) -> str:
    """The URL of the server behind a proxy."""
    return f"redis://127.0.0.1:{proxy.port}/0"


def client_has(server: StoreServer, key: str) -> bool:
    """Whether a key is there."""
    with server.client() as client:
        return bool(client.exists(key))
