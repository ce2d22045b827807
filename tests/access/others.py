"""A tracker with the hooks of `some_hooks`, for tests of what hooks that others wrote may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.access import some_hooks
from tests.access.hooked import Hooked

MODULE = "tests.access.some_hooks"


def hook(name: str, terms: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    name = name if " " in name else f"{MODULE}:{name}"
    return {"name": name, "options": options, **(terms or {})}


class WithOthers(Hooked):
    """A tracker with hooks of `some_hooks`."""

    @property
    def hook(self) -> Any:
        """The one that was made last."""
        return some_hooks.made[-1]

    def name(self, which: str) -> str:
        return f"{MODULE}:{which}"


@asynccontextmanager
async def with_others() -> AsyncIterator[WithOthers]:
    """A tracker, whose hooks are let go on at the end."""
    some_hooks.made.clear()
    made = WithOthers()
    yield made
    for each in some_hooks.made:
        each.let.set()
    await made.close()
