"""The whole way of a turn of datagrams, from `UdpEndpoint.turn_received` to the replies, with access rules on.

An input is datagrams: two bytes that say what is done for each, two of its length, and its bytes. What is done: which
of some addresses of either family it comes from, and whether its first eight bytes become an id that is valid for that
address, or the magic of a connect, so that most of them get past the first check.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

from tests.fuzz.base import Reader
from tests.support.transport import RecordingTransport
from udptracker import config
from udptracker.access.access import Access, make_parts
from udptracker.access.guard import Guard
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.swarm import IPV4, IPV6
from udptracker.core.tracker import Datagram, Tracker
from udptracker.core.wire import AnnounceRequest, ConnectResponse, ErrorResponse
from udptracker.net.burst import RECEIVE_BYTES, TURN
from udptracker.net.endpoint import UdpEndpoint
from udptracker.service.batcher import Direct
from udptracker.storage.memory import MemoryStore

_VALID: Final = 1
_MAGIC: Final = 2
_V6: Final = 4
"""Bits of what is done for a datagram; the other byte is the number of its source."""
_SOURCES: Final = 8
_MOST: Final = {IPV4: wire.MAX_PAYLOAD_IPV4, IPV6: wire.MAX_PAYLOAD_IPV6}
_MOST_PEERS: Final = 2_000
_REAPED_EVERY: Final = 5_000
"""Inputs between two runs of the reaper."""

CONFIGURATION: Final = f"""
udptracker:
  access:
    torrents: {{deny: ["{"00" * 20}"]}}
    clients: {{deny: ["-BAD"]}}
    networks: {{deny: ["192.0.2.7/32", "2001:db8::c000:206/128"]}}
    passkeys: {{allow: ["0123456789abcdef somebody"]}}
    limits: {{mode: watch, max_peers_in_swarm: 20, max_peers_in_all: 200, v6_prefixes: [64, 56, 48]}}
  prehooks:
    - {{name: torrent approval, options: {{blacklist: ["{"ff" * 20}"]}}}}
    - {{name: client approval, options: {{blacklist: ["UT2210"]}}}}
    - {{name: interval variation, options: {{modify_response_probability: 0.5, max_increase_delta: 60}}}}
"""
"""One of each kind of rule, none of which keeps most requests out."""


class Finding(AssertionError):
    """An answer that must not be."""


class _Faults(logging.Handler):
    """The errors that the endpoint logs, which are those that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class TurnTarget:
    """See the module.

    Args:
        configuration: YAML that says who may announce, beside a tracker on memory.
    """

    def __init__(self, configuration: str = CONFIGURATION) -> None:
        settings = config.parse(configuration, {}).settings
        self._now = 1_700_000_000.0
        self._counters = Counters()
        self._ids = ConnectionIds([b"secret"])
        policy = Policy(interval_jitter=60, max_numwant=500, allow_ip_spoofing=True, max_scrape_infohashes=120)
        draw = random.Random(1).random
        self._tracker = Tracker(self._ids, policy, draw, self._counters)
        self._store = MemoryStore(
            draw, self._steady, counters=self._counters, max_peers=_MOST_PEERS, max_swarms=_MOST_PEERS // 2
        )
        direct = Direct(self._store, self._tracker, self._counters)
        self._guard = Guard(direct, self._tracker, self._counters, max_pending=TURN)
        self._endpoint = UdpEndpoint(self._tracker, self._guard, self._counters, lambda: self._now)
        self._transport = RecordingTransport()
        self._endpoint.connection_made(self._transport)
        self._fed = 0
        self._faults = _Faults()
        logging.getLogger("udptracker").addHandler(self._faults)
        self._loop = asyncio.new_event_loop()
        self._access = Access(make_parts(settings, self._counters, speaks=False), self._guard, self._tracker)
        self._loop.run_until_complete(self._access.open())

    def close(self) -> None:
        """Let go of everything."""
        self._loop.run_until_complete(self._access.close())
        self._loop.close()
        logging.getLogger("udptracker").removeHandler(self._faults)

    def seeds(self) -> Sequence[bytes]:
        announce = AnnounceRequest(b"h" * 20, b"-qB4500-abcdefghijkl", 1, 2, 3, 2, bytes(4), 5, 50, 6881)
        options = wire.encode_url_data("/announce?passkey=0123456789abcdef&jwt=a.b.c")
        requests = [
            wire.encode_connect_request(7),
            wire.encode_announce_request(bytes(8), 8, announce),
            wire.encode_announce_request(bytes(8), 9, announce._replace(left=0, event=1, options=options)),
            wire.encode_announce_request(bytes(8), 9, announce._replace(event=3, port=1, num_want=-1)),
            wire.encode_announce_request(bytes(8), 10, announce._replace(ip=b"\x20\x01\x0d\xb8" + bytes(12))),
            wire.encode_announce_request(bytes(8), 11, announce._replace(ip=bytes((203, 0, 113, 9)))),
            wire.encode_scrape_request(bytes(8), 12, [b"h" * 20, bytes(20)]),
            wire.encode_scrape_request(bytes(8), 13, [b"h" * 20] * 120),
            b"\0" * 16,
        ]
        seeds = []
        for flags in (_VALID, 0, _VALID | _V6, _V6, _MAGIC):
            seeds += [_framed(flags, source, data) for source, data in enumerate(requests)]
        return [*seeds, b"".join(seeds[:6]), b"".join(seeds[18:24]), b""]

    def feed(self, data: bytes) -> None:
        self._now += 1.0
        self._fed += 1
        reader = Reader(data)
        turn: list[Datagram] = []
        proven: list[bool] = []
        while reader.left and len(turn) < TURN:
            flags, source = reader.byte(), _source(reader.byte(), 0)
            if flags & _V6:
                source = bytes(12) + source if flags & 128 else b"\x20\x01\x0d\xb8" + bytes(8) + source
            request = reader.take(reader.number(2) % (RECEIVE_BYTES + 1))
            if flags & _VALID:
                request = self._ids.issue(source, self._now) + request[8:]
            elif flags & _MAGIC:
                request = wire.PROTOCOL_ID + request[8:]
            turn.append((request, source, (len(turn),)))
            proven.append(bool(flags & _VALID))
        self._loop.run_until_complete(self._answered(turn))
        sent, self._transport.sent = self._transport.sent, []
        if self._faults.records:
            raise Finding(self._faults.format(self._faults.records[0]))
        answered = [handle[0] for _, handle in sent]
        if len(set(answered)) != len(answered):
            raise Finding("two replies to one datagram")
        for reply, (at,) in sent:
            _check(reply, turn[at][0], len(turn[at][1]) == 16, proven[at])
        if self._fed % _REAPED_EVERY == 0:
            self._loop.run_until_complete(self._store.reap(self._steady() - 1800 * 10**9))

    async def _answered(self, turn: list[Datagram]) -> None:
        """A turn, and whatever of it waits for slow rules."""
        self._endpoint.turn_received(turn)
        await self._guard.drain()

    def _steady(self) -> int:
        return int(self._now * 1e9)


def _source(number: int, host: int) -> bytes:
    return bytes((192, 0, 2 + host, 1 + number % _SOURCES))


def _framed(flags: int, source: int, data: bytes) -> bytes:
    return bytes((flags, source)) + len(data).to_bytes(2, "little") + data


def _check(reply: bytes, request: bytes, is_v6: bool, proven: bool) -> None:
    """What holds of every reply, whatever was asked."""
    response = wire.decode_response(reply)
    if response.transaction_id.to_bytes(4, "big") != request[12:16]:
        raise Finding("a reply to another transaction")
    if len(reply) > _MOST[IPV6 if is_v6 else IPV4]:
        raise Finding(f"a reply of {len(reply)} bytes")
    if not proven and len(reply) > len(request):
        raise Finding(f"a reply of {len(reply)} bytes to {len(request)} of who is not proven")
    if not proven and not isinstance(response, ConnectResponse | ErrorResponse):
        raise Finding("who is not proven is told of a swarm")
