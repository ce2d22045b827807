"""The tracker without I/O: bytes in, a reply, nothing, or a question for the store out.

`receive` is called for every datagram and `respond` for every answer of the store. Neither blocks, reads a clock
or draws from a random source of its own: `now` and `draw` are arguments, so a test, a fuzzer or another transport
can drive them without an event loop.

A sender is proven once it brings a connection id that was issued to its address. Until then nothing is sent to it
that is longer than what it sent, since its address may be somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, NamedTuple

from udptracker.core import policy as rules
from udptracker.core import wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.reasons import (
    BAD_CONNECTION_ID,
    CONNECT_WITHOUT_MAGIC,
    INTERNAL_ERROR,
    INVALID_PORT,
    MALFORMED_EVENT,
    SHORT_PACKET,
    UNKNOWN_ACTION,
)
from udptracker.core.swarm import (
    IPV4,
    IPV6,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    Role,
    ScrapeOperation,
    StoreError,
    compact_endpoint,
    pack_peer_v4,
    pack_peer_v6,
)
from udptracker.core.wire import Action, Event

_CONNECT_V4, _ANNOUNCE_V4, _SCRAPE_V4 = 0, 2, 4  # places in Counters.requests; the IPv6 ones follow each

_CONNECT, _ANNOUNCE, _SCRAPE, _ANNOUNCE_V6 = map(
    int, (Action.CONNECT, Action.ANNOUNCE, Action.SCRAPE, Action.ANNOUNCE_V6)
)
_SEEDER, _LEECHER, _STOPPED = Role.SEEDER, Role.LEECHER, Event.STOPPED
_EVENTS: Final = wire.EVENTS

_ANNOUNCE_BYTES: Final = wire.ANNOUNCE_REQUEST_BYTES
_unpack_head, _unpack_announce = wire.unpack_head, wire.unpack_announce

_new_tuple = tuple.__new__


class Pending(NamedTuple):
    """A request that the store must answer first. `action` is echoed: old IPv6 announces have one of their own."""

    operation: Operation
    transaction_id: int
    action: int


class Tracker:
    """Decides what every datagram is answered with.

    Args:
        connection_ids: issues and checks connection ids.
        policy: the operator's choices.
        draw: a source of uniform numbers in [0, 1).
        counters: where requests, refusals and drops are counted.
    """

    def __init__(
        self, connection_ids: ConnectionIds, policy: Policy, draw: Callable[[], float], counters: Counters
    ) -> None:
        self._issue = connection_ids.issue
        self._valid = connection_ids.valid
        self._policy = policy
        self._draw = draw
        self._counters = counters
        self._requests = counters.requests
        self._limit_v4 = rules.num_want_limit(policy, IPV4)
        self._limit_v6 = rules.num_want_limit(policy, IPV6)
        self._interval = policy.announce_interval
        self._jittered = policy.interval_jitter > 0

    def receive(self, data: bytes, host: str, now: float) -> bytes | Pending | None:
        """The reply to a datagram from `host` at `now` (Unix seconds), what to ask the store, or None for silence."""
        if len(data) < wire.MIN_REQUEST_BYTES:
            self._counters.dropped[SHORT_PACKET] += 1
            return None
        connection_id, action, transaction_id = _unpack_head(data)
        source = _packed(host)
        is_v6 = len(source) == 16
        if action == _CONNECT:
            if connection_id != wire.PROTOCOL_ID:
                self._counters.dropped[CONNECT_WITHOUT_MAGIC] += 1
                return None
            self._requests[_CONNECT_V4 + is_v6] += 1
            return wire.encode_connect_response(transaction_id, self._issue(source, now))
        if not self._valid(connection_id, source, now):
            return self._refuse_unproven(transaction_id, BAD_CONNECTION_ID, len(data))
        try:
            if action in (_ANNOUNCE, _ANNOUNCE_V6):
                return self._announce(data, action, transaction_id, source, is_v6)
            if action == _SCRAPE:
                info_hashes = wire.decode_scrape(data)
                self._requests[_SCRAPE_V4 + is_v6] += 1
                del info_hashes[self._policy.max_scrape_infohashes :]
                return Pending(ScrapeOperation(IPV6 if is_v6 else IPV4, info_hashes), transaction_id, action)
            raise wire.WireError(UNKNOWN_ACTION)
        except wire.WireError as error:
            return self.refuse(transaction_id, str(error))

    def respond(self, pending: Pending, result: Result | StoreError) -> bytes:
        """The reply to a request that the store has answered."""
        operation, transaction_id, action = pending
        if isinstance(result, AnnounceResult):
            seeders, leechers, peers = result
            if (
                not peers
                and seeders + leechers <= 1
                and self._policy.return_own_peer_when_alone
                and isinstance(operation, AnnounceOperation)
                and operation.num_want
                and operation.event is not _STOPPED
            ):
                peers = compact_endpoint(operation.peer)
            interval = rules.interval(self._policy, self._draw()) if self._jittered else self._interval
            return wire.encode_announce_response(transaction_id, interval, leechers, seeders, peers, action)
        if isinstance(result, StoreError):
            return self.refuse(transaction_id, INTERNAL_ERROR)
        return wire.encode_scrape_response(transaction_id, result)

    def refuse(self, transaction_id: int, reason: str) -> bytes:
        """An error response to a proven sender, counted."""
        self._counters.refused[reason] += 1
        return wire.encode_error(transaction_id, reason)

    def _announce(self, data: bytes, action: int, transaction_id: int, source: bytes, is_v6: bool) -> Pending:
        if action == _ANNOUNCE and len(data) >= _ANNOUNCE_BYTES:
            fields = _unpack_announce(data)
        else:
            fields = wire.decode_announce(data, action)[:10]
        info_hash, peer_id, _, left, _, event_id, ip, _, num_want, port = fields
        if event_id > 3:
            raise wire.WireError(MALFORMED_EVENT)
        if port == 0:
            raise wire.WireError(INVALID_PORT)
        self._requests[_ANNOUNCE_V4 + is_v6] += 1
        if self._policy.allow_ip_spoofing:
            source = rules.announced_address(source, ip)
        if is_v6:
            family, peer, (default, most) = IPV6, pack_peer_v6(peer_id, port, source), self._limit_v6
        else:
            family, peer, (default, most) = IPV4, pack_peer_v4(peer_id, port, source), self._limit_v4
        event = _EVENTS[event_id]
        if num_want < 0:
            num_want = default
        elif num_want > most:
            num_want = most
        role = _LEECHER if left else _SEEDER  # whatever the event: a `completed` with bytes left is a leecher's
        operation: AnnounceOperation = _new_tuple(
            AnnounceOperation, (family, info_hash, peer, role, event, 0 if event is _STOPPED else num_want)
        )
        return _new_tuple(Pending, (operation, transaction_id, action))

    def _refuse_unproven(self, transaction_id: int, reason: str, received: int) -> bytes | None:
        reply = wire.encode_error(transaction_id, reason)
        if len(reply) > received:
            self._counters.dropped[reason] += 1
            return None
        self._counters.refused[reason] += 1
        return reply


def _packed(host: str) -> bytes:
    """The packed address of a socket's host: 4 bytes, also for an IPv4-mapped one, or 16; a zone is cut off."""
    if ":" not in host:
        return inet_pton(AF_INET, host)
    packed = inet_pton(AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(rules.MAPPED_PREFIX) else packed
