"""The keys of connection ids that nodes without one of their own agree on, through the store.

They are hexadecimal text under one key, with a blank in between: the first issues, all verify. Whoever comes first
makes one. A key is rotated in two steps, so that every node verifies with the new one before any issues with it.
"""

from __future__ import annotations

import secrets
from typing import Final

from hiredis import ReplyError

from udptracker.core.swarm import StoreError, StoreUnavailable
from udptracker.redis.topology import Topology

SHARED_KEYS: Final = b"udptracker_connection_id_keys"
KEY_BYTES: Final = 32


async def agree(topology: Topology, proposed: bytes) -> list[bytes]:
    """The keys of all nodes; the proposed one if there are none yet.

    Raises:
        StoreError: what stands there is no list of keys.
        StoreUnavailable: the store does not answer, or refuses.
    """
    held = await _call(topology, "GET")
    if held is None:
        await _call(topology, "SET", proposed.hex(), "NX")
        held = await _call(topology, "GET")
    return _parse(held)


async def announce_next(topology: Topology) -> bytes:
    """Let all nodes verify with a new key, which is returned, beside the one that issues.

    Raises:
        StoreError: what stands there is no list of keys.
        StoreUnavailable: the store does not answer, or refuses.
    """
    fresh = secrets.token_bytes(KEY_BYTES)
    current = (await agree(topology, secrets.token_bytes(KEY_BYTES)))[0]
    await _call(topology, "SET", f"{current.hex()} {fresh.hex()}")
    return fresh


async def issue_with(topology: Topology, fresh: bytes) -> None:
    """Let all nodes issue with a key, and verify with the one that issued until now.

    Raises:
        StoreError: what stands there is no list of keys.
        StoreUnavailable: the store does not answer, or refuses.
    """
    current = (await agree(topology, fresh))[0]
    await _call(topology, "SET", f"{fresh.hex()} {current.hex()}")


async def _call(topology: Topology, command: str, *arguments: str) -> object:
    try:
        reply: object = await topology.call(SHARED_KEYS, command, SHARED_KEYS, *arguments)
    except ReplyError as error:
        raise StoreUnavailable(str(error)) from error
    return reply


def _parse(held: object) -> list[bytes]:
    try:
        keys = [bytes.fromhex(text) for text in held.decode().split(" ")] if isinstance(held, bytes) else []
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise StoreError(f"{SHARED_KEYS.decode()} holds no keys: delete it, and nodes make a new one")
    return keys
