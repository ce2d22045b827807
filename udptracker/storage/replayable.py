"""The contract of a store that several nodes write to, that may go away, and that can be told old news afterwards.

Beyond what `storage.base` promises, such a store knows whether what answers is what answered before: `check` names
it, `look` tells cheaply whether it was emptied since. It also carries word between nodes: what a node sent over a
connection that it gave up may have run late, over what another node wrote in the meantime. Such a node says from when
on by `raise_doubt`, and `look` of the others tells them, so that they write once more what they have heard since.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from udptracker.core.swarm import Role
from udptracker.storage.base import PeerStore


class Entry(NamedTuple):
    """The newest state of a peer.

    `stamp` is its announce in nanoseconds. `stopped` is true of one that left. `completed` asks for a download to be
    counted if the store still has the peer as a leecher, `graduated` for one in any case.
    """

    family: int
    info_hash: bytes
    peer: bytes
    role: Role
    stopped: bool
    stamp: int
    completed: bool = False
    graduated: bool = False


class Pool(NamedTuple):
    """The peers of one role in one swarm."""

    family: int
    info_hash: bytes
    role: Role


class Identity(NamedTuple):
    """What answers: the server processes, and names of the data they hold."""

    servers: frozenset[str]
    data: tuple[str, ...]


class Outcome(NamedTuple):
    """Of a replay: how many entries are in the store now, and what kept others from being written as a whole: names of
    keys there and what is wrong with each."""

    written: int
    broken: list[str]


class Look(NamedTuple):
    """`emptied` if the store has lost what it held at the last `check`; `doubt` is since when, in nanoseconds on the
    store's clock, writes of this node may have been undone, or None."""

    emptied: bool
    doubt: int | None


class ReplayableStore(PeerStore):
    """See the module. `open` may be cancelled: the store goes on connecting, and `check` tells when it is there."""

    @property
    @abstractmethod
    def connections(self) -> int:
        """How often it has connected: after one more, another server process may answer, without what this one had."""

    @abstractmethod
    async def check(self) -> Identity:
        """Return if it takes reads and writes: what answers, another after a restart or a loss of the data.

        Nothing that was sent over a connection that has ended runs after this, as far as the store permits that.

        Raises:
            StoreUnavailable: it does not.
        """

    @abstractmethod
    async def look(self) -> Look:
        """What has happened since the last call, at the cost of a read. Called once a second.

        Raises:
            StoreUnavailable: it does not answer.
        """

    @abstractmethod
    async def raise_doubt(self, since: int) -> None:
        """Tell the other nodes that their writes since then (nanoseconds, the store's clock) may have been undone.

        Raises:
            StoreUnavailable: it does not answer.
        """

    @abstractmethod
    async def missing(self, pools: Mapping[Pool, Sequence[bytes]]) -> list[Pool]:
        """Those of which the store has no peer at all, or none of the peers named, where two or more are: who came
        after a loss hides it otherwise. A single one may have stopped where it leaves no trace.

        Raises:
            StoreUnavailable: it does not answer.
        """

    @abstractmethod
    async def replay(self, entries: Sequence[Entry]) -> Outcome:
        """Write each entry, stamped on the store's clock, unless something newer is known of its peer.

        A broken value in the store costs the entries that need it, and no others.

        Raises:
            StoreUnavailable: cut off; any of it may have been applied, and may be applied again.
        """
