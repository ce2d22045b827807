"""What every round of a batch knows, and writes its findings into. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from hiredis import ReplyError

from udptracker.core.swarm import AnnounceOperation, AnnounceResult, Operation, Result, StoreError
from udptracker.storage.redis.errors import store_error
from udptracker.storage.redis.layout import info_hash_counter, stamp_end
from udptracker.storage.redis.plan import RegistrationsPlan, Single
from udptracker.storage.redis.registry import Registry


@final
class Context:
    """A batch of operations at one time.

    Args:
        operations: what was asked; `results` has the same length and order.
        now: nanoseconds, the modification time of what is written; `stamp` is the same in decimal.
        draw: a source of uniform numbers in [0, 1).
        registry: what the node knows of the families' hashes.
        lifetime: milliseconds in decimal, how long is remembered what a peer did; empty for not at all.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        now: int,
        draw: Callable[[], float],
        registry: Registry,
        lifetime: bytes,
    ) -> None:
        nothing: Result = AnnounceResult(0, 0, b"")
        self.operations = operations
        self.now = now
        self.stamp = b"%d" % now
        self.stamp_end = stamp_end(self.stamp)
        self.draw = draw
        self.registry = registry
        self.lifetime = lifetime
        self.results: list[Result | StoreError] = [nothing] * len(operations)
        self.changes: list[tuple[bytes, int]] = []
        """(counter, change) for each field that was new or removed."""
        self.misfits = 0
        """Download counts that could not be counted further, since they are no numbers or too large."""
        self.late: list[int] = []
        """The places of announces that gave no event, and were new in their role all the same."""

        self.unnamed: list[int] = []
        """The places of announces whose swarm should be registered, and is not."""

    def announce(self, place: int) -> AnnounceOperation:
        """The announce at a place of which it is known that there is one."""
        operation = self.operations[place]
        assert isinstance(operation, AnnounceOperation)
        return operation

    def read_registrations(self, planned: RegistrationsPlan) -> None:
        """What the replies to registrations mean: an announce whose swarm is not registered is not stored."""
        if planned.new_seeded:
            self.changes.append((info_hash_counter(planned.family), planned.new_seeded))
        for registration in planned.held:
            self.registry.settle(registration)
        for registration, error in planned.failed:
            self.registry.owe(registration)
            for place in registration.announces:
                self.results[place] = error

    def refuse_failed(self, singles: list[Single]) -> None:
        """The errors of commands without which an announce is not stored."""
        for single in singles:
            if isinstance(single.reply, ReplyError):
                self.results[single.announce] = store_error(single.reply)
