"""Several workers on the same ports, each a node in a process of its own, under one supervising parent.

The parent binds a socket for each worker and listen address with SO_REUSEPORT and keeps them open: the kernel gives
each swarm to one of them, and what arrives for a worker that died waits for its successor. The parent serves no
datagram; it restarts workers, sums their counters for `/metrics`, and ends them. Workers end by themselves when the
parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from udptracker.access.base import AccessError
from udptracker.config import Settings
from udptracker.core.busiest import BusySwarm, busiest_of
from udptracker.core.counters import Counters
from udptracker.core.swarm import StoreError
from udptracker.observe.sums import merged, without_the_living
from udptracker.service import orders
from udptracker.service.channel import Channel, channel_pair
from udptracker.service.chores import Chores
from udptracker.service.lifecycle import CLOSE_SECONDS, WORKERS_SECONDS
from udptracker.service.mailboxes import Ends, Mailboxes
from udptracker.service.orders import Orders, for_worker
from udptracker.spawning import signals_held

log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 2.0
_SHORT_LIFE: Final = 1.0
"""A worker that lived for less is restarted only after this many seconds more."""
_LOOK_SECONDS: Final = 0.01
"""Between two looks at a process that is about to end."""


class _Asked(NamedTuple):
    """A question to a worker that is not answered yet, by its number, and when it was asked."""

    number: int
    answer: asyncio.Future[Any]
    at: float


class Worker:
    """One worker as the parent sees it: a process, and a channel on which it answers questions."""

    def __init__(
        self,
        index: int,
        settings: Settings,
        keys: Sequence[bytes],
        sockets: Sequence[socket.socket],
        ends: Ends | None,
    ) -> None:
        self.index = index
        self.name = f"worker {index}"
        numbers = tuple(sock.fileno() for sock in sockets)
        self._orders = Orders(index, for_worker(settings), tuple(keys), numbers, ends)
        self._last: dict[str, Any] | None = None
        self._of_the_dead: dict[str, Any] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[str, _Asked] = {}
        self.serving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it serves for the first time; a `StoreError` if it says then that it never can."""

    @property
    def is_started(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start the process, for the first time or again.

        Raises:
            OSError: the system has no room for it.
        """
        self.started = time.monotonic()
        ours, theirs = channel_pair()
        with theirs:
            try:
                # The search path of this process, however that came to it, and nothing before it.
                with signals_held():
                    self._process = subprocess.Popen(
                        [sys.executable, "-P", "-m", orders.WORKER, str(theirs.fileno())],
                        pass_fds=(theirs.fileno(), *self._inherited()),
                        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                    )
            except OSError:
                ours.close()
                raise
        loop = asyncio.get_running_loop()
        self._end: asyncio.Future[int] = loop.create_future()
        channel = self._channel = Channel(ours)
        channel.send(self._orders)
        loop.add_reader(channel.fileno(), self._read, channel)

    async def ended(self) -> int:
        """Wait for the end of the process; its exit status, negative for a signal."""
        return await asyncio.shield(self._end)

    async def snapshot(self) -> dict[str, Any] | None:
        """The worker's counters with those of its predecessors, and while it does not answer as they last were, so
        that no sum ever falls, with `answers` false; None if there was never an answer."""
        answer = await self.ask(orders.SNAPSHOT)
        if answer is not None:
            (self._last,) = answer.values()
        last, dead = self._last, self._of_the_dead
        known = last or dead
        if known is not None and last is not None and dead is not None:
            known = {**last, **merged([last, dead]), "store_up": last["store_up"]}
        return None if known is None else {**known, "answers": answer is not None}

    def bury(self) -> None:
        """Keep what the dead process last counted, without what it measured of itself."""
        if self._last is not None:
            kept = without_the_living(self._last)
            dead = self._of_the_dead
            self._of_the_dead = kept if dead is None else {**kept, **without_the_living(merged([kept, dead]))}
            self._last = None

    async def prepare(self, settings: Settings, keys: Sequence[bytes]) -> str | None:
        """Have it get ready for other settings and keys. Empty once it is, why it cannot use them, or None if it is
        dead or stands still."""
        return await self._say(orders.PREPARE, for_worker(settings), tuple(keys))

    async def use(self, settings: Settings, keys: Sequence[bytes]) -> str | None:
        """Give them to it and its successors; the same once it has taken them."""
        self._orders = self._orders._replace(settings=for_worker(settings), keys=tuple(keys))
        return await self._say(orders.USE, self._orders.settings, self._orders.keys)

    async def _say(self, question: str, *given: object) -> str | None:
        """Its answer, for which it has as long as it answers others meanwhile: a hook may take its time to open."""
        self._asked.pop(question, None)  # of earlier ones, which nobody waits for any more
        answer: asyncio.Future[str | None] | None = self._ask(question, given)
        while answer is not None and not answer.done():
            lives, _ = await asyncio.gather(self.ask(orders.SNAPSHOT), asyncio.wait({answer}, timeout=_ANSWER_SECONDS))
            if lives is None:
                break
        return answer.result() if answer is not None and answer.done() else None

    async def ask(self, question: str, *given: object) -> Any:
        """The worker's answer; None if it is dead or does not answer in time.

        It is asked nothing again that it has not answered yet: whoever asks meanwhile is given that answer, and waits
        for what is left of the time. So one that stands still does not hold up each page anew.
        """
        answer = self._ask(question, given)
        if answer is None:
            return None
        left = self._asked[question].at + _ANSWER_SECONDS - time.monotonic()
        await asyncio.wait({answer}, timeout=max(left, 0.0))
        return answer.result() if answer.done() else None

    async def asked(self, question: str, *given: object) -> Any:
        """The same, however long it takes."""
        answer = self._ask(question, given)
        return None if answer is None else await asyncio.shield(answer)

    def _ask(self, question: str, given: tuple[object, ...]) -> asyncio.Future[Any] | None:
        asked = self._asked.get(question)
        if asked is None:
            number = next(self._numbers)
            if self._channel is None or not self._channel.send((question, number, given)):
                return None
            answer = asyncio.get_running_loop().create_future()
            asked = self._asked[question] = _Asked(number, answer, time.monotonic())
        return asked.answer

    def tell(self, order: str, *given: object) -> None:
        """Nobody waits for its answer."""
        if self._channel is not None:
            self._channel.send((order, 0, given))

    def hang_up(self) -> None:
        """Tell it to stop."""
        if self._channel is not None:
            self._channel.hang_up()

    def kill(self) -> None:
        """End it at once, if it lives."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _inherited(self) -> tuple[int, ...]:
        ends = self._orders.ends
        return self._orders.sockets if ends is None else (*self._orders.sockets, ends.inbox, *ends.outboxes)

    def _look(self) -> None:
        """Whether it has ended, again and again: it has hung up, and so is about to."""
        assert self._process is not None
        status = self._process.poll()
        if status is None:
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        else:
            self._end.set_result(status)

    def _read(self, channel: Channel) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                word, number, answer = channel.receive()
            except EOFError:
                asyncio.get_running_loop().remove_reader(channel.fileno())
                channel.close()
                if self._channel is channel:
                    self._channel = None
                for asked in self._asked.values():
                    asked.answer.set_result(None)
                self._asked.clear()
                self._look()
                return
            if word == orders.SERVING:
                if not self.serving.done():
                    self.serving.set_result(None)
            elif word == orders.REFUSED:
                if self.serving.done():
                    log.error("%s: %s", self.name, answer)
                else:
                    self.serving.set_exception(StoreError(answer))
            elif word in self._asked and self._asked[word].number == number:
                self._asked.pop(word).answer.set_result(answer)


class Supervisor:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        keys: Sequence[bytes],
        sockets: Sequence[Sequence[socket.socket]],
        counters: Counters,
    ) -> None:
        self._sockets = sockets
        self._status_swarms = settings.status_swarms
        self._keeps = bool(settings.storage.snapshot()[0])
        boxes = self._mailboxes = None if settings.storage.config.is_shared else Mailboxes(len(sockets))
        self._workers = [
            Worker(index, settings, keys, mine, None if boxes is None else boxes.ends(index))
            for index, mine in enumerate(sockets)
        ]
        self._chores = Chores(counters)

    async def start(self) -> None:
        """Start the workers, and return once each of them serves.

        Raises:
            OSError: the system has no room for them.
            StoreError: the store can never serve.
        """
        for each in self._workers:
            each.start()
            self._chores.start(each.name, lambda: 0.0, partial(self._keep, each), at_once=True)
        await asyncio.gather(*(each.serving for each in self._workers))

    async def stop(self) -> None:
        """Tell the workers, and kill those that do not end within `WORKERS_SECONDS`."""
        await self._chores.stop(CLOSE_SECONDS)
        ends = {asyncio.ensure_future(each.ended()): each for each in self._workers if each.is_started}
        for each in ends.values():
            each.hang_up()
        if ends:
            _, late = await asyncio.wait(ends, timeout=WORKERS_SECONDS)
            for end in late:
                log.warning("%s did not end in time and is killed", ends[end].name)
            self.kill()
            await asyncio.wait(ends)
        for mine in self._sockets:
            for sock in mine:
                sock.close()
        if self._mailboxes is not None:
            self._mailboxes.close()

    def kill(self) -> None:
        """End every worker at once."""
        for each in self._workers:
            each.kill()

    async def use(self, settings: Settings, keys: Sequence[bytes]) -> bool:
        """Give every worker other settings and keys; whether all have taken them.

        Raises:
            AccessError: one of them cannot, and none of them has.
        """
        answers = await asyncio.gather(*(each.prepare(settings, keys) for each in self._workers))
        why_not = next(filter(None, answers), None)
        if why_not is not None:
            for each in self._workers:
                each.tell(orders.GIVE_UP)
            raise AccessError(why_not)
        taken = await asyncio.gather(*(each.use(settings, keys) for each in self._workers))
        self._status_swarms = settings.status_swarms
        self._keeps = bool(settings.storage.snapshot()[0])
        return all(why_not == "" for why_not in taken)

    async def save(self, path: str) -> list[str]:
        """See `Service`."""
        answers = await asyncio.gather(*(each.asked(orders.SAVE, path) for each in self._workers))
        why_not = []
        for each, answer in zip(self._workers, answers, strict=True):
            if answer is None:
                why_not.append(f"{each.name} does not answer")
            else:
                why_not += [f"{each.name}: {words}" for words in answer]
        return why_not

    def save_at_stop(self, path: str) -> None:
        """See `Service`."""
        for each in self._workers:
            each.tell(orders.SAVE_AT_STOP, path)

    async def snapshots(self) -> dict[str, dict[str, Any]]:
        """The counters of every worker that has ever answered, by its index."""
        taken = await asyncio.gather(*(each.snapshot() for each in self._workers))
        return {str(each.index): found for each, found in zip(self._workers, taken, strict=True) if found is not None}

    async def turns(self) -> bool:
        """Whether every worker can say whether it is ready."""
        return None not in await asyncio.gather(*(each.asked(orders.READY) for each in self._workers))

    async def alive(self) -> bool:
        """Whether every worker answers."""
        taken = await asyncio.gather(*(each.ask(orders.SNAPSHOT) for each in self._workers))
        return None not in taken

    async def ready(self) -> tuple[bool, str]:
        """Whether every worker is ready, and the word of the first that is not."""
        if not all(each.serving.done() for each in self._workers):
            return False, "not every worker serves"
        answers = await asyncio.gather(*(each.ask(orders.READY) for each in self._workers))
        for each, answer in zip(self._workers, answers, strict=True):
            if answer is None:
                return False, f"{each.name} does not answer"
            if not answer[0]:
                return False, f"{each.name}: {answer[1]}"
        return True, "ready"

    async def busiest(self) -> list[BusySwarm]:
        """The busiest of those of all workers."""
        answers = await asyncio.gather(*(each.ask(orders.BUSIEST) for each in self._workers))
        return busiest_of([answer for answer in answers if answer is not None], self._status_swarms)

    async def _keep(self, each: Worker) -> None:
        """Wait for the end of a worker, and start it again."""
        status = await each.ended()
        each.bury()
        if each.serving.done():
            each.serving.result()  # its refusal ends the start of them all
        log.warning("%s died (%s), starting it again%s", each.name, _ending(status), self._lost())
        while True:
            if time.monotonic() - each.started < _SHORT_LIFE:
                await asyncio.sleep(_SHORT_LIFE)
            try:
                each.start()
            except OSError as error:
                log.error("%s cannot be started, and is tried again: %s", each.name, error)
            else:
                return

    def _lost(self) -> str:
        if self._mailboxes is None:
            return ""
        share = f"its share of the swarms, one of {len(self._workers)}"
        return f"; {share}, is read from the last snapshot" if self._keeps else f"; {share}, is empty now"


def _ending(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
