"""Which swarms a node keeps samples of, on a clock of the test's. What is in them is shown with `test_rounds`."""

from __future__ import annotations

import random

from udptracker.core.swarm import IPV4
from udptracker.storage.redis.samples import MOST_SAMPLES, Samples

SECOND = 1_000_000_000
BUSY = (IPV4, bytes(20))


def swarm(number: int) -> tuple[int, bytes]:
    return IPV4, number.to_bytes(20, "big")


def full(now: int) -> Samples:
    """Samples without room for one more, all of them seen at `now`."""
    samples = Samples(SECOND, random.Random(1).random)
    for number in range(1, MOST_SAMPLES + 1):
        samples.note(*swarm(number), now)
    return samples


def is_kept(samples: Samples, name: tuple[int, bytes], now: int) -> bool:
    """Whether a swarm is known: one of two announces at once is then told to read a sample."""
    sample = samples.find(*name)
    return sample is not None and any([samples.renews(sample, now), samples.renews(sample, now)])


def test_the_quiet_ones_make_room_and_the_busy_ones_stay() -> None:
    samples = full(now=SECOND)
    busy = samples.find(*swarm(7))
    assert busy is not None
    samples.renews(busy, 3 * SECOND)
    samples.note(*BUSY, 3 * SECOND)
    assert is_kept(samples, BUSY, 3 * SECOND)
    assert is_kept(samples, swarm(7), 3 * SECOND)
    assert not is_kept(samples, swarm(8), 3 * SECOND)


def test_there_is_a_bound_when_all_are_busy() -> None:
    samples = full(now=SECOND)
    samples.note(*BUSY, SECOND)
    assert not is_kept(samples, BUSY, SECOND)
    assert is_kept(samples, swarm(7), SECOND)


def test_room_is_looked_for_once_a_ttl() -> None:
    samples = full(now=SECOND)
    samples.note(*BUSY, SECOND)
    samples.note(*BUSY, 2 * SECOND - 1)
    assert not is_kept(samples, BUSY, 2 * SECOND - 1)
    samples.note(*BUSY, 2 * SECOND)
    assert is_kept(samples, BUSY, 2 * SECOND)


def test_without_a_ttl_none_is_kept() -> None:
    samples = Samples(0, random.Random(1).random)
    samples.note(*BUSY, SECOND)
    assert not is_kept(samples, BUSY, SECOND)
