"""A short run of every target: the seeds, and some thousands of inputs made of them, the same each time.

`python -m tests.fuzz` is the long one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.fuzz.base import Mutator, Target
from tests.fuzz.targets import TARGETS

_INPUTS: Final = {"config": 300, "tokens": 1_000}
_MOST_INPUTS: Final = 3_000
_SECONDS: Final = 2.0
"""Of CPU time for one input: none takes more than some milliseconds, but a machine may be slow."""


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[tuple[str, Target]]:
    made = TARGETS[request.param]()
    yield request.param, made
    made.close()


def test_only_documented_errors_leave(target: tuple[str, Target]) -> None:
    name, fed = target
    seeds = fed.seeds()
    mutator = Mutator(seeds, seed=len(name))
    inputs = [*seeds, *(mutator.next() for _ in range(_INPUTS.get(name, _MOST_INPUTS)))]
    for data in inputs:
        before = time.process_time()
        try:
            fed.feed(data)
        except BaseException as error:
            pytest.fail(f"{error!r} of {data!r}")
        assert time.process_time() - before < _SECONDS, data
