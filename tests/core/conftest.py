"""Fixtures of tests of the core."""

from __future__ import annotations

import pytest

from tests.core.driven import (
    Core,
)


@pytest.fixture
def core() -> Core:
    return Core()
