"""Why a request is refused, left without an answer, or fails in the store: every label value of those counters.

They are all here so that each of them is exported as zero before it first occurs: a rate over a series that begins
with its first event misses that event. Texts of refusals are sent to clients, and are chihaya's where it has them.
"""

from __future__ import annotations

from typing import Final

from udptracker.core.swarm import StoreError, StoreUnavailable
from udptracker.core.wire import MALFORMED

BAD_CONNECTION_ID: Final = "bad connection ID"
MALFORMED_EVENT: Final = "malformed event ID"
UNKNOWN_ACTION: Final = "unknown action ID"
INVALID_PORT: Final = "invalid port"
INTERNAL_ERROR: Final = "internal error"
UNAPPROVED_TORRENT: Final = "unapproved torrent"
UNAPPROVED_CLIENT: Final = "unapproved client"
UNAPPROVED_PASSKEY: Final = "unapproved passkey"
MISSING_JWT: Final = "unapproved request: missing jwt"
INVALID_JWT: Final = "unapproved request: invalid jwt"
UNDECIDED: Final = "no decision, try again later"
TOO_MANY_PEERS: Final = "too many peers"
TOO_MANY_PEERS_IN_SWARM: Final = "too many peers in this torrent"

REFUSALS: Final = (
    BAD_CONNECTION_ID,
    MALFORMED,
    MALFORMED_EVENT,
    UNKNOWN_ACTION,
    INVALID_PORT,
    INTERNAL_ERROR,
    UNAPPROVED_TORRENT,
    UNAPPROVED_CLIENT,
    UNAPPROVED_PASSKEY,
    MISSING_JWT,
    INVALID_JWT,
    UNDECIDED,
    TOO_MANY_PEERS,
    TOO_MANY_PEERS_IN_SWARM,
)
"""Reasons of error responses: `Counters.refused`."""

SHORT_PACKET: Final = "short packet"
CONNECT_WITHOUT_MAGIC: Final = "connect without magic"
QUEUE_FULL: Final = "queue full"
STALE: Final = "stale"
REPLY_WOULD_BLOCK: Final = "reply would block"
SOCKET_ERROR: Final = "socket error"
UNANSWERABLE: Final = "source port 0"
UNFORESEEN: Final = "unforeseen error"
DENIED_NETWORK: Final = "denied network"
CONNECT_LIMIT: Final = "connect limit"
ANNOUNCE_LIMIT: Final = "announce limit"
SCRAPE_LIMIT: Final = "scrape limit"
BAD_ID_LIMIT: Final = "bad connection ID limit"

DROPS: Final = (
    SHORT_PACKET,
    CONNECT_WITHOUT_MAGIC,
    BAD_CONNECTION_ID,
    QUEUE_FULL,
    STALE,
    REPLY_WOULD_BLOCK,
    SOCKET_ERROR,
    UNANSWERABLE,
    UNFORESEEN,
    DENIED_NETWORK,
    CONNECT_LIMIT,
    ANNOUNCE_LIMIT,
    SCRAPE_LIMIT,
    BAD_ID_LIMIT,
)
"""Reasons of silence: `Counters.dropped`. With `BAD_CONNECTION_ID`, the address was told so shortly before, or a
refusal would be longer than the request."""

STORE_ERRORS: Final = (StoreUnavailable.__name__, StoreError.__name__)
"""Kinds of failed operations: `Counters.store_errors`. One that nobody foresaw is counted by its own name."""

MOST_PEERS: Final = "max_peers"
MOST_SWARMS: Final = "max_swarms"
BOUNDS: Final = (MOST_PEERS, MOST_SWARMS)
"""What a store on memory has as many of as its setting of that name says: `Counters.unkept`."""
