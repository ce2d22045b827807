"""A store that outlives its store: a stand-in in this process for the time the real one is away.

While the primary answers, every batch goes to it, and its announces are remembered. When it does not answer, refuses,
takes longer than `timeout`, or was connected to anew (it may have been another process for a moment in which nobody
asked), the circuit opens. The stand-in, a memory store, is filled with what was remembered and answers at once; every
announce is also kept in a journal, newest state per peer. A task knocks at the primary until it answers, replays into
it

- what was remembered: of the `replay_window` before it went if it is the same server process with the same data as
  before, since a reply may have got lost; all of it if it is not, since a failover loses what had not been replicated
  and a restart without persistence loses everything,
- and the journal,

and closes the circuit. A replayed entry carries the time of its announce and never undoes what was written later,
by whichever node; so nodes may replay over each other. They start at random moments and pause between chunks.

Commands that were on their way when the primary went may run after other nodes have written newer news, so those are
told to write once more what they have heard since. And while the primary answers it is looked at once a second,
whether it was emptied; once in `gc_interval`, whether single swarms are gone, or were and only who came since is
there. What is missing there and remembered here is written again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from udptracker.core.counters import Counters
from udptracker.core.seldom import Seldom
from udptracker.core.swarm import AnnounceOperation, Operation, Result, StoreError, StoreUnavailable, Totals
from udptracker.storage.base import ImmediateStore, PeerStore, ReapReport, Shunned, nothing_shunned
from udptracker.storage.replayable import Identity, ReplayableStore
from udptracker.storage.standby.journal import News, Recent
from udptracker.storage.standby.replayer import ROUND_TRIPS, Replayer, within

log = logging.getLogger(__name__)

_SECOND: Final = 1_000_000_000
_FILL_SECONDS: Final = 2.0
"""The most that answers wait for the stand-in to know what was remembered."""
_FIRST_KNOCK: Final = 0.1
_LAST_KNOCK: Final = 2.0
_HERD_SECONDS: Final = 0.3
"""Nodes that lost one store begin to replay at random moments within this time."""
_FIRST_WAIT: Final = 1.0
_LOOK_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 60.0
"""In which a store that comes and goes for one reason is reported once."""


class StandbyStore(PeerStore):
    """See the module.

    Args:
        primary: the real store.
        make_stand_in: makes an empty store in this process, with the clock it is given.
        timeout: seconds after which a batch is answered from the stand-in instead.
        max_peers: the most announces remembered, and the most peers in the journal; an announce of one peer more
            fails while the primary is away. Each takes at most `journal.ENTRY_BYTES`.
        replay_window: seconds.
        peer_lifetime: seconds; what was heard longer ago is neither kept nor given out nor replayed.
        gc_interval: seconds.
    """

    def __init__(
        self,
        primary: ReplayableStore,
        make_stand_in: Callable[[Callable[[], int]], ImmediateStore],
        counters: Counters,
        *,
        timeout: float,
        max_peers: int,
        replay_window: float,
        peer_lifetime: float,
        gc_interval: float,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._primary = primary
        self._make_stand_in = make_stand_in
        self._counters = counters
        self._timeout = timeout
        self._max_peers = max_peers
        self._window = int(replay_window * _SECOND)
        self._interval = int(gc_interval * _SECOND)
        self._steady = steady
        self._recent = Recent(max_peers)
        self._journal = News(max_peers, counted=False)
        self._replayer = Replayer(
            primary, self._recent, counters, timeout=timeout, lifetime=int(peer_lifetime * _SECOND), steady=steady
        )
        self._shunned: Shunned = nothing_shunned
        self._stand_in: ImmediateStore | None = None
        self._moment = 0
        """The stand-in's clock: the steady one, or what it was when an announce was heard that is put in later."""
        self._identity = Identity(frozenset(), ())
        self._connections = 0
        self._fell = 0
        self._unanswered = False
        """Whether commands were on their way when the circuit opened."""
        self._backlog: News | None = None
        self._backlog_of = self._identity
        self._reason = ""
        self._seldom = Seldom(_QUIET_SECONDS)
        self._said = False
        """Whether it was said that the store is away: then its return is, too."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._filling: asyncio.Task[None] | None = None

    def use(self, *, timeout: float, replay_window: float, peer_lifetime: float, gc_interval: float) -> None:
        """Go on with these from now on."""
        self._timeout = timeout
        self._window = int(replay_window * _SECOND)
        self._interval = int(gc_interval * _SECOND)
        self._replayer.use(timeout=timeout, lifetime=int(peer_lifetime * _SECOND))

    def now(self) -> int:
        return self._primary.now()

    async def open(self) -> None:
        """Serve at once: from the primary if it answers within a second, else from the stand-in until it does.

        Raises:
            StoreError: the primary answers and can never serve.
        """
        try:
            await within(_FIRST_WAIT, self._primary.open())
            self._connections = self._primary.connections
            self._identity = await within(ROUND_TRIPS * self._timeout, self._primary.check())
        except StoreUnavailable as error:
            self._fall(str(error))
        self._begin(self._watch())

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._journal:
            log.warning("%d peers heard while the store was away are not in it", len(self._journal))
        await self._primary.close()

    async def execute(self, batch: Sequence[Operation]) -> list[Result | StoreError]:
        heard = self._steady()
        if self._primary.connections != self._connections:
            self._fall("it was connected to anew, and may have lost what it had")
        if self._stand_in is None:
            self._recent.remember(batch, heard)
            try:
                return await within(self._timeout, self._primary.execute(batch))
            except StoreUnavailable as error:
                self._unanswered = True
                self._fall(str(error))
        if self._filling is not None:
            # Who is answered from a stand-in that is half empty is told of nobody, and asks again in half an hour.
            await asyncio.wait({self._filling}, timeout=_FILL_SECONDS)
            if self._stand_in is None:
                return await self.execute(batch)
        return self._answer(batch, heard)

    def shun(self, shunned: Shunned) -> None:
        self._shunned = shunned
        self._replayer.shunned = shunned
        self._primary.shun(shunned)

    async def reap(self, cutoff: int) -> ReapReport:
        stand_in = self._stand_in
        if stand_in is None:
            return await self._primary.reap(cutoff)
        return await self._age(stand_in, self._steady() - (self.now() - cutoff))

    async def totals(self) -> dict[int, Totals]:
        if self._stand_in is not None:
            return await self._stand_in.totals()
        return await within(self._timeout, self._primary.totals())

    async def agree_on_keys(self, proposed: bytes) -> list[bytes]:
        if self._stand_in is not None:
            raise StoreUnavailable(self._reason)
        return await within(self._timeout, self._primary.agree_on_keys(proposed))

    async def ping(self) -> None:
        if self._stand_in is not None:
            raise StoreUnavailable(f"serving from the stand-in of this node: {self._reason}")
        await within(self._timeout, self._primary.ping())

    # ------------------------------------------------------------------------------------ away

    def _answer(self, batch: Sequence[Operation], heard: int) -> list[Result | StoreError]:
        """Answers of the stand-in, each announce in the journal first."""
        stand_in = self._stand_in
        assert stand_in is not None
        results: list[Result | StoreError] = []
        refused = 0
        self._moment = self._steady()
        stand_in.begin()
        for operation in batch:
            if isinstance(operation, AnnounceOperation) and not self._journal.hear(operation, heard):
                self._counters.replay_dropped += 1
                refused += 1
                results.append(StoreUnavailable("the store is away and the stand-in is full"))
                continue
            results.append(stand_in.apply(operation))
        self._counters.standby_answers += len(results) - refused
        self._counters.buffered = len(self._journal)
        return results

    def _fall(self, reason: str) -> None:
        """Open the circuit, once."""
        if self._stand_in is not None:
            return
        self._said = self._say("the store is away (%s): this node answers from what it has heard itself", reason)
        self._counters.store_up = 0
        self._fell = self._steady()
        self._moment = self._replayer.oldest() - _SECOND  # before which the stand-in cannot count
        self._stand_in = self._make_stand_in(lambda: self._moment)
        self._stand_in.shun(self._shunned)
        self._filling = self._begin(self._fill(self._stand_in))
        self._filling.add_done_callback(self._filled)
        self._begin(self._recover())

    def _filled(self, filling: asyncio.Task[None]) -> None:
        if self._filling is filling:
            self._filling = None

    async def _fill(self, stand_in: ImmediateStore) -> None:
        """Put what was remembered into the stand-in, unless the journal knows better by then."""
        for part in self._recent.since(self._replayer.oldest()):
            for self._moment, announces in part:
                stand_in.begin()
                for announce in announces:
                    known = self._journal.find(announce.family, announce.info_hash, announce.peer)
                    if known is None and not self._shunned(announce.info_hash):
                        stand_in.apply(announce.wanting(0))
            await asyncio.sleep(0)
            if self._stand_in is not stand_in:
                return

    async def _age(self, stand_in: ImmediateStore, cutoff: int) -> ReapReport:
        """Forget who was last heard of at `cutoff` (steady clock) or before."""
        for _ in self._journal.forget(cutoff):
            await asyncio.sleep(0)
        self._counters.buffered = len(self._journal)
        return await stand_in.reap(cutoff)

    # ------------------------------------------------------------------------------------ back

    async def _recover(self) -> None:
        """Knock until the primary answers, replay, close the circuit. Never gives up, and says what it meets."""
        knock = _FIRST_KNOCK
        while True:
            await asyncio.sleep(knock * random.uniform(0.5, 1.0))
            knock = min(knock * 2, _LAST_KNOCK)
            try:
                replayed = await self._return()
            except StoreError as error:
                self._said = self._say("the store is still away: %s", str(error)) or self._said
            except Exception as error:  # whatever it was, a store that is never tried again would be worse
                if self._say("the store is still away, in an unforeseen way: %s", f"{type(error).__name__}: {error}"):
                    log.exception("as was said")
                    self._said = True
            else:
                if self._stand_in is None:  # otherwise it went away again, and another recovery has begun
                    level = logging.INFO if self._said else logging.DEBUG
                    log.log(level, "the store is back, %d peers replayed into it", replayed)
                return

    def _say(self, words: str, reason: str) -> bool:
        """Say why the store is away, unless it was said not long ago; whether it was said now."""
        self._reason = reason
        self._counters.store_errors[StoreUnavailable.__name__] += 1
        said = self._seldom.allows(words % reason, self._steady() / _SECOND)
        log.log(logging.WARNING if said else logging.DEBUG, words, reason)
        return said

    async def _return(self) -> int:
        """Replay what the primary may lack, and serve from it; how many peers.

        What was known before goes first, with the circuit open. What was announced meanwhile follows with the
        circuit closed, so that a busy node gets there at all.
        """
        connections = self._primary.connections
        identity = await within(ROUND_TRIPS * self._timeout, self._primary.check())
        if self._unanswered and identity.servers & self._identity.servers:
            sent = self._fell - int(self._timeout * _SECOND) - _SECOND
            await within(self._timeout, self._primary.raise_doubt(self._stored(sent)))
        self._unanswered = False
        await asyncio.sleep(random.uniform(0, _HERD_SECONDS))
        if self._backlog is None or identity != self._backlog_of:
            since = self._fell - self._window if identity == self._identity else self._replayer.oldest()
            self._backlog, self._backlog_of = await self._replayer.collect(since), identity
        replayed = await self._replayer.write(self._backlog, newer=self._journal)
        replayed += await self._replayer.write(self._journal, remember=True)
        self._identity, self._connections = identity, connections
        gone, self._stand_in, self._backlog = self._stand_in, None, None
        self._counters.store_up = 1
        try:
            replayed += await self._replayer.write(self._journal, remember=True)
        except StoreUnavailable as error:
            self._fall(str(error))
        self._counters.buffered = len(self._journal)
        if gone is not None:
            await gone.close()
        return replayed

    # ------------------------------------------------------------------------------------ all the time

    async def _watch(self) -> None:
        """Forget what is too old, and look after what the primary may have lost."""
        doubt: int | None = None
        mended, said = self._steady(), ""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for _ in self._recent.forget(self._replayer.oldest()):
                await asyncio.sleep(0)
            due = self._steady() - mended >= self._interval
            looked = mended
            if due:
                mended = self._steady()
            try:
                if self._stand_in is not None:
                    if due:
                        await self._age(self._stand_in, self._replayer.oldest())
                    continue
                found = await self._look()
                doubt = found if doubt is None else min(doubt, found or doubt)
                if self._stand_in is None and doubt is not None:
                    await self._write_again(doubt)
                    doubt = None
                if self._stand_in is None and due:
                    await self._mend(looked)
            except StoreUnavailable as error:
                self._fall(str(error))
            except Exception as error:  # whatever it was, nothing else would notice a loss
                if str(error) != said:
                    log.exception("looking at the store failed in an unforeseen way")
                said = str(error)

    async def _look(self) -> int | None:
        """Open the circuit if the primary has lost what it had; since when other nodes doubt what is there, if they do
        (steady clock)."""
        if self._primary.connections != self._connections:
            self._fall("it was connected to anew, and may have lost what it had")
            return None
        look = await within(self._timeout, self._primary.look())
        if look.emptied:
            self._fall("it has been emptied")
        return None if look.doubt is None else look.doubt - self._stored(0)

    async def _write_again(self, since: int) -> None:
        """What this node wrote since then may have been undone by commands of a node that was cut off."""
        written = await self._replayer.write(await self._replayer.collect(since))
        log.info("another node was cut off: %d peers heard since are in the store", written)

    async def _mend(self, looked: int) -> None:
        written = await self._replayer.write_missing(looked)
        if written:
            log.warning("swarms were gone from the store: %d peers are written to it again", written)

    def _stored(self, steady: int) -> int:
        """A time of the steady clock on the store's."""
        return steady + self._primary.now() - self._steady()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
