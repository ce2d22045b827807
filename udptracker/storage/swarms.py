"""Swarms packed in memory: what the memory store holds, and what a snapshot of it is made of and read into.

Each swarm keeps the peers of a role in a list that is always in random order: a newcomer is appended and swapped
to a uniformly random place, a leaver's place is taken by the last. A random choice is then a slice from a random
offset, whatever the size of the swarm. The place of a peer is found by a look through the list while that is short,
as most are, and by a dictionary once it is long.

A peer is its endpoint here: a client that restarts with a new peer id replaces itself, and an answer cannot hold an
endpoint twice. When it was last heard of is kept in 31-bit seconds since the epoch of the store; the last bit of that
word tells whether the peer's download was counted, so that one that completes again and again counts once until it has
stopped.

Swarms are spread over 256 dictionaries, so that none grows so large that its resizing or the copy of its keys would be
felt: by the hash of the info hash, whose key is the process's own, since who makes torrents may choose what their info
hashes begin with. The downloads of a swarm that has lost its last peer are kept for
`DOWNLOADS_KEPT_SECONDS`, and of at most `MOST_DOWNLOADS_KEPT` such swarms a family, those that were left first going
first.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, final

from mypy_extensions import i32, mypyc_attr

from udptracker.core.swarm import SEEDER, Role, keyed

DOWNLOADS_KEPT_SECONDS: Final = 7 * 86_400
MOST_DOWNLOADS_KEPT: Final = 100_000
COUNTED: Final = 1
LAST_SHARD: Final = 255

SHORT: Final = 16
_LONG: Final = 32
"""Peers down to which a list loses its dictionary, and beyond which it gets one: 300 bytes and three cache misses."""
_NOTHING: Final = b""
"""What a slice of a list is added to: bytes are made so at two thirds of what `bytes` takes."""
_SHRUNK: Final = 4
_TABLE: Final = 10_000
"""A dictionary is made anew, so that its table fits it, once more than `_SHRUNK` times of what is left was removed from
it, and if no more than `_TABLE` is left, which takes about 2 ms."""


@final
@mypyc_attr(acyclic=True)
class Peers:
    """The peers of one role in one swarm, in random order, with the word each was last heard of by: twice the second,
    and `COUNTED` if its download was counted.

    `order` holds the compact endpoints, `width` bytes each, one after the other: a slice of it is an answer, and
    lies in a few cache lines however large the swarm is. `places` is None while `order` is short.
    """

    __slots__ = ("heard", "order", "places", "width")

    def __init__(self, width: int, order: bytearray | None = None, heard: array[int] | None = None) -> None:
        self.width = width
        self.order = bytearray() if order is None else order
        self.heard = array("I") if heard is None else heard
        self.places: dict[bytes, int] | None = None
        if len(self.heard) > _LONG:
            self._keep_places()

    def find(self, endpoint: bytes) -> int:
        """The place of a peer, -1 if it is not there."""
        if self.places is not None:
            return self.places.get(endpoint, -1)
        order, width = self.order, self.width
        at = order.find(endpoint)
        while at % width and at > 0:  # the same bytes across two others
            at = order.find(endpoint, at + 1)
        return at // width

    def add(self, endpoint: bytes, word: int, draw: Callable[[], float]) -> int:
        """A newcomer, at a uniformly random place, which is returned."""
        order, heard, places = self.order, self.heard, self.places
        last = len(heard)
        at = int(draw() * (last + 1))
        if at == last:
            order += endpoint
            heard.append(word)
        else:
            begin = at * self.width
            moved = bytes(order[begin : begin + self.width])
            order += moved
            heard.append(heard[at])
            order[begin : begin + self.width] = endpoint
            heard[at] = word
            if places is not None:
                places[moved] = last
        if places is not None:
            places[endpoint] = at
        elif last >= _LONG:
            self._keep_places()
        return at

    def extend(self, endpoints: list[bytes], heard: array[int]) -> None:
        """Others, in random order, none of whom is there yet: behind all there are."""
        last = len(self.heard)
        self.order += b"".join(endpoints)
        self.heard += heard
        if self.places is not None:
            self.places.update(zip(endpoints, range(last, len(self.heard)), strict=True))
        elif len(self.heard) > _LONG:
            self._keep_places()

    def has_none_of(self, endpoints: list[bytes]) -> bool:
        """Whether none of these is there."""
        if self.places is not None:
            return self.places.keys().isdisjoint(endpoints)
        return all(self.find(endpoint) < 0 for endpoint in endpoints)

    def remove(self, at: int) -> int:
        """The peer at a place, whose word is returned; the last one takes the place."""
        order, width, places = self.order, self.width, self.places
        last = bytes(order[-width:])
        removed = self.heard[at]
        word = self.heard.pop()
        begin = at * width
        if places is not None:
            del places[bytes(order[begin : begin + width])]
        if at < len(self.heard):
            order[begin : begin + width] = last
            self.heard[at] = word
            if places is not None:
                places[last] = at
        del order[-width:]
        if places is not None and len(self.heard) <= SHORT:
            self.places = None
        return removed

    def remove_stale(self, start: int, stop: int, second: int) -> int:
        """Remove those of the places from `start` to `stop` that were last heard of at `second` or before."""
        heard, newest = self.heard, 2 * second + COUNTED
        if min(heard[start:stop], default=newest + 1) > newest:
            return 0
        removed = 0
        for at in range(min(stop, len(heard)) - 1, start - 1, -1):
            if heard[at] <= newest:
                self.remove(at)
                removed += 1
        return removed

    def shrink(self, removed: int) -> None:
        """Let go of room that was needed for so many more."""
        left = len(self.heard)
        if self.places is not None and removed > _SHRUNK * left and left <= _TABLE:
            self._keep_places()

    def _keep_places(self) -> None:
        """Make the dictionary, all of it new: keys of before lie between those that are gone, and hold their memory."""
        order, width = bytes(self.order), self.width
        self.places = {order[nth * width : (nth + 1) * width]: nth for nth in range(len(self.heard))}

    def discard(self, endpoint: bytes) -> int:
        """Remove a peer; the word it was last heard of by, -1 if it is not there."""
        at = self.find(endpoint)
        return -1 if at < 0 else self.remove(at)

    def sample(self, count: int, draw: Callable[[], float]) -> bytes:
        """`count` peers, or all there are: the slice from a random place on, around the end."""
        size = len(self.heard)
        if count >= size:
            return _NOTHING + self.order
        start = int(draw() * size)
        return self._slice(start, start + count, size, size)

    def sample_without(self, skip: int, count: int, draw: Callable[[], float]) -> bytes:
        """`count` peers but the one at place `skip`, or all others: a slice of the list with that one cut out of it."""
        others = len(self.heard) - 1
        if count >= others:
            return self._cut(0, others, skip)
        start = int(draw() * others)
        return self._slice(start, start + count, others, skip)

    def _slice(self, start: int, stop: int, size: int, skip: int) -> bytes:
        if stop > size:
            return self._cut(start, size, skip) + self._cut(0, stop - size, skip)
        return self._cut(start, stop, skip)

    def _cut(self, start: int, stop: int, skip: int) -> bytes:
        order, width = self.order, self.width
        if stop <= skip:
            return _NOTHING + order[start * width : stop * width]
        if start >= skip:
            return _NOTHING + order[(start + 1) * width : (stop + 1) * width]
        return _NOTHING + order[start * width : skip * width] + order[(skip + 1) * width : (stop + 1) * width]


@final
@mypyc_attr(acyclic=True)
class Swarm:
    """One info hash in one family. A role without peers is None: most swarms have but one, and it costs 250 bytes.
    How many peers are in each is kept here (see `Family.count`), so that a scrape need not go and look."""

    __slots__ = ("downloads", "leechers", "leeching", "seeders", "seeding")

    def __init__(self, downloads: int) -> None:
        self.seeders: Peers | None = None
        self.leechers: Peers | None = None
        self.downloads = downloads
        self.seeding: i32 = 0
        self.leeching: i32 = 0


@final
class Family:
    """The swarms of one IP family, spread over `shards`, with the sums over all of them, and what is kept of those that
    have lost their peers: (downloads, the second it was left) by info hash."""

    __slots__ = ("kept", "leechers", "seeders", "shards", "swarms", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.shards: list[dict[bytes, Swarm]] = [{} for _ in range(LAST_SHARD + 1)]
        # Ordered, since to find the first of a dictionary whose first ones went costs a walk over where those were.
        self.kept: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.swarms = 0
        self.seeders = 0
        self.leechers = 0

    def count(self, swarm: Swarm, role: Role, change: int) -> None:
        """Add to the peers of a role of a swarm of this family."""
        if role is SEEDER:
            self.seeders += change
            swarm.seeding += change
        else:
            self.leechers += change
            swarm.leeching += change

    def find(self, info_hash: bytes) -> Swarm | None:
        """A swarm that has peers."""
        return self.shards[keyed(info_hash) & LAST_SHARD].get(info_hash)

    def found(self, info_hash: bytes) -> Swarm:
        """A new swarm, with the downloads that are known of it."""
        downloads, _ = self.kept.pop(info_hash, (0, 0)) if self.kept else (0, 0)
        swarm = Swarm(downloads)
        self.shards[keyed(info_hash) & LAST_SHARD][info_hash] = swarm
        self.swarms += 1
        return swarm

    def forget_if_empty(self, info_hash: bytes, swarm: Swarm, second: int) -> bool:
        """Drop a role without peers, and the swarm without roles; whether the swarm is gone."""
        if swarm.seeders is not None and not swarm.seeders.heard:
            swarm.seeders = None
        if swarm.leechers is not None and not swarm.leechers.heard:
            swarm.leechers = None
        shard = self.shards[keyed(info_hash) & LAST_SHARD]
        if swarm.seeders is not None or swarm.leechers is not None or shard.get(info_hash) is not swarm:
            return False
        del shard[info_hash]
        self.swarms -= 1
        self.keep(info_hash, swarm.downloads, second)
        return True

    def keep(self, info_hash: bytes, downloads: int, second: int) -> None:
        """Keep the downloads, if there are any, of a swarm that was left at `second`."""
        if downloads:
            if len(self.kept) >= MOST_DOWNLOADS_KEPT:
                self.kept.popitem(last=False)
            self.kept[info_hash] = (downloads, second)

    def shrink(self, number: int, removed: int) -> None:
        """Let go of the room that a shard needed for so many swarms more."""
        shard = self.shards[number]
        if removed > _SHRUNK * len(shard) and len(shard) <= _TABLE:
            left = dict(shard)
            shard.clear()  # in place: a new one would be made among what is about to go, and hold its memory
            shard.update(left)

    def forget_kept(self, second: int) -> None:
        """Let go of the downloads of swarms that were left at `second` or before: those that come first."""
        while self.kept:
            info_hash = next(iter(self.kept))
            if self.kept[info_hash][1] > second:
                break
            del self.kept[info_hash]
