"""Fixtures for the tests of stores."""

from __future__ import annotations

import pytest

from tests.storage.contract import Clock


@pytest.fixture
def clock() -> Clock:
    """A store's clock that the test moves."""
    return Clock()
