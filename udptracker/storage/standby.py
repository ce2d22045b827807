"""A store that outlives its store: a stand-in in this process for the time the real one is away.

While the primary answers, every batch goes to it, and is remembered: the last `max_peers` operations, cheaply, a
reference to each batch. When it does not answer, refuses, takes longer than `timeout`, or was connected to anew (it
may have been another process for a moment in which nobody asked), the circuit opens. The
stand-in, a memory store, is filled with what was remembered and answers at once; every announce is also kept in a
journal, newest state per peer. A task knocks at the primary until it answers, replays into it

- the journal, and
- what was remembered: of the last `replay_window` if it is the same server process as before, since a reply may
  have got lost; all of it if it is another one, since a failover loses what had not been replicated and a restart
  without persistence loses everything,

and closes the circuit. A replayed entry carries the time of its announce and never undoes what was written later,
by whichever node; so nodes may replay over each other. They start at random moments and pause between chunks.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from udptracker.core.counters import Counters
from udptracker.core.swarm import AnnounceOperation, Operation, Result, Role, StoreError, StoreUnavailable, Totals
from udptracker.core.wire import Event
from udptracker.storage.base import ImmediateStore, PeerStore, ReapReport

log = logging.getLogger(__name__)

T = TypeVar("T")

_SECOND: Final = 1_000_000_000
_FIRST_KNOCK: Final = 0.1
_LAST_KNOCK: Final = 2.0
_CHUNK: Final = 500
_PAUSE: Final = 0.005
_HERD_SECONDS: Final = 0.3
"""Nodes that lost one store begin to replay at random moments within this time."""
_FILL_SLICE: Final = 1_000
"""Operations put into the stand-in between two pauses: about 2 ms."""
_FIRST_WAIT: Final = 1.0


class Entry(NamedTuple):
    """The newest state of a peer: `stamp` is its announce in nanoseconds on the store's clock. `event` is `STOPPED`
    for one that left. `graduated` asks for one download to be counted."""

    family: int
    info_hash: bytes
    peer: bytes
    role: Role
    event: Event
    stamp: int
    graduated: bool


class ReplayableStore(PeerStore):
    """A store that others write to as well and that can be told old news."""

    @property
    @abstractmethod
    def connections(self) -> int:
        """How often it has connected: after one more, another server process may answer, without what this one had."""

    @abstractmethod
    async def check(self) -> str:
        """Return if it takes reads and writes: a name of the server process that answers, another after a restart.

        Raises:
            StoreUnavailable: it does not.
        """

    @abstractmethod
    async def replay(self, entries: Sequence[Entry]) -> None:
        """Write each entry unless something newer is known of its peer.

        Raises:
            StoreUnavailable: cut off; any of it may have been applied, and may be applied again.
        """


_Key = tuple[int, bytes, bytes]


class StandbyStore(PeerStore):
    """See the module.

    Args:
        primary: the real store.
        make_stand_in: makes an empty store in this process.
        timeout: seconds after which a batch is answered from the stand-in instead.
        max_peers: the most operations remembered, and the most peers in the journal; an announce of one peer more
            fails while the primary is away.
        replay_window: seconds.
    """

    def __init__(
        self,
        primary: ReplayableStore,
        make_stand_in: Callable[[], ImmediateStore],
        counters: Counters,
        *,
        timeout: float,
        max_peers: int,
        replay_window: float,
    ) -> None:
        self._primary = primary
        self._make_stand_in = make_stand_in
        self._counters = counters
        self._timeout = timeout
        self._max_peers = max_peers
        self._window = int(replay_window * _SECOND)
        self._recent: deque[tuple[int, Sequence[Operation]]] = deque()
        self._remembered = 0
        self._journal: dict[_Key, Entry] = {}
        self._stand_in: ImmediateStore | None = None
        self._identity = ""
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def now(self) -> int:
        return self._primary.now()

    async def open(self) -> None:
        """Serve at once: from the primary if it answers within a second, else from the stand-in until it does.

        Raises:
            StoreError: the primary answers and can never serve.
        """
        opening = asyncio.ensure_future(self._primary.open())
        done, _ = await asyncio.wait({opening}, timeout=_FIRST_WAIT)
        if done:
            opening.result()
            self._connections = self._primary.connections
            self._identity = await self._primary.check()
            return
        self._fall("it does not answer yet", opening)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._journal:
            log.warning("%d peers heard while the store was away are not in it", len(self._journal))
        await self._primary.close()

    async def execute(self, batch: Sequence[Operation]) -> list[Result | StoreError]:
        if self._primary.connections != self._connections:
            self._fall("it was connected to anew, and may have lost what it had")
        if self._stand_in is None:
            self._remember(batch)
            try:
                return await self._bounded(self._primary.execute(batch))
            except StoreUnavailable as error:
                self._fall(str(error))
        return self._answer(batch)

    async def reap(self, cutoff: int) -> ReapReport:
        stand_in = self._stand_in
        if stand_in is None:
            return await self._primary.reap(cutoff)
        await self._forget_stale(cutoff)
        return await stand_in.reap(stand_in.now() - (self.now() - cutoff))

    async def totals(self) -> dict[int, Totals]:
        if self._stand_in is not None:
            return await self._stand_in.totals()
        return await self._bounded(self._primary.totals())

    async def ping(self) -> None:
        if self._stand_in is not None:
            raise StoreUnavailable("serving from the stand-in of this node")
        await self._bounded(self._primary.ping())

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {self._timeout:g} s") from None

    # ------------------------------------------------------------------------------------ away

    def _answer(self, batch: Sequence[Operation]) -> list[Result | StoreError]:
        """Answers of the stand-in, each announce in the journal first."""
        stand_in, stamp = self._stand_in, self.now()
        assert stand_in is not None
        results: list[Result | StoreError] = []
        for operation in batch:
            if isinstance(operation, AnnounceOperation) and not self._journalize(operation, stamp):
                self._counters.replay_dropped += 1
                results.append(StoreUnavailable("the store is away and the stand-in is full"))
                continue
            results.append(stand_in.apply(operation))
        self._counters.standby_answers += len(results)
        self._counters.buffered = len(self._journal)
        return results

    def _journalize(self, operation: AnnounceOperation, stamp: int) -> bool:
        """Keep an announce for the primary; false if there is no room for one more peer."""
        family, info_hash, peer, role, event, _ = operation
        key = (family, info_hash, peer)
        before = self._journal.get(key)
        if before is None and len(self._journal) >= self._max_peers:
            return False
        graduated = before is not None and (
            before.graduated or (event is Event.COMPLETED and role is Role.SEEDER and before.role is Role.LEECHER)
        )
        self._journal[key] = Entry(family, info_hash, peer, role, event, stamp, graduated)
        return True

    async def _forget_stale(self, cutoff: int) -> None:
        """Take out of the journal what would be stale by the time it is replayed, so that it fills with the living."""
        journal = self._journal
        for at, key in enumerate(list(journal)):
            entry = journal.get(key)
            if entry is not None and entry.stamp <= cutoff:
                del journal[key]
            if at % _FILL_SLICE == 0:
                await asyncio.sleep(0)

    def _remember(self, batch: Sequence[Operation]) -> None:
        self._recent.append((self.now(), batch))
        self._remembered += len(batch)
        while self._remembered > self._max_peers:
            self._remembered -= len(self._recent.popleft()[1])

    def _fall(self, reason: str, opening: asyncio.Future[None] | None = None) -> None:
        """Open the circuit, once."""
        if self._stand_in is not None:
            return
        log.warning("the store is away (%s): this node answers from what it has heard itself", reason)
        self._counters.store_up = 0
        self._stand_in = self._make_stand_in()
        for work in (self._fill(self._stand_in, list(self._recent)), self._recover(opening)):
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fill(self, stand_in: ImmediateStore, recent: Iterable[tuple[int, Sequence[Operation]]]) -> None:
        """Put what was remembered into the stand-in, unless the journal knows better by then."""
        filled = 0
        for _, batch in recent:
            for operation in batch:
                if isinstance(operation, AnnounceOperation) and operation[:3] not in self._journal:
                    stand_in.apply(operation._replace(num_want=0))
                filled += 1
            if filled >= _FILL_SLICE:
                filled = 0
                await asyncio.sleep(0)

    # ------------------------------------------------------------------------------------ back

    async def _recover(self, opening: asyncio.Future[None] | None) -> None:
        """Knock until the primary answers, replay, close the circuit."""
        if opening is not None:
            try:
                await opening
            except StoreError as error:
                log.error("the store can never serve: %s", error)
                return
        knock = _FIRST_KNOCK
        while True:
            await asyncio.sleep(knock * random.uniform(0.5, 1.0))
            knock = min(knock * 2, _LAST_KNOCK)
            try:
                connections = self._primary.connections
                identity = await self._bounded(self._primary.check())
                await asyncio.sleep(random.uniform(0, _HERD_SECONDS))
                replayed = await self._replay_all(identity, connections)
            except StoreUnavailable as error:
                log.debug("the store is still away: %s", error)
                continue
            break
        log.info("the store is back, %d peers replayed into it", replayed)

    async def _replay_all(self, identity: str, connections: int) -> int:
        """Replay what the primary may lack; how many peers.

        What was known before goes first, with the circuit open. What was announced meanwhile follows with the
        circuit closed, so that a busy node gets there at all.
        """
        since = self.now() - self._window if identity == self._identity else 0
        entries = self._remembered_since(since)
        for key in self._journal.keys() & entries.keys():
            del entries[key]
        taken, self._journal = self._journal, {}
        entries.update(taken)
        replayed = await self._replay(entries)
        await self._remember_entries(taken)
        late, self._journal = self._journal, {}
        self._remember_slice(list(late.values()))
        self._identity, self._connections = identity, connections
        gone, self._stand_in = self._stand_in, None
        self._counters.store_up = 1
        self._counters.buffered = len(late)
        try:
            replayed += await self._replay(late)
            self._counters.buffered = len(self._journal)
        except StoreUnavailable as error:
            self._fall(str(error))
        if gone is not None:
            await gone.close()
        return replayed

    async def _remember_entries(self, entries: dict[_Key, Entry]) -> None:
        """Remember what was replayed as if it had been announced now: the store may be lost once more."""
        values = list(entries.values())
        for at in range(0, len(values), _FILL_SLICE):
            self._remember_slice(values[at : at + _FILL_SLICE])
            await asyncio.sleep(0)

    def _remember_slice(self, entries: Sequence[Entry]) -> None:
        """Each entry with its own time; what goes beyond the bound is forgotten by the next batch."""
        self._recent.extend((entry.stamp, [AnnounceOperation(*entry[:5], 0)]) for entry in entries)
        self._remembered += len(entries)

    def _remembered_since(self, since: int) -> dict[_Key, Entry]:
        """The newest remembered state of each peer, of batches after `since`."""
        entries: dict[_Key, Entry] = {}
        for stamp, batch in self._recent:
            if stamp < since:
                continue
            for operation in batch:
                if isinstance(operation, AnnounceOperation):
                    family, info_hash, peer, role, event, _ = operation
                    entries[family, info_hash, peer] = Entry(family, info_hash, peer, role, event, stamp, False)
        return entries

    async def _replay(self, entries: dict[_Key, Entry]) -> int:
        """Replay in chunks; how many peers.

        Raises:
            StoreUnavailable: cut off; what is left, and what failed, is back in the journal.
        """
        keys = list(entries)
        for at in range(0, len(keys), _CHUNK):
            chunk = keys[at : at + _CHUNK]
            try:
                await self._bounded(self._primary.replay([entries[key] for key in chunk]))
            except StoreUnavailable:
                for key in keys[at:]:
                    self._journal.setdefault(key, entries[key])
                raise
            self._counters.replayed += len(chunk)
            await asyncio.sleep(random.uniform(0, 2 * _PAUSE))
        return len(keys)
