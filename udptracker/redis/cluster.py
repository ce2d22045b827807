"""The topology of a cluster: each segment to the node that owns its key, one write per node, in the batch's order.

The map of slots is read from any node that answers, and read again when a node says MOVED, when one is lost, and
when the cluster says it is down. A segment that was sent to the wrong node is sent again to the right one; the
others of its batch are not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from binascii import crc_hqx
from collections.abc import Sequence
from functools import partial
from typing import Final

from hiredis import Reader, ReplyError, pack_command

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.link import Replies, Timeouts
from udptracker.redis.topology import Segment, Server, Topology, fixed
from udptracker.redis.url import Broker

log = logging.getLogger(__name__)

SLOTS: Final = 16_384
_REDIRECTIONS: Final = 5
_REFRESH_SECONDS: Final = 0.2
_ASKING: Final = pack_command(("ASKING",))

Address = tuple[str, int]


def slot_of(key: bytes) -> int:
    """The slot of a key: CRC16 (XMODEM) of it, or of what stands between the first braces (Redis cluster spec)."""
    start = key.find(b"{")
    if start >= 0:
        stop = key.find(b"}", start + 1)
        if stop > start + 1:
            key = key[start + 1 : stop]
    return crc_hqx(key, 0) % SLOTS


class Cluster(Topology):
    """See the module."""

    one_server = False

    def __init__(self, broker: Broker, timeouts: Timeouts) -> None:
        self._broker = broker
        self._timeouts = timeouts
        self._servers: dict[Address, Server] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._stale = asyncio.Event()
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

    async def infos(self) -> list[bytes]:
        if not all(self._owners):
            raise StoreUnavailable("some slots of the cluster have no known owner")
        owners = {owner for owner in self._owners if owner is not None}
        try:
            return [await self._server(owner).link.call("INFO", "server") for owner in sorted(owners)]
        except StoreUnavailable:  # whoever takes over for it is in a newer map
            self._stale.set()
            raise

    def drop_links(self, reason: str) -> None:
        self._stale.set()

    async def send(self, segments: Sequence[Segment]) -> Replies:
        parts: list[Replies | None] = [None] * len(segments)
        todo: dict[Address, list[int]] = {}
        for index, segment in enumerate(segments):
            todo.setdefault(self._owner(segment.key), []).append(index)
        asking: set[int] = set()
        for _ in range(_REDIRECTIONS):
            await self._send_round(segments, todo, asking, parts)
            todo, asking = self._redirections(parts)
            if not todo:
                break
        replies = Replies()
        for part in parts:
            assert part is not None
            replies += part
            replies.failed = replies.failed or part.failed
        return replies

    async def _send_round(
        self,
        segments: Sequence[Segment],
        todo: dict[Address, list[int]],
        asking: set[int],
        parts: list[Replies | None],
    ) -> None:
        """One write to each node; the replies of each segment to its place in `parts`."""
        sent = []
        for address, indexes in todo.items():
            payload, count = [], 0
            for index in indexes:
                _, packed, replies = segments[index]
                payload.append(_asking(packed) if index in asking else packed)
                count += replies * (2 if index in asking else 1)
            try:
                sent.append(self._server(address).link.send(b"".join(payload), count))
            except StoreUnavailable:
                self._stale.set()
                raise
        try:
            answers = await asyncio.gather(*sent)
        except StoreUnavailable:
            self._stale.set()
            raise
        for indexes, answer in zip(todo.values(), answers, strict=True):
            at = 0
            for index in indexes:
                step = 2 if index in asking else 1
                part = Replies()
                part += answer[at + step - 1 : at + step * segments[index].replies : step]
                part.failed = answer.failed and any(isinstance(reply, ReplyError) for reply in part)
                parts[index] = part
                at += step * segments[index].replies

    def _redirections(self, parts: list[Replies | None]) -> tuple[dict[Address, list[int]], set[int]]:
        """(segments to send again by node, those of them to send with ASKING)."""
        todo: dict[Address, list[int]] = {}
        asking: set[int] = set()
        for index, part in enumerate(parts):
            if part is None or not part.failed:
                continue
            for reply in part:
                words = str(reply).split() if isinstance(reply, ReplyError) else [""]
                if words[0] not in ("MOVED", "ASK"):
                    continue
                host, _, port = words[2].rpartition(":")
                address = (host.strip("[]"), int(port))
                todo.setdefault(address, []).append(index)
                if words[0] == "ASK":
                    asking.add(index)
                else:
                    self._owners[int(words[1])] = address
                    self._stale.set()
                break
        return todo, asking

    def _owner(self, key: bytes) -> Address:
        address = self._owners[slot_of(key)]
        if address is None:
            self._stale.set()
            raise StoreUnavailable("no node is known to own the key's slot")
        return address

    def _server(self, address: Address) -> Server:
        server = self._servers.get(address)
        if server is None:
            connected = partial(self._count_connection, address)
            server = self._servers[address] = Server(self._broker, fixed(*address), self._timeouts, connected)
            server.start()
        return server

    def _count_connection(self, address: Address) -> None:
        """Those to nodes without slots say nothing about the data."""
        self.connections += address in self._owners

    async def _keep_map(self) -> None:
        """Read the map of slots whenever it is stale, until it is not."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            if not await self._read_map():
                self._stale.set()
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _read_map(self) -> bool:
        """Ask the nodes for the map until one has it; whether every slot has an owner."""
        for address, server in list(self._servers.items()):
            try:
                async with asyncio.timeout(self._timeouts.connect):
                    ranges = await server.link.call("CLUSTER", "SLOTS")
            except (StoreUnavailable, ReplyError, TimeoutError):
                continue
            owners: list[Address | None] = [None] * SLOTS
            for first, last, master, *_ in ranges:
                # A node that does not know its own address leaves it empty: it is where we asked.
                owner = ((master[0] or b"").decode() or address[0], int(master[1]))
                owners[first : last + 1] = [owner] * (last + 1 - first)
            if not any(owners):
                continue
            known, found = set(self._owners), set(owners)
            self._owners = owners
            self.connections += known != found
            await self._forget_servers({owner for owner in found if owner is not None})
            return all(owners)
        return False

    async def _forget_servers(self, owners: set[Address]) -> None:
        """Connect to new nodes now; let go of those that own nothing and were not given to begin with."""
        for address in owners:
            self._server(address)
        for address in [a for a in self._servers if a not in owners and a not in self._broker.hosts]:
            log.info("cluster node %s:%d owns no slots any more", *address)
            await self._servers.pop(address).close()


def _asking(packed: bytes) -> bytes:
    """The commands of a segment, each behind an ASKING: a command is an array, which a reply reader reads as well."""
    reader = Reader()
    reader.feed(packed)
    parts: list[bytes] = []
    while (arguments := reader.gets()) is not False:
        parts += (_ASKING, pack_command(tuple(arguments)))
    return b"".join(parts)
