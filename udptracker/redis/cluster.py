"""The topology of a cluster: each segment to the node that owns its key, one write per node, in the batch's order.

The map of slots is read from any node that answers, and read again when a node says MOVED, when one is lost, and
when the cluster says it is down. A segment that was sent to the wrong node is sent again to the right one; the
others of its batch are not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from hiredis import Reader, ReplyError
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from udptracker.core.seldom import Seldom
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.link import Replies, Timeouts, pack
from udptracker.redis.segment import Segment
from udptracker.redis.server import Server, fixed
from udptracker.redis.topology import Topology
from udptracker.redis.url import Broker

log = logging.getLogger(__name__)

_REDIRECTIONS: Final = 5
_REFRESH_SECONDS: Final = 0.2
_KEPT_SECONDS: Final = 60.0
"""How long a node without slots stays connected once something was sent to it: it may be about to get some."""
_ASKING: Final = pack("ASKING")
_REDIRECTION: Final = re.compile(r"(MOVED|ASK) (\d{1,5}) (\S*):(\d{1,5})(?!\d)", re.ASCII)
_PORTS: Final = 1 << 16
_UNKNOWN_HOSTS: Final = (None, b"", b"?")

Address = tuple[str, int]


class _Errand:
    """A segment on its way: where to, and the replies to it. `asking` if it goes where its slot is going to be."""

    __slots__ = ("address", "asking", "replies", "segment")

    def __init__(self, segment: Segment, address: Address) -> None:
        self.segment = segment
        self.address = address
        self.asking = False
        self.replies = Replies()

    @property
    def redirection(self) -> re.Match[str] | None:
        """What the first reply that names another node says."""
        for reply in self.replies if self.replies.failed else ():
            found = _REDIRECTION.match(str(reply)) if isinstance(reply, ReplyError) else None
            if found and int(found[2]) < REDIS_CLUSTER_HASH_SLOTS and int(found[4]) < _PORTS:
                return found
        return None


class Cluster(Topology):
    """See the module."""

    one_server = False

    def __init__(self, broker: Broker, timeouts: Timeouts, *, quiet: bool = False) -> None:
        self._broker = broker
        self._quiet = quiet
        self._timeouts = timeouts
        self._servers: dict[Address, Server] = {}
        self._used: dict[Address, float] = {}
        """When something was sent to a node because another one said so."""
        self._met: set[Address] = set()
        self._owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._stale = asyncio.Event()
        self._seldom = Seldom()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            for address in self._broker.hosts:
                self._server(address)
            self._stale.set()
            self._task = asyncio.create_task(self._keep_map())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*(server.close() for server in self._servers.values()))

    def servers(self) -> list[Server]:
        if not all(self._owners):
            raise StoreUnavailable("some slots of the cluster have no known owner")
        return [self._server(owner) for owner in sorted({owner for owner in self._owners if owner is not None})]

    async def call_each(self, *command: Any) -> list[Any]:
        try:
            return [await server.link.call(*command) for server in self.servers()]
        except StoreUnavailable:  # whoever takes over for it is in a newer map
            self._stale.set()
            raise

    def anchors(self, name: bytes) -> list[bytes]:
        numbers: dict[Address, bytes] = {}
        owners = set(self._owners) - {None}
        for number in range(REDIS_CLUSTER_HASH_SLOTS):
            key = b"%b_%d" % (name, number)
            owner = self._owners[key_slot(key)]
            if owner is not None:
                numbers.setdefault(owner, key)
            if len(numbers) == len(owners):
                break
        return sorted(numbers.values())

    def failures(self) -> list[str]:
        found = [server.failure for server in self._servers.values()]
        return found if all(found) else []

    def drop_links(self, reason: str) -> None:
        self._stale.set()

    async def send(self, segments: Sequence[Segment]) -> Replies:
        errands = [_Errand(segment, self._owner(segment.key)) for segment in segments]
        try:
            await self._run(errands)
            for _ in range(_REDIRECTIONS):
                again = [errand for errand in errands if await self._redirect(errand)]
                if not again:
                    break
                await self._run(again)
        except StoreUnavailable:
            self._stale.set()
            raise
        replies = Replies()
        for errand in errands:
            replies += errand.replies
            if errand.replies.failed:
                replies.failed = True
                if any(
                    isinstance(reply, ReplyError) and str(reply).startswith("CLUSTERDOWN") for reply in errand.replies
                ):
                    self._stale.set()
        return replies

    async def _run(self, errands: Sequence[_Errand]) -> None:
        """One write to each node."""
        by_address: dict[Address, list[_Errand]] = {}
        for errand in errands:
            by_address.setdefault(errand.address, []).append(errand)
        sent = []
        for address, group in by_address.items():
            link = self._server(address).link
            payload = [_with_asking(errand.segment) if errand.asking else errand.segment.payload for errand in group]
            sent.append(link.send(b"".join(payload), sum(_replies_of(errand) for errand in group)))
        for group, answer in zip(by_address.values(), await asyncio.gather(*sent), strict=True):
            at = 0
            for errand in group:
                end = at + _replies_of(errand)
                errand.replies = Replies()
                errand.replies += answer[at + 1 : end : 2] if errand.asking else answer[at:end]
                errand.replies.failed = answer.failed and any(isinstance(reply, ReplyError) for reply in errand.replies)
                at = end

    async def _redirect(self, errand: _Errand) -> bool:
        """Whether a node said that another one is to be asked, which is connected to by then."""
        found = errand.redirection
        if found is None:
            return False
        word, slot, host, port = found.groups()
        if host == "?":  # a name that this cluster does not have; the map may have more
            await self._read_map()
            address = self._owner(errand.segment.key)
        else:
            # Without a host it is the one that was asked, as the client reached it.
            address = (host.strip("[]") or errand.address[0], int(port))
        errand.address, errand.asking = address, word == "ASK"
        if errand.asking:
            self._used[address] = asyncio.get_running_loop().time()
        else:
            self._owners[int(slot)] = address
            self._stale.set()
        await self._server(address).ready()
        return True

    def _owner(self, key: bytes) -> Address:
        address = self._owners[key_slot(key)]
        if address is None:
            self._stale.set()
            raise StoreUnavailable("no node is known to own the key's slot")
        return address

    def _server(self, address: Address) -> Server:
        server = self._servers.get(address)
        if server is None:
            connected = partial(self._count_connection, address)
            server = self._servers[address] = Server(
                self._broker, fixed(*address), self._timeouts, connected, quiet=self._quiet
            )
            server.start()
        return server

    def _count_connection(self, address: Address) -> None:
        """The first one to a node says nothing about what it may have lost, nor do those to a node without slots."""
        self.connections += address in self._met and address in self._owners
        self._met.add(address)

    async def _keep_map(self) -> None:
        """Read the map of slots whenever it is stale, until it is not."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                known = await self._read_map()
            except Exception:  # whatever it was, a map that is never read again would be worse
                log.exception("the map of slots could not be read, in an unforeseen way")
                known = False
            if not known:
                self._stale.set()
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _read_map(self) -> bool:
        """Ask the nodes for the map until one has it; whether every slot has an owner."""
        for address, server in list(self._servers.items()):
            try:
                async with asyncio.timeout(self._timeouts.connect):
                    ranges = await server.link.call("CLUSTER", "SLOTS")
                owners = _parse_map(ranges, address)
            except (StoreUnavailable, ReplyError, TimeoutError):
                continue
            except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
                if not self._quiet and self._seldom.allows(repr(error), asyncio.get_running_loop().time()):
                    log.warning("cluster node %s:%d answers what is no map of slots: %r", *address, error)
                continue
            if not any(owners):
                continue
            known, found = set(self._owners) - {None}, set(owners)
            self._owners = owners
            self.connections += not known <= found  # another node took over, with what it had of the data
            await self._forget_servers({owner for owner in found if owner is not None})
            return all(owners)
        return False

    async def _forget_servers(self, owners: set[Address]) -> None:
        """Connect to new nodes now; let go of those that own nothing, are sent nothing, and were not given to begin
        with."""
        for address in owners:
            self._server(address)
        since = asyncio.get_running_loop().time() - _KEPT_SECONDS
        self._used = {address: used for address, used in self._used.items() if used > since}
        for address in self._servers.keys() - owners - self._used.keys() - set(self._broker.hosts):
            log.log(
                logging.DEBUG if self._quiet else logging.INFO, "cluster node %s:%d owns no slots any more", *address
            )
            await self._servers.pop(address).close()


def _parse_map(ranges: Any, asked: Address) -> list[Address | None]:
    """The owner of each slot, of a reply to CLUSTER SLOTS; it raises whatever comes of a reply that is none."""
    owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    for first, last, (host, port, *more), *_ in ranges:
        if host in _UNKNOWN_HOSTS:
            # Its address may be among what is told of it. Without one, it is where we asked.
            told = more[1] if len(more) > 1 else []
            host = dict(zip(told[::2], told[1::2], strict=True)).get(b"ip") or asked[0].encode()
        if not (0 <= first <= last < len(owners) and 0 < int(port) < _PORTS):
            raise ValueError(f"slots {first} to {last} on port {port}")
        owners[first : last + 1] = [(host.decode(), int(port))] * (last + 1 - first)
    return owners


def _replies_of(errand: _Errand) -> int:
    return errand.segment.replies * (2 if errand.asking else 1)


def _with_asking(segment: Segment) -> bytes:
    """The commands, each behind an ASKING: a command is an array, which a reply reader reads as well."""
    reader = Reader()
    reader.feed(segment.payload)
    parts: list[bytes] = []
    while (arguments := reader.gets()) is not False:
        parts += (_ASKING, pack(*arguments))
    return b"".join(parts)
