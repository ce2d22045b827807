"""Nodes as `/stats.json` tells of them: asked over HTTP, and read into what is shown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from udptracker.client.targets import LOOPBACK
from udptracker.core.busiest import BusySwarm

if TYPE_CHECKING:
    from udptracker.config import Settings

DEFAULT_PORT: Final = 6880
_MOST_BYTES: Final = 1 << 20
_PATH: Final = "/stats.json"
_METRICS: Final = "/metrics"


class NoStats(Exception):
    """A node gave none; the text says why."""


class Address(NamedTuple):
    """Where a node's metrics server is."""

    name: str
    host: str
    port: int
    path: str
    tls: bool


@dataclass(frozen=True)
class Stats:
    """What is shown of a node at one moment. Rates are a second, latencies seconds; None is for "no requests"."""

    host: str
    version: str
    uptime: float
    serves: bool
    store_up: bool
    word: str
    connects: float
    announces: float
    scrapes: float
    refused: float
    dropped: float
    p50: float | None
    p99: float | None
    swarms: int
    seeders: int
    leechers: int
    queue: int
    workers: int
    history: tuple[float, ...]
    reasons: tuple[tuple[str, float], ...]
    busiest: tuple[BusySwarm, ...]

    @property
    def requests(self) -> float:
        """Requests a second, of all actions."""
        return self.connects + self.announces + self.scrapes


def parse_address(text: str) -> Address:
    """The address in `http://host:port`, `https://host/path`, `host:port` or `host`; that of a page there will do.

    Raises:
        ValueError: it is none of them.
    """
    url = urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or not text.isprintable():
        raise ValueError("expected a URL such as http://127.0.0.1:6880")
    tls = url.scheme == "https"
    port = url.port or (443 if tls else DEFAULT_PORT)
    path = url.path.rstrip("/").removesuffix(_PATH).removesuffix(_METRICS) + _PATH
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return Address(f"{host}:{port}", url.hostname, port, path, tls)


def address_of(settings: Settings) -> Address | None:
    """Where a daemon of these settings on this machine has its metrics; None where they are off."""
    endpoint = settings.metrics_endpoint()
    if endpoint is None:
        return None
    host, port = endpoint
    host = LOOPBACK.get(host, host)
    return parse_address(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


async def ask(address: Address) -> Stats:
    """A node's stats; takes as long as the node does.

    Raises:
        NoStats: there are none.
    """
    import h11  # the command line is there without it

    try:
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=ssl.create_default_context() if address.tls else None
        )
    except OSError as error:
        number = error.errno or 0  # of a name or a certificate it is of another kind, and the text is good
        raise NoStats(os.strerror(number) if number > 0 else error.strerror or str(error)) from error
    try:
        body = await _get(address, reader, writer)
    except (OSError, h11.ProtocolError) as error:
        raise NoStats(str(error) or type(error).__name__) from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return read(body)


def read(body: bytes) -> Stats:
    """The stats in the body of `/stats.json`.

    Raises:
        NoStats: it is something else.
    """
    try:
        return _read(json.loads(body))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise NoStats("what it says is no stats.json of ours") from error


async def _get(address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    import h11

    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", address.name), ("Accept", "application/json"), ("Connection", "close")]
    request = connection.send(h11.Request(method="GET", target=address.path, headers=headers)) or b""
    writer.write(request + (connection.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise NoStats(f"HTTP status {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MOST_BYTES:
                raise NoStats("it says too much")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)


def _read(tree: Any) -> Stats:
    recent, store, swarms = tree["recent"], tree["store"], tree["swarms"].values()
    lost = [(reason, float(rate)) for kind in ("refused", "dropped") for reason, rate in recent[kind].items()]
    kernel = float(recent["kernel_drops"])
    history = zip(*(tree["history"][action] for action in ("connect", "announce", "scrape")), strict=True)
    return Stats(
        host=str(tree["host"]),
        version=f"{tree['version']} ({tree['build']})",
        uptime=float(tree["uptime_seconds"]),
        serves=bool(tree["workers"]),
        store_up=bool(store["up"]),
        word=str(store["word"]),
        connects=float(recent["requests"]["connect"]),
        announces=float(recent["requests"]["announce"]),
        scrapes=float(recent["requests"]["scrape"]),
        refused=sum(map(float, recent["refused"].values())),
        dropped=sum(map(float, recent["dropped"].values())) + kernel,
        p50=_seconds(recent["latency"]["all"]["p50"]),
        p99=_seconds(recent["latency"]["all"]["p99"]),
        swarms=sum(int(family["swarms"]) for family in swarms),
        seeders=sum(int(family["seeders"]) for family in swarms),
        leechers=sum(int(family["leechers"]) for family in swarms),
        queue=int(store["queue_depth"]),
        workers=len(tree["workers"]),
        history=tuple(float(sum(point)) for point in history),
        reasons=tuple((str(reason), rate) for reason, rate in [*lost, ("kernel drops", kernel)] if rate > 0),
        busiest=tuple(
            BusySwarm(str(swarm["info_hash"]), float(swarm["announces"]), int(swarm["seeders"]), int(swarm["leechers"]))
            for swarm in tree["busiest"]
        ),
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
