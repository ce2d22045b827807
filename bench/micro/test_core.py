"""The core: codec, connection ids, tracker, memory store. 1,000 operations a round."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bench.micro.conftest import ADDRESS, NOW, OPERATIONS, Repeat
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.swarm import IPV4, AnnounceOperation, AnnounceResult, Role, ScrapeOperation, pack_peer_v4
from udptracker.core.tracker import Question, Tracker, Turn
from udptracker.core.wire import Event
from udptracker.storage.memory import MemoryStore


@pytest.fixture(scope="module")
def store(operations: list[AnnounceOperation]) -> MemoryStore:
    """A store with the whole world in it."""
    store = MemoryStore(random.Random(1).random)
    for operation in operations:
        store.apply(operation)
    return store


def test_connection_id_issue(each: Repeat, connection_ids: ConnectionIds) -> None:
    addresses = [n.to_bytes(4, "big") for n in range(OPERATIONS)]
    each(lambda address: connection_ids.issue(address, NOW), addresses)


def test_connection_id_valid_remembered(each: Repeat, connection_ids: ConnectionIds) -> None:
    """What this process has issued, or seen before."""
    issued = [connection_ids.issue(ADDRESS, NOW)] * OPERATIONS
    each(lambda connection_id: connection_ids.valid(connection_id, ADDRESS, NOW), issued)


def test_connection_id_forged(each: Repeat, connection_ids: ConnectionIds) -> None:
    """Costs what the first sight of one from another node costs: the HMAC."""
    forged = [int(NOW).to_bytes(4, "big") + n.to_bytes(4, "big") for n in range(OPERATIONS)]
    each(lambda connection_id: connection_ids.valid(connection_id, ADDRESS, NOW), forged)


def test_tracker_receive(benchmark: Any, announces: list[bytes], tracker: Tracker) -> None:
    """Datagrams to questions for the store: decode, connection id, policy. A turn of 1,000."""
    turn = [(data, ADDRESS, None) for data in announces[:OPERATIONS]]
    benchmark(tracker.receive, turn, NOW, 0)


def test_tracker_respond(each: Repeat, questions: list[Question], tracker: Tracker) -> None:
    """Answer of the store to datagram: encode, 30 peers."""
    result = AnnounceResult(20, 10, bytes(6 * 30))
    turn = Turn(0)
    each(lambda one: tracker.respond(one, result, turn), questions[:OPERATIONS])


def test_memory_announce(each: Repeat, operations: list[AnnounceOperation], store: MemoryStore) -> None:
    """Announces of known peers, over 200,000 peers in swarms of the mixed load."""
    each(store.apply, operations[:OPERATIONS])


def test_memory_scrape(each: Repeat, operations: list[AnnounceOperation], store: MemoryStore) -> None:
    """Ten info hashes."""
    hashes = [operation.info_hash for operation in operations]
    scrapes = [ScrapeOperation(IPV4, hashes[at : at + 10]) for at in range(OPERATIONS)]
    each(store.apply, scrapes)


@pytest.mark.parametrize("peers", [1_000, 1_000_000])
def test_memory_swarm_of(each: Repeat, peers: int) -> None:
    """Announces of leechers in one swarm, half of which seeds."""
    store = MemoryStore(random.Random(1).random)
    for n in range(peers):
        store.apply(_member(n))
    draw = random.Random(2)
    each(store.apply, [_member(draw.randrange(1, peers, 2)) for _ in range(OPERATIONS)])


def _member(n: int) -> AnnounceOperation:
    """The n-th peer: an even one seeds."""
    peer = pack_peer_v4(b"-UB0000-%012d" % n, 6881, (0x0A000000 + n).to_bytes(4, "big"))
    return AnnounceOperation(IPV4, bytes(20), peer, Role(n % 2), Event.NONE, 30)
