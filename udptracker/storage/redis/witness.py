"""What tells a node that the store is not what it was: emptied, overtaken by late commands, or of another time.

Each server holds a key with a random value, its generation, made by whoever finds none; a FLUSHALL takes it away. A
hash holds, by the node that wrote it, since when others may doubt what they wrote. And another key says for as long as
a peer lives how far the server's clock went ahead when it jumped: the times of peers that were written before look
older than they are by as much.

What is broken of these is written anew: they hold nothing that cannot be done without.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.segment import segment
from udptracker.redis.topology import Topology
from udptracker.storage.redis.clock import StoreClock
from udptracker.storage.redis.errors import is_refusal, store_error
from udptracker.storage.redis.layout import CLOCK_JUMP, DOUBTS, GENERATION, parse_count

log = logging.getLogger(__name__)

_DOUBTS_MILLISECONDS: Final = b"600000"
_SECOND: Final = 1_000_000_000
_MOST_NANOSECONDS: Final = 10**19
"""What stamps have digits for."""
_CLOCK_KEY: Final = b"IPv4"
_READINGS: Final = 3
"""Of the clock, when the server is reached."""


class Witness:
    """See the module.

    Args:
        clock: is set by what the server says.
        lifetime_milliseconds: how long a time that was written may count.
    """

    def __init__(self, topology: Topology, clock: StoreClock, lifetime_milliseconds: int) -> None:
        self._topology = topology
        self._clock = clock
        self.lifetime = lifetime_milliseconds
        self._token = secrets.token_hex(8).encode()
        self._generations: dict[bytes, Any] = {}
        self._doubts: dict[bytes, bytes] | None = None
        self._jumps: list[tuple[int, int]] = []
        self._untold = False
        self._refused = ""

    async def identify(self) -> tuple[str, ...]:
        """The generations of the servers, made where there is none, after a look at the clock.

        Raises:
            StoreUnavailable: a server does not answer.
        """
        for _ in range(_READINGS):
            sent = time.monotonic_ns()
            (moment,) = await self._topology.send([segment(_CLOCK_KEY, "TIME")])
            self._read_clock(sent, time.monotonic_ns(), moment)
        if self._doubts is None:
            await self.look()  # what is new is so from here on
        keys = self._topology.anchors(GENERATION)
        made = secrets.token_hex(16)
        replies = await self._topology.send(
            [each for key in keys for each in (segment(key, "SET", key, made, "NX"), segment(key, "GET", key))]
        )
        found = replies[1::2]
        for at, key in enumerate(keys):
            if isinstance(found[at], ReplyError):
                _raise_if_away(found[at])
                log.warning("%s in the store is broken (%s) and written anew", key.decode(), found[at])
                (reply,) = await self._topology.send([segment(key, "SET", key, made)])
                _raise_if_away(reply)
                found[at] = made.encode()
        self._generations = dict(zip(keys, found, strict=True))
        return tuple(sorted(value.decode("ascii", "replace") for value in found))

    async def look(self) -> tuple[bool, int | None]:
        """(whether a server was emptied since the last `identify`, since when to doubt if that is new).

        Raises:
            StoreUnavailable: a server does not answer.
        """
        keys = self._topology.anchors(GENERATION)
        sent = time.monotonic_ns()
        replies = await self._topology.send(
            [
                segment(_CLOCK_KEY, "TIME"),
                segment(DOUBTS, "HGETALL", DOUBTS),
                *(segment(key, "GET", key) for key in keys),
            ]
        )
        received = time.monotonic_ns()
        moment, doubts, *generations = replies
        for reply in (doubts, *generations):
            _raise_if_away(reply)
        self._read_clock(sent, received, moment)
        if self._untold:
            await self._tell_jump()
        found = dict(zip(keys, generations, strict=True))
        emptied = any(found.get(key, value) != value for key, value in self._generations.items())
        if self._generations and not emptied and found.keys() != self._generations.keys():
            await self.identify()  # slots have moved, and other keys stand for the servers now
        return emptied, await self._read_doubts(doubts)

    async def raise_doubt(self, since: int) -> None:
        """Tell the other nodes since when they may doubt what they wrote (the store's clock).

        Raises:
            StoreUnavailable: the server does not answer.
        """
        value = b"%d:%s" % (since, secrets.token_hex(4).encode())
        replies = await self._topology.send(
            [
                segment(DOUBTS, "HSET", DOUBTS, self._token, value),
                segment(DOUBTS, "PEXPIRE", DOUBTS, _DOUBTS_MILLISECONDS),
            ]
        )
        for reply in replies:
            _raise_if_away(reply)

    async def jumped(self) -> int:
        """How far (nanoseconds) peers may look older than they are, since a clock went ahead.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        (reply,) = await self._topology.send([segment(CLOCK_JUMP, "GET", CLOCK_JUMP)])
        _raise_if_away(reply)
        return max(parse_count(reply), self._own_jump(), 0)

    def _read_clock(self, sent: int, received: int, moment: Any) -> None:
        if not (isinstance(moment, ReplyError) and is_refusal(moment)):
            _raise_if_away(moment)
        try:
            seconds, microseconds = moment
            server = int(seconds) * _SECOND + int(microseconds) * 1000
            if not 0 <= server < _MOST_NANOSECONDS:
                raise ValueError
        except (TypeError, ValueError, ArithmeticError):
            if self._refused != str(moment):
                self._refused = str(moment)
                log.warning("the server does not tell its time (%s): this node goes by its own clock", moment)
            return
        jump = self._clock.read(sent, received, server)
        if jump:
            log.warning("the clock of the store jumped by %+.1f s: nobody expires by that", jump / _SECOND)
            self._jumps.append((received, jump))
            self._untold = True

    def _own_jump(self) -> int:
        """The sum of all jumps that this node has seen within a lifetime."""
        since = time.monotonic_ns() - self.lifetime * 1_000_000
        self._jumps = [(seen, jump) for seen, jump in self._jumps if seen > since]
        return sum(jump for _, jump in self._jumps)

    async def _tell_jump(self) -> None:
        """Let the other nodes know, those that are yet to be started, too."""
        jump = await self.jumped()
        if jump:
            lifetime = str(self.lifetime)
            (reply,) = await self._topology.send([segment(CLOCK_JUMP, "SET", CLOCK_JUMP, str(jump), "PX", lifetime)])
            _raise_if_away(reply)
        self._untold = False

    async def _read_doubts(self, flat: Any) -> int | None:
        """The earliest of the doubts that are new, but for this node's own; at first all are old."""
        if isinstance(flat, ReplyError):
            log.warning("%s in the store is broken (%s) and removed", DOUBTS.decode(), flat)
            await self._topology.send([segment(DOUBTS, "DEL", DOUBTS)])
            return None
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        before, self._doubts = self._doubts, found
        if before is None:
            return None
        new = [
            parse_count(value.partition(b":")[0])
            for token, value in found.items()
            if token != self._token and before.get(token) != value
        ]
        return min(new, default=None)


def _raise_if_away(reply: Any) -> None:
    if isinstance(reply, ReplyError):
        error = store_error(reply)
        if isinstance(error, StoreUnavailable):
            raise error
