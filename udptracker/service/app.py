"""Where the parts are put together: sockets, keys, one node or several, metrics, and the end of it all."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from udptracker.config import Settings
from udptracker.core.swarm import StoreError
from udptracker.net.endpoint import bind
from udptracker.observe.http import HttpServer
from udptracker.observe.metrics import exposition
from udptracker.observe.pages import pages
from udptracker.service.node import Node, until_told_to_stop
from udptracker.service.supervisor import Supervisor

log = logging.getLogger(__name__)

T = TypeVar("T")


def serve(settings: Settings) -> int:
    """Run the tracker until it is told to stop; the exit status."""
    keys = [key.get_secret_value().encode() for key in settings.udp.private_key]
    if not keys:
        keys = [secrets.token_bytes(32)]
        log.warning(
            "no udp.private_key: made a random one for this process only, "
            "so its connection ids are unknown to other nodes and after a restart"
        )
    workers = settings.worker_count()
    try:
        sockets = bind_all(settings, workers)
        if workers == 1:
            return uvloop.run(_serve_here(settings, keys, sockets[0]))
        return _serve_with_workers(settings, keys, sockets)
    except (OSError, StoreError) as error:
        log.error("%s", error)
        return 1


def bind_all(settings: Settings, workers: int) -> list[list[socket.socket]]:
    """For each worker a socket on each listen address.

    Raises:
        OSError: an address cannot be bound; the message names it.
    """
    bound: list[list[socket.socket]] = [[] for _ in range(workers)]
    for host, port in settings.udp.endpoints():
        try:
            if workers > 1:
                # SO_REUSEPORT alone would let a second tracker in, to take half of the first one's clients.
                bind(host, port, share_port=False, receive_buffer=settings.udp.receive_buffer).close()
            for mine in bound:
                mine.append(bind(host, port, share_port=workers > 1, receive_buffer=settings.udp.receive_buffer))
        except OSError as error:
            for sock in itertools.chain.from_iterable(bound):
                sock.close()
            raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return bound


def _serve_with_workers(settings: Settings, keys: list[bytes], sockets: list[list[socket.socket]]) -> int:
    """A node in each of several processes, the metrics of all in this one."""
    supervisor = Supervisor(settings, keys, sockets)
    metrics = None
    try:
        supervisor.start()
        metrics = metrics_server(
            settings, snapshots=supervisor.snapshots, alive=supervisor.alive, ready=supervisor.ready
        )
        report(settings)
        log.info("%d workers share the ports", len(sockets))
        return supervisor.run()
    finally:
        supervisor.end()
        if metrics is not None:
            metrics.stop()
        log.info("stopped")


async def _serve_here(settings: Settings, keys: list[bytes], sockets: list[socket.socket]) -> int:
    """One node in this process, its metrics in a thread beside the event loop."""
    loop = asyncio.get_running_loop()
    node = Node(settings, keys, sockets)
    metrics = metrics_server(
        settings,
        snapshots=lambda: {"0": node.snapshot()},
        alive=lambda: _on_loop(loop, _beat(), False),
        ready=lambda: _on_loop(loop, node.ready(), (False, "the event loop does not answer")),
    )
    told = asyncio.create_task(until_told_to_stop())
    started = asyncio.create_task(node.start())
    try:
        # A store that is away may keep `start` waiting for long: the signal must still be heard.
        await asyncio.wait({told, started}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            report(settings)
        await told
    finally:
        started.cancel()
        told.cancel()
        await node.stop()
        if metrics is not None:
            await asyncio.to_thread(metrics.stop)
    log.info("stopped")
    return 0


def report(settings: Settings) -> None:
    """One readable line each on what is listened on and what is stored in."""
    for host, port in settings.udp.endpoints():
        log.info("listening on udp %s", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    log.info("storing peers in %s", settings.storage.describe())


def metrics_server(
    settings: Settings,
    *,
    snapshots: Callable[[], dict[str, dict[str, Any]]],
    alive: Callable[[], bool],
    ready: Callable[[], tuple[bool, str]],
) -> HttpServer | None:
    """The started HTTP server of metrics and health, or None where it is off.

    Raises:
        OSError: its address cannot be bound; the message names it.
    """
    address = settings.metrics_endpoint()
    if address is None:
        return None
    host, port = address

    def metrics(accept: str) -> tuple[bytes, str]:
        taken = snapshots()
        return exposition(taken, sum(snapshot["kernel_drops"] for snapshot in taken.values()), accept)

    try:
        server = HttpServer(host, port, pages=pages(metrics=metrics, alive=alive, ready=ready))
    except OSError as error:
        raise OSError(f"cannot serve metrics on {host or 'all addresses'} port {port}: {error.strerror}") from error
    server.start()
    log.info("metrics on http://%s:%d/metrics", f"[{host}]" if ":" in host else host or "localhost", server.port)
    return server


async def _beat() -> bool:
    return True


def _on_loop(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], otherwise: T) -> T:
    """From another thread: what a coroutine on the loop returns, or `otherwise` if it takes two seconds."""
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(timeout=2.0)
    except TimeoutError:
        future.cancel()
        return otherwise
