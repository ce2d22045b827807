"""Keys, values and commands of chihaya's Redis layout, packed for the wire. No I/O.

    IPv4                       hash: names of the swarm hashes -> modification time
    IPv4_S_<40 hex>            hash: peer key -> modification time, the seeders of an info hash
    IPv4_L_<40 hex>            hash: the same for its leechers
    IPv4_infohash_count, IPv4_S_count, IPv4_L_count
                               counters: info hashes with seeders, seeders, leechers

and the same for IPv6. Times are Unix nanoseconds in decimal, 19 digits until the year 2286. Beside them, under names
that a chihaya node never walks over:

    udptracker_downloads_IPv4_<4 hex>          hash: info hash, 20 bytes -> downloads, spread over 65,536 hashes,
                                               which keeps each in Redis's compact encoding
    udptracker_stopped_IPv4_<40 hex>_<peer key>  when a peer stopped, for as long as it could be taken for alive
    udptracker_reaper                          the lease of the node that reaps
    udptracker_ping                            written for a second to see that the server takes writes

Every length but that of a count is fixed, so the commands of the hot path are one `%` on a template: a fifth of the
cost of packing arguments one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from struct import Struct
from typing import Final

from udptracker.core.swarm import FAMILIES, PEER_KEY_BYTES, Role
from udptracker.core.wire import COMPACT_BYTES

REAPER_LEASE: Final = b"udptracker_reaper"
PING: Final = b"udptracker_ping"
_SWARM_KEY_BYTES: Final = 47
STAMP_DIGITS: Final = 19
_LETTERS: Final = {Role.SEEDER: b"S", Role.LEECHER: b"L"}


def group(family: int) -> bytes:
    """The key of the hash that names the swarm hashes of a family."""
    return b"IPv%d" % family


def swarm_key(family: int, role: Role, info_hash: bytes) -> bytes:
    """The key of the hash that holds the peers of a role."""
    return b"IPv%d_%b_%b" % (family, _LETTERS[role], info_hash.hex().encode())


def parse_swarm_key(name: bytes) -> tuple[int, Role, bytes] | None:
    """(family, role, info hash) of the name of a swarm hash, or None if it is not one."""
    for family in FAMILIES:
        for role, letter in _LETTERS.items():
            if name.startswith(b"IPv%d_%b_" % (family, letter)):
                try:
                    info_hash = bytes.fromhex(name[7:].decode())
                except ValueError:
                    return None
                # Upper case and blanks are hexadecimal too, but nobody's name for a swarm.
                exact = len(info_hash) == 20 and swarm_key(family, role, info_hash) == name
                return (family, role, info_hash) if exact else None
    return None


def peers_counter(family: int, role: Role) -> bytes:
    """The key of the counter of peers in a role."""
    return b"IPv%d_%b_count" % (family, _LETTERS[role])


def info_hash_counter(family: int) -> bytes:
    """The key of the counter of info hashes that have seeders."""
    return b"IPv%d_infohash_count" % family


def parse_count(reply: object) -> int:
    """A reply to GET of a counter; one that is absent or broken is 0."""
    try:
        return int(reply) if isinstance(reply, bytes) else 0
    except ValueError:
        return 0


def downloads_key(family: int, info_hash: bytes) -> bytes:
    """The key of the hash that holds an info hash's downloads, with the info hash itself as the field."""
    return b"udptracker_downloads_IPv%d_%b" % (family, info_hash[:2].hex().encode())


def stopped_key(family: int, info_hash: bytes, peer: bytes) -> bytes:
    """The key that says when a peer stopped."""
    return b"udptracker_stopped_IPv%d_%b_%b" % (family, info_hash.hex().encode(), peer)


def bulk(value: bytes) -> bytes:
    """One argument of a command as the protocol has it."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def command(*arguments: bytes) -> bytes:
    """A command packed for the wire."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(map(bulk, arguments)))


COUNTS: Final = [bulk(b"%d" % count) for count in range(1024)]
"""The count argument of HRANDFIELD, packed."""


def _template(name: bytes, *lengths_or_literals: int | bytes, open_end: bool = False) -> bytes:
    """A command with a `%b` where a length is given; with `open_end` one more packed argument is to follow."""
    parts = [b"*%d\r\n" % (1 + len(lengths_or_literals) + open_end), bulk(name)]
    for item in lengths_or_literals:
        if isinstance(item, int):
            parts.append(b"$%d\r\n%%b\r\n" % item)
        else:
            parts.append(bulk(item))
    if open_end:
        parts.append(b"%b")
    return b"".join(parts)


class RoleCommands:
    """The templates for one role of one family. `hex` is the info hash in 40 lower-case digits.

    put: (hex, peer, stamp) -> HSET · drop: (hex, peer) -> HDEL · size: (hex) -> HLEN · read: (hex, hex, COUNTS[n])
    -> HLEN and HRANDFIELD · register: (hex, stamp) -> HSET of the name in the family's hash.
    """

    __slots__ = ("drop", "key", "put", "read", "register", "size")

    def __init__(self, family: int, role: Role) -> None:
        peer = PEER_KEY_BYTES[family]
        self.key = b"IPv%d_%b_%%b" % (family, _LETTERS[role])
        length = b"$%d\r\n%b\r\n" % (_SWARM_KEY_BYTES, self.key)

        def on_swarm(name: bytes, *lengths: int, open_end: bool = False) -> bytes:
            slot = b"$%d\r\n%%b\r\n" % _SWARM_KEY_BYTES
            return _template(name, _SWARM_KEY_BYTES, *lengths, open_end=open_end).replace(slot, length, 1)

        self.put = on_swarm(b"HSET", peer, STAMP_DIGITS)
        self.drop = on_swarm(b"HDEL", peer)
        self.size = on_swarm(b"HLEN")
        self.read = self.size + on_swarm(b"HRANDFIELD", open_end=True)
        self.register = b"*4\r\n%b%b%b$%d\r\n%%b\r\n" % (
            bulk(b"HSET"),
            bulk(group(family)),
            length,
            STAMP_DIGITS,
        )


def _downloads_commands(family: int) -> tuple[bytes, bytes]:
    """Templates of the key, from 4 hex digits, and of the HGET, from those and an info hash, of its downloads."""
    key = b"udptracker_downloads_IPv%d_%%b" % family
    length = len(downloads_key(family, bytes(20)))
    packed = _template(b"HGET", length, 20).replace(b"$%d\r\n%%b\r\n" % length, b"$%d\r\n%b\r\n" % (length, key), 1)
    return key, packed


DOWNLOADS: Final = {family: _downloads_commands(family) for family in FAMILIES}
COMMANDS: Final = {(family, role): RoleCommands(family, role) for family in FAMILIES for role in Role}


class _Splitters(dict[int, Callable[[bytes], tuple[bytes, ...]]]):
    """By a number of compact endpoints, what takes that many apart."""

    def __init__(self, family: int) -> None:
        self._bytes = COMPACT_BYTES[family]

    def __missing__(self, endpoints: int) -> Callable[[bytes], tuple[bytes, ...]]:
        made = self[endpoints] = Struct(f"{self._bytes}s" * endpoints).unpack
        return made


_SPLITTERS: Final = {family: _Splitters(family) for family in FAMILIES}
_ADDRESS_THEN_PORT: Final = {family: (*range(22, PEER_KEY_BYTES[family]), 20, 21) for family in FAMILIES}
"""Where in a peer key the bytes of its compact endpoint are."""


def compact_endpoints(lists: Sequence[list[bytes]], family: int) -> list[bytes]:
    """For each list of peer keys their compact endpoints, joined, in the same order.

    An endpoint that several keys of a list share is there once; a field that is not a peer key is left out. Byte after
    byte of all endpoints at once is half the cost of endpoint after endpoint.
    """
    key_bytes, endpoint_bytes = PEER_KEY_BYTES[family], COMPACT_BYTES[family]
    keys = b"".join(chain.from_iterable(lists))
    count = sum(map(len, lists))
    if len(keys) != count * key_bytes:
        return compact_endpoints([[key for key in fields if len(key) == key_bytes] for fields in lists], family)
    turned = bytearray(count * endpoint_bytes)
    for to, at in enumerate(_ADDRESS_THEN_PORT[family]):
        turned[to::endpoint_bytes] = keys[at::key_bytes]
    packed, splitters = bytes(turned), _SPLITTERS[family]
    compact, begin = [], 0
    for fields in lists:
        end = begin + len(fields) * endpoint_bytes
        peers = packed[begin:end]
        endpoints = splitters[len(fields)](peers)
        compact.append(peers if len(set(endpoints)) == len(fields) else b"".join(dict.fromkeys(endpoints)))
        begin = end
    return compact


def sum_changes(changes: Iterable[tuple[bytes, int]]) -> list[tuple[bytes, bytes]]:
    """(key, packed INCRBY) for each counter whose changes do not cancel out."""
    totals: dict[bytes, int] = {}
    for key, change in changes:
        totals[key] = totals.get(key, 0) + change
    return [(key, command(b"INCRBY", key, b"%d" % change)) for key, change in totals.items() if change]
