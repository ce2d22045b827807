"""Old news for Redis: what a node heard while it could not write, each entry unless something newer is known.

First the swarm hashes of both roles and the memory of stops are asked, then only what is newest is written, by scripts
that compare once more where the data is. What another node writes between the two, in another hash than the one that
is written, is found when the same is asked again: whoever comes last then sees both, and removes what is older.
"""

from __future__ import annotations

from collections.abc import Sequence

from udptracker.core.swarm import Role
from udptracker.core.wire import Event
from udptracker.redis.link import Replies
from udptracker.redis.segment import Segment, segment
from udptracker.storage.redis import scripts
from udptracker.storage.redis.layout import (
    COMMANDS,
    STAMP_DIGITS,
    command,
    downloads_key,
    group,
    info_hash_counter,
    peers_counter,
    stamp_end,
    stopped_key,
    swarm_key,
)
from udptracker.storage.standby import Entry


class Replay:
    """Commands and replies of one chunk, without I/O: `questions`, `writes`, `read`, `questions`, `repairs`,
    `read_repairs`, in this order.

    Args:
        entries: one for each peer.
        stopped_milliseconds: how long a `stopped` is remembered, 0 for not at all.
    """

    def __init__(self, entries: Sequence[Entry], stopped_milliseconds: int) -> None:
        self.changes: list[tuple[bytes, int]] = []
        """(counter, change) for each field that was new or removed."""
        self._entries = entries
        self._stopped_milliseconds = stopped_milliseconds
        self._newest: list[Entry] = []
        self._repaired: list[bytes] = []

    def questions(self) -> list[Segment]:
        """When each peer was last heard of, as a seeder, as a leecher, and as stopped."""
        segments = []
        for family, info_hash, peer, *_ in self._entries:
            for role in Role:
                key = swarm_key(family, role, info_hash)
                segments.append(segment(key, "HGET", key, peer))
            key = stopped_key(family, info_hash, peer)
            segments.append(segment(key, "GET", key))
        return segments

    def writes(self, known: Replies) -> list[Segment]:
        """The writes for the entries that are newer than what is `known`."""
        segments: list[Segment] = []
        for at, entry in enumerate(self._entries):
            stamp = b"%d" % entry.stamp
            times = _valid_times(known[3 * at : 3 * at + 3])
            # What is as new is most likely our own write whose reply got lost; to write it again does no harm.
            if all(time <= stamp for time in times):
                self._newest.append(entry)
                segments += self._write(entry, stamp)
        return segments

    def _write(self, entry: Entry, stamp: bytes) -> list[Segment]:
        """Three segments each, so that their replies are found again: on the seeders, on the leechers, and a third."""
        family, info_hash, peer, role, event, *_ = entry
        seeders, leechers = (swarm_key(family, each, info_hash) for each in (Role.SEEDER, Role.LEECHER))
        if event is Event.STOPPED:
            key = stopped_key(family, info_hash, peer)
            remember = segment(key, "SET", key, stamp, "PX", str(max(self._stopped_milliseconds, 1)))
            return [scripts.drop_older(seeders, peer, stamp), scripts.drop_older(leechers, peer, stamp), remember]
        register = (COMMANDS[family, role].register, info_hash.hex().encode(), stamp_end(stamp))
        registration = Segment(group(family), b"".join(register), 1)
        if role is Role.SEEDER:
            put, drop = scripts.put_newer(seeders, peer, stamp), scripts.drop_older(leechers, peer, stamp)
            return [put, drop, registration]
        put, drop = scripts.put_newer(leechers, peer, stamp), scripts.drop_older(seeders, peer, stamp)
        return [drop, put, registration]

    def read(self, replies: Replies) -> list[Segment]:
        """Take the replies to the writes; what is to be sent yet: a download for each graduation."""
        downloads: list[Segment] = []
        for at, entry in enumerate(self._newest):
            family, info_hash, _, role, event, _, graduated = entry
            on_seeders, on_leechers, registered = replies[3 * at : 3 * at + 3]
            stopped = event is Event.STOPPED
            for each, changed in ((Role.SEEDER, on_seeders), (Role.LEECHER, on_leechers)):
                if changed:
                    self.changes.append((peers_counter(family, each), 1 if each is role and not stopped else -1))
            if role is Role.SEEDER and not stopped and registered == 1:
                self.changes.append((info_hash_counter(family), 1))
            if graduated or (event is Event.COMPLETED and role is Role.SEEDER and on_leechers):
                key = downloads_key(family, info_hash)
                downloads.append(Segment(key, command(b"HINCRBY", key, info_hash, b"1"), 1))
        return downloads

    def repairs(self, known: Replies) -> list[Segment]:
        """What removes a peer from the roles in which it is older than what is `known` of it elsewhere."""
        segments: list[Segment] = []
        for at, (family, info_hash, peer, *_) in enumerate(self._entries):
            times = known[3 * at : 3 * at + 3]
            newest = max(_valid_times(times), default=b"")
            for role, time in zip(Role, times, strict=False):
                if time is not None and time != newest and newest:
                    segments.append(scripts.drop_older(swarm_key(family, role, info_hash), peer, newest))
                    self._repaired.append(peers_counter(family, role))
        return segments

    def read_repairs(self, replies: Replies) -> None:
        """Take the replies to the repairs."""
        self.changes += [(counter, -1) for counter, dropped in zip(self._repaired, replies, strict=True) if dropped]


def _valid_times(times: Sequence[bytes | None]) -> list[bytes]:
    """Those that can be compared as text: the others are absent, or broken and older than any."""
    return [time for time in times if time is not None and len(time) == STAMP_DIGITS]
