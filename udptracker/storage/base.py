"""The contract between the tracker and a store of peers.

`execute(batch)` is one round trip. Results keep order and length; a failed slot holds its error and its neighbours
stand. IPv4 and IPv6 swarms never mix. An absent swarm is zeros and no peers, not an error. Stopped removes the peer
from both roles and is answered with no peers. A peer is in one role at a time: whoever announces as a seeder leaves
the leechers, and the other way round. A `completed` of a peer that was a leecher until then, with nothing left,
counts one download, and then no other of that peer until it has stopped or expired. Peers in an answer are a
uniformly random sample, without the announcer, no endpoint twice. A seeder is given leechers; a leecher is given
seeders first, then leechers up to what it asked for. Counts include the announcer.

`reap(cutoff)` can be cut off at any point and run again, and never removes a peer that announced after the cutoff,
however the two interleave.

Of the info hashes that it is to `shun`, `reap` removes every peer, whenever it announced.

Time is the store's own: `now()` in nanoseconds, from a clock that all nodes on one store share and that a jump of
this machine's wall clock does not move. `tests/storage/contract.py` proves all this of every store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mypy_extensions import mypyc_attr

from udptracker.core.swarm import Operation, Result, StoreError, Totals

Shunned = Callable[[bytes], bool]
"""Whether no peers of an info hash are to be kept."""


def nothing_shunned(info_hash: bytes) -> bool:
    """Where peers of all info hashes are kept."""
    return False


class ReapReport(NamedTuple):
    """What one reaper run did.

    `ran` is false when another node held the lease. `peers` were removed as stale, `broken` as unreadable, `swarms`
    are emptied swarms taken out of the registry. `seconds` is how long it took.
    """

    ran: bool
    peers: int = 0
    broken: int = 0
    swarms: int = 0
    seconds: float = 0.0


@mypyc_attr(allow_interpreted_subclasses=True)
class PeerStore(ABC):
    """A store of peers. See the module for what each call promises."""

    @abstractmethod
    def now(self) -> int:
        """The store's time, nanoseconds."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and return once the store answers."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was accepted, then let go of every resource."""

    @abstractmethod
    async def execute(self, batch: Sequence[Operation]) -> list[Result | StoreError]:
        """Results in the order of the batch, an error in the place of each operation that failed.

        Raises:
            StoreUnavailable: the batch as a whole was not answered; any of it may have been applied.
        """

    @abstractmethod
    async def reap(self, cutoff: int) -> ReapReport:
        """Remove the peers whose last announce is at `cutoff` or before (nanoseconds on the store's clock).

        Raises:
            StoreUnavailable: cut off half way; run it again.
        """

    @abstractmethod
    def shun(self, shunned: Shunned) -> None:
        """Keep no peers of the info hashes of which this is true by then: they leave with the next `reap`, and what is
        remembered of them is never written again. Announces of them are for others to refuse."""

    @abstractmethod
    async def totals(self) -> dict[int, Totals]:
        """What the store holds, by family.

        Raises:
            StoreUnavailable: it does not answer.
        """

    async def agree_on_keys(self, proposed: bytes) -> list[bytes]:
        """The keys of connection ids that all nodes on this store share, the first of which issues: the proposed one if
        there are none yet, and none where nobody shares the store.

        Raises:
            StoreError: what is stored is not that.
            StoreUnavailable: it does not answer.
        """
        return []

    @abstractmethod
    async def ping(self) -> None:
        """Return if the store takes reads and writes.

        Raises:
            StoreUnavailable: it does not.
        """


@mypyc_attr(allow_interpreted_subclasses=True)
class ImmediateStore(PeerStore):
    """A store in this process: `apply` answers without waiting, so that no batch need be gathered, and `execute` is
    `apply` over the batch."""

    @abstractmethod
    def begin(self) -> None:
        """Read the clock: all that is applied from now on, until the next call, happens now."""

    @abstractmethod
    def apply(self, operation: Operation) -> Result:
        """The result of one operation, at once.

        Raises:
            StoreError: it failed.
        """

    async def open(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def execute(self, batch: Sequence[Operation]) -> list[Result | StoreError]:
        results: list[Result | StoreError] = []
        self.begin()
        for operation in batch:
            try:
                results.append(self.apply(operation))
            except StoreError as error:
                results.append(error)
        return results

    async def ping(self) -> None:
        return None
