"""A store whose clock is another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.proxy import OtherTime, Proxy
from tests.support.servers import StoreServer


@pytest.fixture
def other_time() -> OtherTime:
    """How far the server's clock is ahead of what it was."""
    return OtherTime()


@pytest.fixture
def proxy(valkey: StoreServer, other_time: OtherTime) -> Iterator[Proxy]:
    with Proxy(valkey.port, other_time) as proxy:
        yield proxy
