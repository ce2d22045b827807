"""Fixtures of tests of endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.net.served import (
    Client,
    Clients,
    Served,
)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    yield served
    served.close()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Clients]:
    """Makes clients that are closed with the test."""
    made: list[Client] = []

    def make(*args: Any, **options: Any) -> Client:
        made.append(Client(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()
