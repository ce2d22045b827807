"""Pure decisions: how many peers an announce gets, when the client shall come back, which address is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from udptracker.core import wire
from udptracker.core.networks import NetworkSet
from udptracker.core.swarm import IPV4, IPV6

_ROOM: Final = {
    IPV4: (wire.MAX_PAYLOAD_IPV4 - wire.ANNOUNCE_RESPONSE_BYTES) // wire.COMPACT_BYTES[IPV4],
    IPV6: (wire.MAX_PAYLOAD_IPV6 - wire.ANNOUNCE_RESPONSE_BYTES) // wire.COMPACT_BYTES[IPV6],
}
"""The most peers that fit an unfragmented announce response, by family: 242 and 79."""

_NAT64: Final = bytes.fromhex("0064ff9b0000000000000000")
_6TO4: Final = bytes.fromhex("2002")
_TEREDO: Final = bytes.fromhex("20010000")
_ISATAP: Final = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))
"""What IPv6 addresses have before an IPv4 address that leads to a host (RFC 6052, RFC 3056, RFC 4380, RFC 5214)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's choices. Intervals in seconds; `interval_jitter` is the most that is added to an interval.
    `ip_spoofing_networks` are those whose senders may name another address, if not all may."""

    announce_interval: int = 1800
    interval_jitter: int = 0
    default_numwant: int = 50
    max_numwant: int = 100
    max_scrape_infohashes: int = 74
    allow_ip_spoofing: bool = False
    ip_spoofing_networks: tuple[str, ...] = ()
    return_own_peer_when_alone: bool = True


def num_want_limit(policy: Policy, family: int) -> tuple[int, int]:
    """(default, maximum) of peers in an answer of this family, the most that fits one datagram considered."""
    most = min(policy.max_numwant, _ROOM[family])
    return min(policy.default_numwant, most), most


def interval(policy: Policy, draw: float) -> int:
    """Seconds until the next announce; `draw` is uniform in [0, 1) and spreads clients over the jitter."""
    return policy.announce_interval + int(draw * (policy.interval_jitter + 1))


def announced_address(source: bytes, field: bytes, believed: NetworkSet | None = None) -> bytes:
    """The address a spoofing-tolerant tracker believes: the announce's field, if it is of the same family and may be a
    host's of which others have use.

    Args:
        believed: networks whose senders are; None if all are.
    """
    if len(field) != len(source) or not _is_of_use(field) or (believed is not None and not believed.have(source)):
        return source
    return field


def _is_of_use(address: bytes) -> bool:
    """Whether peers may be told of a packed address. No use to anyone, or a weapon: what stands for no host, for many,
    or for whoever reads it, and what is known on one link only (RFC 6890, RFC 4291), also as the IPv4 address within an
    IPv6 one that leads to it. Not that of documentation or of private networks: it reaches nobody, or a neighbour."""
    first, second = address[0], address[1]
    if (
        len(address) == 4
    ):  # 0.0.0.0/8 this network, 127.0.0.0/8 loopback, 169.254.0.0/16, from 224 multicast to broadcast
        return 0 < first < 224 and first != 127 and not (first == 169 and second == 254)
    if first == 0:  # ::/8 unspecified, loopback; mapped, compatible, translated IPv4 addresses; and nothing else
        return address.startswith(_NAT64) and _is_of_use(address[12:])
    if first == 0xFF or (first == 0xFE and second & 0xC0 == 0x80):  # ff00::/8 multicast; fe80::/10 link-local
        return False
    if address.startswith(_6TO4):
        return _is_of_use(address[2:6])
    if address.startswith(_TEREDO):  # of a client, with every bit turned
        return _is_of_use(bytes([0xFF ^ byte for byte in address[12:]]))
    return address[8:12] not in _ISATAP or _is_of_use(address[12:])
