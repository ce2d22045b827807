"""The HTTP side of a process: its pages, put together from what it serves, under `metrics_addr`."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml

from udptracker import build, config
from udptracker.config import Settings
from udptracker.core.busiest import BusySwarm
from udptracker.observe.http import Chore, HttpServer
from udptracker.observe.pages import STATS, pages
from udptracker.observe.status import SAMPLE_SECONDS, Status, facts
from udptracker.observe.sums import Snapshot

log = logging.getLogger(__name__)


def start_site(
    settings: Callable[[], Settings],
    *,
    snapshots: Callable[[], Mapping[str, Snapshot]],
    kernel_drops: Callable[[], int],
    reloads: Callable[[], Mapping[str, int]],
    saved: Callable[[], Mapping[str, float]],
    chores: Callable[[], Mapping[str, int]],
    alive: Callable[[], bool],
    ready: Callable[[], tuple[bool, str]],
    busiest: Callable[[], Sequence[BusySwarm]],
    listeners: Sequence[socket.socket] = (),
) -> HttpServer | None:
    """The started HTTP server, or None where it is off.

    Args:
        settings: as they are by then.
        snapshots: the counters of every worker that ever answered, by its name.
        kernel_drops: datagrams the kernel dropped for full receive buffers, of all workers.
        reloads: of the configuration, by what they came to.
        saved: figures of the last snapshot (see `Saver`).
        chores: failures of chores that are none of the workers', by name.
        alive: whether every process of it responds.
        ready: whether requests reach the store, and a word on it.
        busiest: the swarms that announce most, as many as `status_swarms` says.
        listeners: sockets that were handed over for it, in place of those of its address.

    Raises:
        OSError: its address cannot be bound; the message names it.
    """
    address = listeners[0].getsockname()[:2] if listeners else settings().metrics_endpoint()
    if address is None:
        return None
    host, port = address

    def metrics(accept: str) -> tuple[bytes, str]:
        # They load the Prometheus client, for whoever asks.
        from udptracker.observe import chihaya
        from udptracker.observe.metrics import exposition

        also = chihaya.FAMILIES if settings().chihaya_metrics else ()
        return exposition(snapshots(), kernel_drops(), accept, also, reloads=reloads(), saved=saved(), chores=chores())

    status = Status(
        lambda: _facts(settings()),
        has_standby=settings().storage.name != "memory",
        snapshots=snapshots,
        kernel_drops=kernel_drops,
        ready=ready,
        busiest=busiest,
    )
    site = pages(
        metrics=metrics,
        stats=status.stats,
        alive=alive,
        ready=ready,
    )
    try:
        chore = Chore(STATS, SAMPLE_SECONDS, status.sample)
        server = HttpServer(host, port, pages=site, listeners=listeners, chores=(chore,))
    except OSError as error:
        raise OSError(f"cannot serve metrics on {host or 'all addresses'} port {port}: {error.strerror}") from error
    server.start()
    shown = f"[{host}]" if ":" in host else host or "localhost"
    log.info("metrics on http://%s:%d/metrics", shown, server.port)
    return server


@lru_cache(maxsize=1)
def _facts(settings: Settings) -> dict[str, Any]:
    return facts(settings, build.kind(), yaml.safe_load(config.dump(settings))["udptracker"])
