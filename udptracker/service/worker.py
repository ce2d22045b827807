"""A worker: a node in a process of its own, as `python -m udptracker.service.worker FD`.

FD is its end of a channel to the parent, whose first message says what to serve. The worker says `SERVING` or why it
never can, answers questions, and stops when it is told to by a signal or when the parent hangs up or is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from udptracker.access.base import AccessError
from udptracker.core.swarm import StoreError
from udptracker.observe import logs
from udptracker.service import lifecycle
from udptracker.service.channel import Channel
from udptracker.service.node import Node
from udptracker.service.orders import (
    BUSIEST,
    GIVE_UP,
    PREPARE,
    READY,
    REFUSED,
    SAVE,
    SAVE_AT_STOP,
    SERVING,
    SNAPSHOT,
    USE,
    Orders,
)
from udptracker.spawning import take_signals

if TYPE_CHECKING:
    from udptracker.config import Settings

log = logging.getLogger(__name__)


def main(descriptor: int) -> int:
    """The whole life of a worker process; its exit status."""
    lifecycle.take_news()
    os.setpgrp()  # from now on the terminal's Ctrl-C is for the parent alone
    channel = Channel(socket.socket(fileno=descriptor))
    select.select([channel], [], [])
    try:
        orders: Orders = channel.receive()
    except EOFError:  # the parent is gone
        return 0
    given = orders.settings
    logs.configure(given.log_level, f"worker {orders.number}: ", given.log_format)
    status = lifecycle.run(_work(orders, channel))
    lifecycle.end_at_the_latest()
    return status


async def _work(orders: Orders, channel: Channel) -> int:
    sockets = [socket.socket(fileno=number) for number in orders.sockets]
    node = Node(orders.settings, orders.keys, sockets, number=orders.number, ends=orders.ends)
    told = asyncio.Event()
    lifecycle.heed(told)
    take_signals()
    _Answers(node, channel, told)

    def serving() -> None:
        channel.send((SERVING, 0, None))

    try:
        await lifecycle.live(node, told, serving)
    except (StoreError, AccessError) as error:
        channel.send((REFUSED, 0, str(error)))
        return 1
    return 0


class _Answers:
    """Answers what the parent asks, and tells when it is gone."""

    def __init__(self, node: Node, channel: Channel, told: asyncio.Event) -> None:
        self._channel = channel
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._questions: dict[str, Callable[..., Awaitable[Any]]] = {
            SNAPSHOT: node.snapshots,
            READY: node.ready,
            PREPARE: partial(_prepare, node),
            GIVE_UP: node.give_up,
            USE: partial(_use, node),
            BUSIEST: node.busiest,
            SAVE: node.save,
            SAVE_AT_STOP: partial(_save_at_stop, node),
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(channel.fileno(), self._read)

    def _read(self) -> None:
        try:
            question, number, given = self._channel.receive()
        except BlockingIOError:
            return
        except EOFError:
            self._loop.remove_reader(self._channel.fileno())
            self._told.set()
            return
        task = self._loop.create_task(self._answer(question, number, given))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, question: str, number: int, given: tuple[Any, ...]) -> None:
        answer = None
        try:
            answer = await self._questions[question](*given)
        except Exception:  # the parent asks nothing a second time that is not answered
            log.exception("the parent's question %s could not be answered", question)
        self._channel.send((question, number, answer))


async def _save_at_stop(node: Node, path: str) -> None:
    node.save_at_stop(path)


async def _prepare(node: Node, settings: Settings, keys: tuple[bytes, ...]) -> str:
    """Why they could not be used; empty once they can."""
    try:
        await node.prepare(settings, keys)
    except AccessError as error:
        return str(error)
    return ""


async def _use(node: Node, settings: Settings, keys: tuple[bytes, ...]) -> str:
    """Why they cannot be used; empty once they are."""
    try:
        await node.use(settings, keys)
    except AccessError as error:  # it was not there, or stood still, when others were asked whether they can
        log.error("the new configuration is not taken: %s", error)
        return str(error)
    logs.use(settings.log_level, settings.log_format)
    return ""


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
