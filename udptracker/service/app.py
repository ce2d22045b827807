"""Where the parts are put together: sockets, keys, one node or several, metrics, and the end of it all."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from udptracker.config import Settings
from udptracker.core.swarm import StoreError
from udptracker.observe.kernel import socket_drops
from udptracker.service import lifecycle
from udptracker.service.listening import Bound, bind_all
from udptracker.service.site import start_site

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE_SECONDS: Final = 3.0
"""How long a page of the metrics server waits for the event loop: for workers that do not answer it, among others."""


def serve(settings: Settings) -> int:
    """Run the tracker until it is told to stop; the exit status."""
    lifecycle.take_news()
    keys = [key.get_secret_value().encode() for key in settings.udp.private_key]
    if not keys:
        keys = [secrets.token_bytes(32)]
        log.warning(
            "no udp.private_key: made a random one for this process only, "
            "so its connection ids are unknown to other nodes and after a restart"
        )
    try:
        bound = bind_all(settings.udp.addresses(), settings.worker_count(), settings.udp.receive_buffer)
        lifecycle.run(_serve(settings, keys, bound))
    except (OSError, StoreError) as error:
        log.error("%s", error)
        return 1
    log.info("stopped")
    return 0


async def _serve(settings: Settings, keys: list[bytes], bound: Bound) -> None:
    """A node in this process or in several others, metrics in a thread of this one."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    service: lifecycle.Service
    # Neither needs what the other one loads.
    if len(bound.sockets) == 1:
        from udptracker.service.node import Node

        service = Node(settings, keys, bound.sockets[0])
        lifecycle.heed(told)
    else:
        from udptracker.service.supervisor import Supervisor

        service = supervisor = Supervisor(settings, keys, bound.sockets)
        lifecycle.heed(told, supervisor.kill)
    site = start_site(
        settings,
        snapshots=lambda: _on_loop(loop, service.snapshots(), {}),
        kernel_drops=lambda: sum(map(socket_drops, itertools.chain.from_iterable(bound.sockets))),
        alive=lambda: _on_loop(loop, service.alive(), False),
        ready=lambda: _on_loop(loop, service.ready(), (False, "the event loop does not answer")),
        busiest=lambda: _on_loop(loop, service.busiest(), []),
    )
    try:
        await lifecycle.live(service, told, lambda: report(settings, bound))
    finally:
        if site is not None:
            site.stop()


def report(settings: Settings, bound: Bound) -> None:
    """One readable line each on what is listened on and what is stored in."""
    for address in bound.addresses:
        log.info("listening on udp %s%s", address, ", IPv4 as well" if address.both_families else "")
    if len(bound.sockets) > 1:
        log.info("%d workers share the ports", len(bound.sockets))
    log.info("storing peers in %s", settings.storage.describe())


def _on_loop(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], otherwise: T) -> T:
    """From another thread: what a coroutine on the loop returns, or `otherwise` if it takes `_PAGE_SECONDS`."""
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(timeout=_PAGE_SECONDS)
    except TimeoutError:
        future.cancel()
        return otherwise
