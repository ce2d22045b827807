"""One connection to one server, many commands in flight, replies drained as they come.

Commands are written as they are given, packed, with the number of replies they will bring; a future resolves to
those replies. A reply of the server that is an error stands in its place as a `ReplyError`; only the connection
itself fails a future.

A connection that ended delivers nothing more, however it ended: what the kernel still holds of it is thrown away, and
would otherwise be done by the server whenever the network lets it through, after newer commands of a newer connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
from hiredis import ReplyError

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.bounds import Bounds

_CHECKS_PER_TIMEOUT: Final = 4
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
"""`struct linger` of socket(7): to close is to throw away what was not sent, and to reset. Set from the start, it holds
for a process that is killed, too. A unix socket has no such queue: what is written is with the server."""


@dataclass(slots=True)
class Timeouts:
    """Seconds until a connection counts as dead: connecting, waiting for a reply, getting rid of what is written.

    All connections of a store share one, and look at it each time: to change it is to change them all.
    """

    connect: float = 15.0
    read: float = 15.0
    write: float = 15.0


def pack(*command: Any) -> bytes:
    """A command as it is sent."""
    return bytes(hiredis.pack_command(command))


class Replies(list[Any]):
    """The replies to one write, in order; `failed` is true when any of them is an error."""

    __slots__ = ("failed",)

    def __init__(self) -> None:
        super().__init__()
        self.failed = False


class _Expected:
    """A write on its way: replies so far, and how many shall come."""

    __slots__ = ("count", "future", "replies", "sent")

    def __init__(self, count: int, future: asyncio.Future[Replies], sent: float) -> None:
        self.count = count
        self.future = future
        self.replies = Replies()
        self.sent = sent


class Link(asyncio.Protocol):
    """See the module. Made by `greeting.connect`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> None:
        self._loop = loop
        self._timeouts = timeouts
        self._reader = hiredis.Reader(replyError=self._on_error)
        self._bounds = Bounds()
        self._expected: deque[_Expected] = deque()
        self._paused_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.reason = "the connection was closed"
        """Why it ended, once it has."""
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done once the connection is gone."""

    # ------------------------------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one without saying so
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._timer = self._loop.call_later(self._check_interval, self._check)

    def data_received(self, data: bytes) -> None:
        try:
            for piece in self._bounds.cut(data, self._reader.has_data):
                if self._read(piece):
                    self._bounds.begin()
                else:
                    self._bounds.go_on(piece)
        except Exception as error:  # the reader lets through what Python says of an object that cannot be made, too
            self.abort(f"the server broke the protocol: {error}")

    def eof_received(self) -> None:
        self.abort("the server closed the connection")  # left to itself, a transport writes what it has first

    def pause_writing(self) -> None:
        self._paused_since = self._loop.time()

    def resume_writing(self) -> None:
        self._paused_since = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if exc is not None:
            self.reason = f"the connection broke: {exc}"
        for expected in self._expected:
            if not expected.future.done():
                expected.future.set_exception(StoreUnavailable(self.reason))
        self._expected.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    # ------------------------------------------------------------------------------------ the store's side

    def send(self, payload: bytes, count: int) -> asyncio.Future[Replies]:
        """Write packed commands that bring `count` replies; the future may be abandoned.

        The future raises `StoreUnavailable` if the connection ends first.
        """
        future: asyncio.Future[Replies] = self._loop.create_future()
        if self._transport.is_closing():
            future.set_exception(StoreUnavailable(self.reason))
            return future
        if count:
            self._expected.append(_Expected(count, future, self._loop.time()))
            self._transport.write(payload)
        else:
            future.set_result(Replies())
        return future

    async def call(self, *command: Any) -> Any:
        """One command and its reply.

        Raises:
            ReplyError: the server refused it.
            StoreUnavailable: the connection ended first.
        """
        reply = (await self.send(pack(*command), 1))[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def abort(self, reason: str) -> None:
        """End the connection now; whatever waits fails with this reason."""
        self.reason = reason
        self._transport.abort()

    # ------------------------------------------------------------------------------------ inside

    @property
    def _check_interval(self) -> float:
        return min(self._timeouts.read, self._timeouts.write) / _CHECKS_PER_TIMEOUT

    def _check(self) -> None:
        now = self._loop.time()
        if self._expected and now - self._expected[0].sent > self._timeouts.read:
            self.abort(f"no reply for {self._timeouts.read:g} s")
        elif self._paused_since is not None and now - self._paused_since > self._timeouts.write:
            self.abort(f"no progress in writing for {self._timeouts.write:g} s")
        else:
            self._timer = self._loop.call_later(self._check_interval, self._check)

    def _read(self, data: bytes) -> bool:
        """Read all replies that are complete; whether there are any."""
        expected, gets = self._expected, self._reader.gets
        self._reader.feed(data)
        complete = False
        while expected:
            head = expected[0]
            replies = head.replies
            append = replies.append
            before = len(replies)
            for _ in range(head.count - before):
                reply = gets()
                if reply is False:
                    return complete or len(replies) > before
                append(reply)
            complete = True
            expected.popleft()
            if not head.future.done():
                head.future.set_result(replies)
        if self._reader.has_data():
            raise hiredis.ProtocolError(f"it spoke out of turn: {gets() or 'something'}")
        return complete

    def _on_error(self, message: str) -> ReplyError:
        if self._expected:
            self._expected[0].replies.failed = True
        return ReplyError(message)
