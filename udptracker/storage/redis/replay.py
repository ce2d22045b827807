"""Old news for Redis: what a node heard while it could not write, each entry unless something newer is known.

First the swarm hashes of both roles and the memory of stops are asked, then only what is newest is written, by scripts
that compare once more where the data is. What another node writes between the two, in another hash than the one that
is written, is found when the same is asked again: whoever comes last then sees both, and removes what is older.

A value that is broken costs the entries that need it: they are left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hiredis import ReplyError

from udptracker.core.swarm import Role
from udptracker.redis.link import Replies
from udptracker.redis.segment import Segment, segment
from udptracker.storage.redis import scripts
from udptracker.storage.redis.downloads import count_download
from udptracker.storage.redis.layout import (
    COMMANDS,
    STAMP_DIGITS,
    group,
    info_hash_counter,
    peers_counter,
    stamp_end,
    stopped_key,
    swarm_key,
)
from udptracker.storage.replayable import Entry


class Replay:
    """Commands and replies of one chunk, without I/O: `questions`, `writes`, `read`, `read_downloads`, `questions`,
    `repairs`, `read_repairs`, in this order. Replies may be errors if `is_broken_value` says so of them.

    Args:
        entries: one for each peer.
        stopped_milliseconds: how long a `stopped` is remembered, 0 for not at all.
    """

    def __init__(self, entries: Sequence[Entry], stopped_milliseconds: int) -> None:
        self.changes: list[tuple[bytes, int]] = []
        """(counter, change) for each field that was new or removed."""
        self.broken: list[str] = []
        """The key and the server's words for each value that kept something from being written."""
        self.written = 0
        """How many entries are what the store has of their peers now."""
        self._entries = entries
        self._stopped_milliseconds = stopped_milliseconds
        self._newest: list[Entry] = []
        self._downloads: list[bytes] = []
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
            found = known[3 * at : 3 * at + 3]
            keys = [swarm_key(entry.family, role, entry.info_hash) for role in Role]
            broken = self._note(zip(keys, found, strict=False))
            # A stop that cannot be read is older than any, as a time that cannot.
            self._note([(stopped_key(entry.family, entry.info_hash, entry.peer), found[2])])
            if broken:
                continue
            times = _valid_times(found)
            # What is as new is most likely our own write whose reply got lost; to write it again does no harm.
            if all(time <= stamp for time in times):
                self._newest.append(entry)
                segments += self._write(entry, stamp)
        return segments

    def _write(self, entry: Entry, stamp: bytes) -> list[Segment]:
        """Three segments each, so that their replies are found again: on the seeders, on the leechers, and a third."""
        family, info_hash, peer, role, stopped, *_ = entry
        seeders, leechers = (swarm_key(family, each, info_hash) for each in (Role.SEEDER, Role.LEECHER))
        if stopped:
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
            family, info_hash, _, role, stopped, _, completed, graduated = entry
            keys = [swarm_key(family, each, info_hash) for each in Role]
            third = group(family) if not stopped else b"a stop"
            on_seeders, on_leechers, registered = found = replies[3 * at : 3 * at + 3]
            if self._note(zip((*keys, third), found, strict=True)):
                continue
            self.written += 1
            for each, changed in ((Role.SEEDER, on_seeders), (Role.LEECHER, on_leechers)):
                if changed:
                    self.changes.append((peers_counter(family, each), 1 if each is role and not stopped else -1))
            if role is Role.SEEDER and not stopped and registered == 1:
                self.changes.append((info_hash_counter(family), 1))
            left_leechers = on_leechers and (stopped or role is Role.SEEDER)
            if graduated or (completed and left_leechers):
                lifetime = b"%d" % self._stopped_milliseconds if self._stopped_milliseconds else b""
                downloads.append(count_download(family, info_hash, entry.peer, b"%d" % entry.stamp, lifetime))
        self._downloads = [each.key for each in downloads]
        return downloads

    def read_downloads(self, replies: Replies) -> None:
        """Take the replies to what `read` returned."""
        self._note(zip(self._downloads, replies, strict=True))

    def repairs(self, known: Replies) -> list[Segment]:
        """What removes a peer from the roles in which it is older than what is `known` of it elsewhere."""
        segments: list[Segment] = []
        for at, (family, info_hash, peer, *_) in enumerate(self._entries):
            times = known[3 * at : 3 * at + 3]
            if any(isinstance(time, ReplyError) for time in times[:2]):
                continue
            newest = max(_valid_times(times), default=b"")
            for role, time in zip(Role, times, strict=False):
                if time is not None and time != newest and newest:
                    segments.append(scripts.drop_older(swarm_key(family, role, info_hash), peer, newest))
                    self._repaired.append(peers_counter(family, role))
        return segments

    def read_repairs(self, replies: Replies) -> None:
        """Take the replies to the repairs."""
        self.changes += [
            (counter, -1) for counter, dropped in zip(self._repaired, replies, strict=True) if dropped == 1
        ]

    def _note(self, found: Iterable[tuple[bytes, Any]]) -> bool:
        """Note which of these (key, reply) are broken; whether any is."""
        broken = [(key, reply) for key, reply in found if isinstance(reply, ReplyError)]
        self.broken += [f"{key.decode('ascii', 'backslashreplace')}: {reply}" for key, reply in broken]
        return bool(broken)


def _valid_times(times: Sequence[Any]) -> list[bytes]:
    """Those that can be compared as text: the others are absent, or broken and older than any."""
    return [time for time in times if isinstance(time, bytes) and len(time) == STAMP_DIGITS]
