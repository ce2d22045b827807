"""Lists that a gate's tracker decides by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.access.support import Gate
from udptracker.access.access import Access
from udptracker.access.lists.part import Lists
from udptracker.config import Settings, from_tree


def settings_of(**access: Any) -> Settings:
    """Settings with this below `access`."""
    return from_tree({"access": access}, "udptracker", {}).settings


class Listed(Gate):
    """A gate with lists by their settings."""

    def __init__(self, **access: Any) -> None:
        super().__init__()
        self.lists = Lists(settings_of(**access), self.counters, speaks=True)
        self.access = Access([self.lists], self.guard, self.tracker)


@asynccontextmanager
async def listed(**access: Any) -> AsyncIterator[Listed]:
    """The same, open, and closed at the end."""
    gate = Listed(**access)
    try:
        await gate.access.open()
        yield gate
    finally:
        await gate.access.close()
