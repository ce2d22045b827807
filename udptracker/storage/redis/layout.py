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
    udptracker_counted_{udptracker_downloads_IPv4_<4 hex>}_<40 hex>_<peer key>
                                               when a peer's download was counted, for as long, or until it has stopped;
                                               on a cluster in the slot of the hash in braces
    udptracker_left_IPv4                       sorted set: info hash -> second since when it has downloads and no peers
    udptracker_sweep_IPv4                      which of the hashes of downloads are looked through next for such
    udptracker_names_IPv4                      how many names the hash IPv4 had after the last walk
    udptracker_lost_IPv4                       stands there when a node found that a name is missing from it
    udptracker_reaper                          the lease of the node that reaps
    udptracker_ping                            written for a second to see that the server takes writes
    udptracker_generation                      a random value that a server loses when it is emptied; on a cluster one
                                               for each server, with a number behind it
    udptracker_doubts                          hash: node -> since when what others wrote may have been undone
    udptracker_clock_jump                      nanoseconds that the server's clock jumped ahead within a peer's lifetime

Every length but that of a count is fixed, so the commands of the hot path are pieces joined around what varies: a
tenth of the cost of packing arguments one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from udptracker.core.swarm import FAMILIES, PEER_KEY_BYTES, Role

REAPER_LEASE: Final = b"udptracker_reaper"

PING: Final = b"udptracker_ping"
GENERATION: Final = b"udptracker_generation"
DOUBTS: Final = b"udptracker_doubts"
CLOCK_JUMP: Final = b"udptracker_clock_jump"
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


_MOST_DIGITS: Final = len(str(-(2**63)))


def parse_count(reply: object) -> int:
    """A reply to GET of a counter; one that is absent or broken is 0, also by more digits than Redis counts to."""
    try:
        return int(reply) if isinstance(reply, bytes) and len(reply) <= _MOST_DIGITS else 0
    except ValueError:
        return 0


def downloads_key(family: int, info_hash: bytes) -> bytes:
    """The key of the hash that holds an info hash's downloads, with the info hash itself as the field."""
    return b"udptracker_downloads_IPv%d_%b" % (family, info_hash[:2].hex().encode())


def stopped_key(family: int, info_hash: bytes, peer: bytes) -> bytes:
    """The key that says when a peer stopped."""
    return b"udptracker_stopped_IPv%d_%b_%b" % (family, info_hash.hex().encode(), peer)


def counted_key(family: int, info_hash: bytes, peer: bytes) -> bytes:
    """The key that says that a peer's download was counted."""
    return b"udptracker_counted_{%b}_%b_%b" % (downloads_key(family, info_hash), info_hash.hex().encode(), peer)


def left_key(family: int) -> bytes:
    """The key of the info hashes that have downloads and no peers."""
    return b"udptracker_left_IPv%d" % family


def sweep_key(family: int) -> bytes:
    """The key that says which hashes of downloads are looked through next."""
    return b"udptracker_sweep_IPv%d" % family


def names_key(family: int) -> bytes:
    """The key that says how many names a family's hash had."""
    return b"udptracker_names_IPv%d" % family


def lost_key(family: int) -> bytes:
    """The key that says that a family's hash has lost names."""
    return b"udptracker_lost_IPv%d" % family


def bulk(value: bytes) -> bytes:
    """One argument of a command as the protocol has it."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def command(*arguments: bytes) -> bytes:
    """A command packed for the wire."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(map(bulk, arguments)))


END: Final = b"\r\n"

COUNTS: Final = [END + bulk(b"%d" % count) for count in range(1024)]
"""The end of a command whose last two arguments are a key and a count, from behind the key on, by the count."""


def stamp_end(stamp: bytes) -> bytes:
    """The end of a command whose last argument is a modification time, from behind the argument before it on."""
    return b"%b%b" % (END, bulk(stamp))


@final
class RoleCommands:
    """Commands on the swarm hashes of one role of one family, in pieces to be joined around what varies.

    With `hex`, the info hash in 40 lower-case digits, and `end` of `stamp_end`:

    HSET: put, hex, peer, a peer key, end · HDEL: drop, hex, peer, a peer key, END · HLEN: size, hex, END ·
    HLEN and HRANDFIELD: size, hex, random, hex, COUNTS[n] · HSET of the name in the family's hash: register, hex, end
    """

    __slots__ = ("counter", "drop", "key", "peer", "peer_bytes", "put", "random", "register", "size")

    def __init__(self, family: int, role: Role) -> None:
        self.key = b"IPv%d_%b_" % (family, _LETTERS[role])
        self.counter = peers_counter(family, role)
        on_key = b"$%d\r\n%b" % (_SWARM_KEY_BYTES, self.key)
        self.put = b"*4\r\n%b%b" % (bulk(b"HSET"), on_key)
        self.drop = b"*3\r\n%b%b" % (bulk(b"HDEL"), on_key)
        self.size = b"*2\r\n%b%b" % (bulk(b"HLEN"), on_key)
        self.random = b"%b*3\r\n%b%b" % (END, bulk(b"HRANDFIELD"), on_key)
        self.register = b"*4\r\n%b%b%b" % (bulk(b"HSET"), bulk(group(family)), on_key)
        self.peer_bytes = PEER_KEY_BYTES[family]
        self.peer = b"%b$%d\r\n" % (END, self.peer_bytes)


@final
class DownloadsCommands:
    """HGET of the downloads of an info hash of one family: get, the first 4 digits of hex, field, info hash, END."""

    __slots__ = ("field", "get", "key")

    def __init__(self, family: int) -> None:
        self.key = b"udptracker_downloads_IPv%d_" % family
        self.get = b"*3\r\n%b$%d\r\n%b" % (bulk(b"HGET"), len(self.key) + 4, self.key)
        self.field = b"%b$20\r\n" % END


DOWNLOADS: Final = {family: DownloadsCommands(family) for family in FAMILIES}
COMMANDS: Final = {(family, role): RoleCommands(family, role) for family in FAMILIES for role in Role}


def sum_changes(changes: Iterable[tuple[bytes, int]]) -> list[tuple[bytes, bytes]]:
    """(key, packed INCRBY) for each counter whose changes do not cancel out."""
    totals: dict[bytes, int] = {}
    for key, change in changes:
        totals[key] = totals.get(key, 0) + change
    return [(key, command(b"INCRBY", key, b"%d" % change)) for key, change in totals.items() if change]
