"""The entries of one list from one source, each with its verdict and, if it has one, the second in which it ends.

A list of info hashes may be long and is asked for every announce. So its hashes lie packed, 24 bytes each, in buckets
of a dozen: to look one up is one search through a few cache lines, and a change copies one bucket. Nothing ever grows
as a whole, so that no request waits for it. Before that a bit tells of most that are not there: it is far more likely
in the cache of the processor than a bucket.

An entry ends when it is due, by the time that whoever asks gives; `sweep` then lets go of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from hmac import compare_digest
from typing import TYPE_CHECKING, Final, NamedTuple, final

from udptracker.core.listed import CLIENTS, NETWORKS, TORRENTS
from udptracker.core.swarm import keyed

if TYPE_CHECKING:
    from mypy_extensions import i64  # what the command line loads does without it when it runs

SLICE: Final = 1_024
_BUCKETS_AT_ONCE: Final = 64
"""Entries, and buckets of a dozen, looked at between two pauses: half a millisecond."""

_RECORD: Final = 24
"""Bytes: an info hash, and the Unix second in which it ends, 0 for never."""
_FEW: Final = 256
_MANY: Final = 65_536
"""Buckets at first, and from `_FEW` times four info hashes on: 2.5 MB with the bits."""
_MARKS: Final = 1 << 24
"""Bits by which an info hash is told that is not there."""
_NEVER: Final = bytes(4)
GRACE: Final = 86_400
"""Seconds that an entry is kept beyond its end, out of force: a clock that jumps ahead, and back, costs none."""


class Table:
    """The entries of one list from one source. An entry is packed as `core.listed` has it."""

    def put(self, entry: bytes, denied: bool, expires: int, user: str) -> None:
        """Have an entry with this verdict until a Unix second, 0 for always, in place of what is known of it."""
        raise NotImplementedError

    def remove(self, entry: bytes) -> None:
        """Have it no more."""
        raise NotImplementedError

    def find(self, entry: bytes, now: int) -> Found | None:
        """What is known of an entry itself; None if nothing is."""
        raise NotImplementedError

    def counts(self) -> tuple[int, int]:
        """How many are allowed and denied."""
        raise NotImplementedError

    def sweep(self, now: int) -> Iterator[None]:
        """Let go of what has ended, in slices."""
        raise NotImplementedError

    def entries(self) -> Iterator[list[Found]]:
        """Everything, in slices. What changes meanwhile may be among it or not."""
        raise NotImplementedError

    def clear(self) -> Iterator[None]:
        """Let go of everything, in slices."""
        raise NotImplementedError


class Found(NamedTuple):
    """An entry, and what is known of it: `expires` is a Unix second, 0 for never."""

    entry: bytes
    denied: bool
    expires: int
    user: str = ""


@final
class Hashes:
    """Info hashes with one verdict. Which bucket one is in is drawn by a key of this process: who makes torrents makes
    their hashes, and a list of those that end alike would be one bucket."""

    __slots__ = ("_buckets", "_came", "_marks", "_mask", "count", "soonest")

    def __init__(self) -> None:
        self._buckets: list[bytes] = [b""] * _FEW
        self._mask: i64 = _FEW - 1
        self._marks: bytearray | None = None
        self.count = 0
        self.soonest = 0
        """A second before which none ends; 0 if none does."""
        self._came = 0
        """The same of what came since the last sweep began, and so may be where that has been."""

    def holds(self, info_hash: bytes, now: int) -> bool:
        """Whether it is there, and has not ended at `now`."""
        number = keyed(info_hash)
        if self._marks is not None:
            mark = number & (_MARKS - 1)
            if not self._marks[mark >> 3] >> (mark & 7) & 1:
                return False
        bucket = self._buckets[number & self._mask]
        at = bucket.find(info_hash)
        while at % _RECORD and at > 0:  # the same bytes across two others
            at = bucket.find(info_hash, at + 1)
        if at < 0:
            return False
        if not self.soonest:
            return True
        end = bucket[at + 20 : at + _RECORD]
        return end == _NEVER or int.from_bytes(end, "big") > now

    def put(self, info_hash: bytes, expires: int) -> None:
        place, at = self._find(info_hash)
        record = info_hash + expires.to_bytes(4, "big")
        bucket = self._buckets[place]
        if at >= 0:
            self._buckets[place] = bucket[:at] + record + bucket[at + _RECORD :]
        else:
            self._buckets[place] = bucket + record
            self.count += 1
            if self._marks is not None:
                _mark(self._marks, info_hash)
            if self.count > 4 * _FEW and self._mask < _MANY - 1:
                self._spread()
        if expires:
            self.soonest = _sooner(self.soonest, expires)
            self._came = _sooner(self._came, expires)

    def remove(self, info_hash: bytes) -> None:
        place, at = self._find(info_hash)
        if at >= 0:
            bucket = self._buckets[place]
            self._buckets[place] = bucket[:at] + bucket[at + _RECORD :]
            self.count -= 1

    def expires(self, info_hash: bytes) -> int:
        """When it ends, 0 for never; -1 if it is not there."""
        place, at = self._find(info_hash)
        return -1 if at < 0 else int.from_bytes(self._buckets[place][at + 20 : at + _RECORD], "big")

    def sweep(self, now: int) -> Iterator[None]:
        if not self.soonest or self.soonest > now:
            return
        self._came = soonest = place = 0
        while place < len(self._buckets):  # which may be more or none by then
            bucket = self._buckets[place]
            kept = []
            for at in range(0, len(bucket), _RECORD):
                expires = int.from_bytes(bucket[at + 20 : at + _RECORD], "big")
                if not expires or expires > now:
                    kept.append(bucket[at : at + _RECORD])
                    if expires:
                        soonest = _sooner(soonest, expires)
                else:
                    self.count -= 1
            if len(kept) * _RECORD < len(bucket):
                self._buckets[place] = b"".join(kept)
            if place % _BUCKETS_AT_ONCE == 0:
                yield
            place += 1
        self.soonest = _sooner(soonest, self._came)

    def clear(self) -> Iterator[None]:
        while self._buckets:
            del self._buckets[-_BUCKETS_AT_ONCE:]
            yield

    def records(self) -> Iterator[bytes]:
        """The records, joined, in slices: those that there are now."""
        return _joined(list(self._buckets))

    def _find(self, info_hash: bytes) -> tuple[int, int]:
        """The bucket of an info hash, and where it is in that, -1 if it is not there."""
        place = keyed(info_hash) & self._mask
        bucket = self._buckets[place]
        at = bucket.find(info_hash)
        while at % _RECORD and at > 0:
            at = bucket.find(info_hash, at + 1)
        return place, at

    def _spread(self) -> None:
        """Go over to many buckets, while there is little to move."""
        few = self._buckets
        self._marks = marks = bytearray(_MARKS >> 3)
        self._buckets = [b""] * _MANY
        self._mask = _MANY - 1
        self._came = _sooner(self._came, self.soonest)  # each of them may be where a sweep has been
        for bucket in few:
            for at in range(0, len(bucket), _RECORD):
                info_hash = bucket[at : at + 20]
                self._buckets[keyed(info_hash) & self._mask] += bucket[at : at + _RECORD]
                _mark(marks, info_hash)


def _mark(marks: bytearray, info_hash: bytes) -> None:
    """Tell that one may be there. The bit stays when that is removed, and then costs a search."""
    mark = keyed(info_hash) & (_MARKS - 1)
    marks[mark >> 3] |= 1 << (mark & 7)


@final
class Torrents(Table):
    """Info hashes."""

    __slots__ = ("allowed", "denied")

    def __init__(self) -> None:
        self.allowed = Hashes()
        self.denied = Hashes()

    def put(self, entry: bytes, denied: bool, expires: int, user: str) -> None:
        (self.allowed if denied else self.denied).remove(entry)
        (self.denied if denied else self.allowed).put(entry, expires)

    def remove(self, entry: bytes) -> None:
        self.allowed.remove(entry)
        self.denied.remove(entry)

    def find(self, entry: bytes, now: int) -> Found | None:
        for hashes, denied in ((self.denied, True), (self.allowed, False)):
            if hashes.holds(entry, now):
                return Found(entry, denied, hashes.expires(entry))
        return None

    def counts(self) -> tuple[int, int]:
        return self.allowed.count, self.denied.count

    def sweep(self, now: int) -> Iterator[None]:
        yield from self.allowed.sweep(now)
        yield from self.denied.sweep(now)

    def clear(self) -> Iterator[None]:
        yield from self.allowed.clear()
        yield from self.denied.clear()

    def entries(self) -> Iterator[list[Found]]:
        for slices, denied in ((self.allowed.records(), False), (self.denied.records(), True)):
            for records in slices:
                yield [
                    Found(records[at : at + 20], denied, int.from_bytes(records[at + 20 : at + _RECORD], "big"))
                    for at in range(0, len(records), _RECORD)
                ]


class _Known(Table):
    """Entries of a list that is short, by the packed entry."""

    def __init__(self) -> None:
        self._known: dict[bytes, Found] = {}
        self._denied = 0

    def put(self, entry: bytes, denied: bool, expires: int, user: str) -> None:
        self.remove(entry)
        self._known[entry] = Found(entry, denied, expires, user)
        self._denied += denied

    def remove(self, entry: bytes) -> None:
        found = self._known.pop(entry, None)
        if found is not None:
            self._denied -= found.denied

    def find(self, entry: bytes, now: int) -> Found | None:
        found = self._known.get(entry)
        return None if found is None or 0 < found.expires <= now else found

    def counts(self) -> tuple[int, int]:
        return len(self._known) - self._denied, self._denied

    def sweep(self, now: int) -> Iterator[None]:
        for part in self.entries():
            for found in part:
                if 0 < found.expires <= now and self.find(found.entry, now) is None:  # it may be there anew by now
                    self.remove(found.entry)
            yield

    def clear(self) -> Iterator[None]:
        while self._known:
            for _ in range(min(SLICE, len(self._known))):
                self._known.popitem()
            yield

    def entries(self) -> Iterator[list[Found]]:
        every = list(self._known.values())
        for at in range(0, len(every), SLICE):
            yield every[at : at + SLICE]


@final
class Clients(_Known):
    """How peer ids begin. The longest that fits decides."""

    def __init__(self) -> None:
        super().__init__()
        self._lengths: list[int] = []

    def put(self, entry: bytes, denied: bool, expires: int, user: str) -> None:
        super().put(entry, denied, expires, user)
        if len(entry) not in self._lengths:
            self._lengths = sorted([*self._lengths, len(entry)], reverse=True)

    def rank(self, peer_id: bytes, now: int) -> int:
        """Twice the length of what decides over a peer id, and one more if it is denied; -1 if nothing does."""
        known = self._known
        for length in self._lengths:
            found = known.get(peer_id[:length])
            if found is not None and not 0 < found.expires <= now:
                return 2 * length + found.denied
        return -1


@final
class Networks(_Known):
    """Networks of both families. The smallest that an address is in decides."""

    def __init__(self) -> None:
        super().__init__()
        self._v4: list[tuple[int, dict[int, Found]]] = []
        self._v6: list[tuple[int, dict[int, Found]]] = []

    def put(self, entry: bytes, denied: bool, expires: int, user: str) -> None:
        super().put(entry, denied, expires, user)
        shift = 8 * (len(entry) - 1) - entry[0]
        levels = self._v4 if len(entry) == 5 else self._v6
        if shift not in map(_shift_of, levels):
            levels.append((shift, {}))
            levels.sort(key=_shift_of)
        for level, networks in levels:
            if level == shift:
                networks[int.from_bytes(entry[1:], "big") >> shift] = self._known[entry]

    def remove(self, entry: bytes) -> None:
        super().remove(entry)
        shift = 8 * (len(entry) - 1) - entry[0]
        for level, networks in self._v4 if len(entry) == 5 else self._v6:
            if level == shift:
                networks.pop(int.from_bytes(entry[1:], "big") >> shift, None)

    def rank(self, source: bytes, now: int) -> int:
        """Twice the bits of the network that decides over a packed address, and one more if that is denied; -1 if
        none does."""
        number = int.from_bytes(source, "big")
        for shift, networks in self._v4 if len(source) == 4 else self._v6:
            found = networks.get(number >> shift)
            if found is not None and not 0 < found.expires <= now:
                return 2 * (8 * len(source) - shift) + found.denied
        return -1


@final
class Passkeys(_Known):
    """Hashes of passkeys. What is looked up is told by the hash's first half, and compared as a whole in constant
    time."""

    def put(self, entry: bytes, denied: bool, expires: int, user: str) -> None:
        self.remove(entry)
        self._known[entry[:16]] = Found(entry, denied, expires, user)
        self._denied += denied

    def remove(self, entry: bytes) -> None:
        super().remove(entry[:16])

    def find(self, entry: bytes, now: int) -> Found | None:
        found = super().find(entry[:16], now)
        return found if found is not None and compare_digest(found.entry, entry) else None


def _joined(buckets: list[bytes]) -> Iterator[bytes]:
    for place in range(0, len(buckets), _BUCKETS_AT_ONCE):
        yield b"".join(buckets[place : place + _BUCKETS_AT_ONCE])


def _sooner(one: int, other: int) -> int:
    """The sooner of two seconds, of which 0 is never."""
    return min(one, other) if one and other else one or other


def _shift_of(level: tuple[int, dict[int, Found]]) -> int:
    return level[0]


def make_table(which: str) -> Table:
    """An empty table for a list of `core.listed`."""
    if which == TORRENTS:
        return Torrents()
    if which == CLIENTS:
        return Clients()
    return Networks() if which == NETWORKS else Passkeys()
