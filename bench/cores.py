"""Who runs on which core: the tracker always alone, if the machine has two."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """Core numbers for each part of a run; two parts may share them."""

    tracker: tuple[int, ...]
    store: tuple[int, ...]
    generator: tuple[int, ...]

    @classmethod
    def divide(cls, available: Sequence[int], workers: int) -> Cores:
        """The tracker's first, one for each worker, then the store's, the generator has the rest.

        With a core less, store and generator share the rest. With fewer still, nobody is pinned.
        """
        cores = tuple(available)
        rest = cores[workers:]
        if len(rest) > 1:
            return cls(cores[:workers], rest[:1], rest[1:])
        if rest:
            return cls(cores[:workers], rest, rest)
        return cls(cores, cores, cores)


def available() -> tuple[int, ...]:
    """The cores this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """What is started inside runs on these cores, and so does this process until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
