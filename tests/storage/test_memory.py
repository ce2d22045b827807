"""The memory store: the contract, and what is its own."""

from __future__ import annotations

import random

import pytest

from tests.storage.contract import LEECHER, NONE, SEEDER, STARTED, Clock, StoreContract, announce, ask, ask_all
from udptracker.storage.base import PeerStore
from udptracker.storage.memory import MemoryStore


class TestMemoryStore(StoreContract):
    """The contract on memory."""

    @pytest.fixture
    def store(self, clock: Clock) -> PeerStore:
        return MemoryStore(random.Random(1).random, clock)
