"""The requests that the parts are measured with: announces of the mixed load's world."""

from __future__ import annotations

import random
from collections.abc import Callable
from struct import pack_into
from typing import Any, Final

import pytest

from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question, Tracker
from udptracker.load import LoadOptions
from udptracker.load.world import World

NOW: Final = 1_700_000_000.0
HOST: Final = "127.0.0.2"
ADDRESS: Final = bytes((127, 0, 0, 2))
OPERATIONS: Final = 1_000
"""In each round, so that a round's milliseconds are microseconds an operation."""

Repeat = Callable[[Callable[[Any], object], list[Any]], None]


@pytest.fixture
def each(benchmark: Any) -> Repeat:
    """Measure a function over a list of arguments, `OPERATIONS` of them."""

    def measure(function: Callable[[Any], object], arguments: list[Any]) -> None:
        assert len(arguments) == OPERATIONS

        def all_of_them() -> None:
            for argument in arguments:
                function(argument)

        benchmark(all_of_them)

    return measure


@pytest.fixture(scope="session")
def connection_ids() -> ConnectionIds:
    return ConnectionIds([b"key"])


@pytest.fixture(scope="session")
def announces(connection_ids: ConnectionIds) -> list[bytes]:
    """One packet for every peer of the world, 200,000 in 100,000 torrents, in random order."""
    world = World(LoadOptions(host=HOST, port=1, sources=1), [ADDRESS])
    head = connection_ids.issue(ADDRESS, NOW)
    packets: list[bytes] = []
    for peer in world.peers(0):
        packet = world.announce(peer)
        pack_into(">8sII", packet, 0, head, 1, len(packets))
        packets.append(bytes(packet))
    random.Random(1).shuffle(packets)
    return packets


@pytest.fixture(scope="session")
def tracker(connection_ids: ConnectionIds) -> Tracker:
    return Tracker(connection_ids, Policy(), random.Random(1).random, Counters())


@pytest.fixture(scope="session")
def questions(announces: list[bytes], tracker: Tracker) -> list[Question]:
    """What the tracker asks the store for each of the announces."""
    return tracker.receive([(packet, ADDRESS, None) for packet in announces], NOW, 0).questions


@pytest.fixture(scope="session")
def operations(questions: list[Question]) -> list[AnnounceOperation]:
    return [one.operation for one in questions if isinstance(one.operation, AnnounceOperation)]
