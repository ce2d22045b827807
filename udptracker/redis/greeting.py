"""A connection that is ready for use: made, over TLS where the URL says so, authenticated, on its database."""

from __future__ import annotations

import asyncio

from hiredis import ReplyError

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.link import Link, Timeouts
from udptracker.redis.url import Broker


async def connect(broker: Broker, host: str, port: int, timeouts: Timeouts) -> Link:
    """A link to one server, authenticated, on the broker's database.

    Raises:
        StoreUnavailable: it cannot be reached or refuses us; the text never holds the password.
    """
    loop = asyncio.get_running_loop()
    where = broker.path if broker.kind == "unix" else f"{host}:{port}"

    def factory() -> Link:
        return Link(loop, timeouts)

    try:
        async with asyncio.timeout(timeouts.connect):
            if broker.kind == "unix":
                _, link = await loop.create_unix_connection(factory, broker.path)
            else:
                tls = None if broker.tls is None else await asyncio.to_thread(broker.tls.context)
                name = None if tls is None else host
                _, link = await loop.create_connection(factory, host, port, ssl=tls, server_hostname=name)
            try:
                await _greet(link, broker)
            except BaseException:
                link.abort("not greeted")
                raise
            return link
    except TimeoutError:
        raise StoreUnavailable(f"{where} did not answer within {timeouts.connect:g} s") from None
    except (OSError, StoreUnavailable) as error:
        raise StoreUnavailable(f"{where}: {error}") from error
    except ReplyError as error:
        raise StoreUnavailable(f"{where} refuses us: {_without_arguments(str(error))}") from None


def _without_arguments(text: str) -> str:
    """A server's words without what it repeats of a command that it does not know: of AUTH that is the password."""
    return text.partition(", with args beginning with")[0]


async def _greet(link: Link, broker: Broker) -> None:
    if broker.username:
        await link.call("AUTH", broker.username, broker.password)
    elif broker.password:
        try:
            await link.call("AUTH", broker.password)
        except ReplyError as error:
            # A server without a password still serves chihaya's default URL, which has one.
            if "without any password" not in str(error) and "no password is set" not in str(error):
                raise
    if broker.db:
        await link.call("SELECT", str(broker.db))
    await link.call("PING")
