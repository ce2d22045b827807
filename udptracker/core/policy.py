"""Pure decisions: how many peers an announce gets, when the client shall come back, which address is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from udptracker.core import wire
from udptracker.core.swarm import IPV4, IPV6

_ROOM: Final = {
    IPV4: (wire.MAX_PAYLOAD_IPV4 - wire.ANNOUNCE_RESPONSE_BYTES) // wire.COMPACT_BYTES[IPV4],
    IPV6: (wire.MAX_PAYLOAD_IPV6 - wire.ANNOUNCE_RESPONSE_BYTES) // wire.COMPACT_BYTES[IPV6],
}
"""The most peers that fit an unfragmented announce response, by family: 242 and 79."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's choices. Intervals in seconds; `interval_jitter` is the most that is added to an interval."""

    announce_interval: int = 1800
    interval_jitter: int = 0
    default_numwant: int = 50
    max_numwant: int = 100
    max_scrape_infohashes: int = 74
    allow_ip_spoofing: bool = False
    return_own_peer_when_alone: bool = True


def num_want_limit(policy: Policy, family: int) -> tuple[int, int]:
    """(default, maximum) of peers in an answer of this family, the most that fits one datagram considered."""
    most = min(policy.max_numwant, _ROOM[family])
    return min(policy.default_numwant, most), most


def interval(policy: Policy, draw: float) -> int:
    """Seconds until the next announce; `draw` is uniform in [0, 1) and spreads clients over the jitter."""
    return policy.announce_interval + int(draw * (policy.interval_jitter + 1))


def announced_address(source: bytes, field: bytes) -> bytes:
    """The address a spoofing-tolerant tracker believes: the announce's field if it is of the same family and may be a
    host's of which others have use."""
    return field if len(field) == len(source) and _is_of_use(field) else source


def _is_of_use(address: bytes) -> bool:
    """Whether peers may be told of a packed address. No use to anyone, or a weapon: what stands for no host, for many,
    or for whoever reads it, and what is known on one link only (RFC 6890, RFC 4291)."""
    first, second = address[0], address[1]
    if (
        len(address) == 4
    ):  # 0.0.0.0/8 this network, 127.0.0.0/8 loopback, 169.254.0.0/16, from 224 multicast to broadcast
        return 0 < first < 224 and first != 127 and not (first == 169 and second == 254)
    # ::/80 unspecified, loopback, mapped and compatible IPv4 addresses; fe80::/10 link-local; ff00::/8 multicast
    return any(address[:10]) and first != 0xFF and not (first == 0xFE and second & 0xC0 == 0x80)
