"""Where the master is, by the sentinels that watch it.

All of them are asked at once, over connections of our own, with TLS where the URL says so. The one that has heard of
the latest failover is believed: each failover has a higher epoch than the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.greeting import connect
from udptracker.redis.link import Link, Timeouts
from udptracker.redis.server import Locate
from udptracker.redis.url import Broker

_GRACE: Final = 0.2
"""Seconds for the others to answer once one has: long for those that live, short beside a failover."""

_PORTS: Final = 1 << 16

_Found = tuple[int, str, int]
"""Epoch, host, port."""


def master_of(broker: Broker, timeouts: Timeouts) -> Locate:
    """The master of the broker's service, asked for anew before each connection."""
    asking = replace(broker, kind="single", username=broker.sentinel_username, password=broker.sentinel_password, db=0)

    async def locate() -> tuple[str, int]:
        tasks = [asyncio.create_task(_ask(asking, host, port, timeouts)) for host, port in broker.hosts]
        try:
            answers = asyncio.as_completed(tasks)
            found: list[_Found] = []
            refusals: list[str] = []
            for answer in answers:
                try:
                    found.append(await answer)
                except StoreUnavailable as error:
                    refusals.append(str(error))
                else:
                    break
            if not found:
                raise StoreUnavailable(f"no sentinel names a master {broker.service!r}: {'; '.join(refusals)}")
            done, _ = await asyncio.wait(tasks, timeout=_GRACE)
            _, host, port = max(task.result() for task in done if task.exception() is None)
            return host, port
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return locate


async def _ask(broker: Broker, host: str, port: int, timeouts: Timeouts) -> _Found:
    """What one sentinel knows.

    Raises:
        StoreUnavailable: it does not answer, or knows no such master.
    """
    link = await connect(broker, host, port, timeouts)
    try:
        async with asyncio.timeout(timeouts.connect):
            return await name_master(link, broker.service)
    except TimeoutError:
        raise StoreUnavailable(f"{host}:{port} did not answer within {timeouts.connect:g} s") from None
    except ReplyError as error:
        raise StoreUnavailable(f"{host}:{port} says {error}") from error
    except _NotOne as error:
        raise StoreUnavailable(f"{host}:{port} answers what is no master: {error}") from error
    finally:
        link.abort("asked")
        await link.lost


class _NotOne(StoreUnavailable):
    """An answer of no master."""


async def name_master(link: Link, service: str) -> _Found:
    """What the sentinel at the other end knows.

    Raises:
        ReplyError: it knows no such master.
        StoreUnavailable: its answer is none, or the connection ended first.
    """
    try:
        reply = await link.call("SENTINEL", "MASTER", service)
    except ReplyError:
        # What it tells every client, also one that may ask for nothing else.
        known = await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        if known is None:
            raise
        return _read(lambda: (0, known[0], known[1]))

    def found() -> tuple[Any, Any, Any]:
        state = dict(zip(reply[::2], reply[1::2], strict=True))
        return state[b"config-epoch"], state[b"ip"], state[b"port"]

    return _read(found)


def _read(take: Callable[[], tuple[Any, Any, Any]]) -> _Found:
    try:
        epoch, host, port = take()
        found = int(epoch), host.decode(), int(port)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise _NotOne(repr(error)) from error
    if not 0 < found[2] < _PORTS:
        raise _NotOne(f"port {found[2]}")
    return found
