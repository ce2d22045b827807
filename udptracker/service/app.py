"""Where the parts are put together: sockets, keys, one node or several, metrics, and the end of it all."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from udptracker.access.base import AccessError
from udptracker.config import Loaded, RedisSettings, Settings
from udptracker.core.counters import Counters
from udptracker.core.swarm import StoreError
from udptracker.observe.kernel import socket_drops
from udptracker.service import lifecycle
from udptracker.service.chores import Chores
from udptracker.service.listening import Bound, bind_all, for_metrics, take_over
from udptracker.service.notify import Notifier, inherited
from udptracker.service.reload import OneAfterAnother, Reloader
from udptracker.service.saver import Saver
from udptracker.service.site import start_site
from udptracker.service.status_line import StatusLine

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE_SECONDS: Final = 3.0
"""How long a page of the metrics server waits for the event loop: for workers that do not answer it, among others."""

_STATUS_SECONDS: Final = 10.0
"""Between two lines for `systemctl status`."""
_BEATS: Final = 3
"""Beats within the time after which the watchdog bites."""


def serve(settings: Settings, read: Callable[[], Loaded]) -> int:
    """Run the tracker until it is told to stop; the exit status.

    Args:
        read: the configuration as it is by then, for a reload.

    Raises:
        ConfigError: it says what cannot be done on this machine.
    """
    saver = Saver(settings, settings.worker_count())
    own = [secrets.token_bytes(32)]
    if not settings.udp.private_key:
        if isinstance(settings.storage.config, RedisSettings):
            log.info("no udp.private_key: nodes without one agree on one through Redis, and who may read that sees it")
        else:
            log.warning(
                "no udp.private_key: made a random one for this process only, "
                "so its connection ids are unknown to other nodes and after a restart"
            )
    try:
        workers = settings.worker_count()
        listeners, handed = for_metrics(inherited(os.environ))
        must_steer = workers > 1 and not settings.storage.config.is_shared
        if handed:
            bound = take_over(handed, workers, must_steer=must_steer)
        else:
            bound = bind_all(settings.udp.addresses(), workers, settings.udp.receive_buffer, must_steer=must_steer)
        lifecycle.run(_serve(settings, read, own, bound, listeners, Notifier(os.environ), saver))
    except (OSError, StoreError, AccessError) as error:
        log.error("%s", error)
        return 1
    log.info("stopped")
    return 0


async def _serve(
    settings: Settings,
    read: Callable[[], Loaded],
    own: list[bytes],
    bound: Bound,
    listeners: Sequence[socket.socket],
    notifier: Notifier,
    saver: Saver,
) -> None:
    """A node in this process or in several others, metrics in a thread of this one.

    Args:
        own: the key of connection ids for as long as none is configured.
        listeners: for the metrics, if they were handed over.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    service: lifecycle.Service
    kill: Callable[[], None] | None
    keys = _keys(settings) or own
    counters = Counters()  # of what is done here besides what the node or the workers do
    # Neither needs what the other one loads.
    if len(bound.sockets) == 1:
        from udptracker.service.node import Node

        service, kill = Node(settings, keys, bound.sockets[0]), None
    else:
        from udptracker.service.supervisor import Supervisor

        service = supervisor = Supervisor(settings, keys, bound.sockets, counters)
        kill = supervisor.kill

    def reread() -> Loaded:
        loaded = read()
        saver.prepare(loaded.settings)
        return loaded

    async def use(settings: Settings) -> bool:
        taken = await service.use(settings, _keys(settings) or own)
        saver.use(settings)
        chores.hurry()
        return taken

    async def status() -> str:
        return f"{line.of(await service.snapshots())}; {(await service.ready())[1]}"

    async def report_status() -> None:
        log.info("status: %s", await status())

    async def tell_status() -> None:
        notifier.status(await status())

    async def beat() -> None:
        if await service.turns():
            notifier.beat()

    def serving() -> None:
        report(settings, bound)
        chores.start("snapshot", saver.interval, partial(saver.save, service.save))
        notifier.ready("serving")

    def stopping() -> None:
        notifier.stopping()
        saver.stopping(service.save_at_stop)

    line, chores = StatusLine(), Chores(counters)
    reloader, reporter = Reloader(settings, reread, use, notifier), OneAfterAnother(report_status)
    lifecycle.heed(told, reload=reloader.ask, report=reporter.ask, before_the_end=kill)
    if notifier.is_heard:
        chores.start("status", lambda: _STATUS_SECONDS, tell_status)
    if notifier.watchdog_seconds is not None:
        between = notifier.watchdog_seconds / _BEATS
        chores.start("watchdog", lambda: between, beat, at_once=True)
    site = start_site(
        lambda: reloader.settings,
        snapshots=lambda: _on_loop(loop, service.snapshots(), {}),
        kernel_drops=lambda: sum(map(socket_drops, set(itertools.chain.from_iterable(bound.sockets)))),
        reloads=lambda: reloader.counts,
        saved=lambda: saver.figures,
        chores=lambda: dict(counters.chore_failures),
        alive=lambda: _on_loop(loop, service.alive(), False),
        ready=lambda: _on_loop(loop, service.ready(), (False, "the event loop does not answer")),
        busiest=lambda: _on_loop(loop, service.busiest(), []),
        listeners=listeners,
    )
    try:
        await lifecycle.live(service, told, serving, stopping)
    finally:
        left = lifecycle.SAVE_SECONDS + lifecycle.PUBLISH_SECONDS - saver.stopped_for()
        most = max(left, lifecycle.PUBLISH_SECONDS)
        await lifecycle.within(most, saver.finish(), "the snapshot was not put in place")
        await chores.stop(lifecycle.CLOSE_SECONDS)
        if site is not None:
            site.stop()


def _keys(settings: Settings) -> list[bytes]:
    return [key.get_secret_value().encode() for key in settings.udp.private_key]


def report(settings: Settings, bound: Bound) -> None:
    """One readable line each on what is listened on and what is stored in."""
    for address in bound.addresses:
        log.info("listening on udp %s%s", address, ", IPv4 as well" if address.both_families else "")
    if len(bound.sockets) > 1:
        log.info("%d workers share the ports", len(bound.sockets))
    log.info("the store is %s", settings.storage.describe())


def _on_loop(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], otherwise: T) -> T:
    """From another thread: what a coroutine on the loop returns, or `otherwise` if it takes `_PAGE_SECONDS`."""
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(timeout=_PAGE_SECONDS)
    except TimeoutError:
        future.cancel()
        return otherwise
