"""A batch of operations as Redis commands, and their replies as results. No I/O: the store sends what is planned here.

The first round holds all the reads and the writes that every announce needs. An announce that says it is new in its
role (started, completed) also leaves the other role and registers its swarm there. A steady one does neither: only
if the reply says that its field was new did it have to, and then a second round does it before the answer. So the
re-announces that are most of a tracker's load cost one write and the reads, and still every peer is in one role and
every swarm registered by the time its peer is answered. (To register only when HLEN answers 1 would lose the name
of a swarm in which two nodes' first announces cross.)

Announces for one swarm in one batch share their reads, which follow all their writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from hiredis import ReplyError

from udptracker.core.swarm import (
    FAMILIES,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    Role,
    ScrapeOperation,
    StoreError,
)
from udptracker.core.wire import Event, SwarmStats
from udptracker.redis.link import Replies
from udptracker.redis.topology import Segment
from udptracker.storage.redis.answers import choose, cut, from_sample
from udptracker.storage.redis.errors import store_error
from udptracker.storage.redis.layout import (
    COMMANDS,
    COUNTS,
    DOWNLOADS,
    command,
    compact_endpoints,
    downloads_key,
    group,
    info_hash_counter,
    parse_count,
    peers_counter,
    stopped_key,
    swarm_key,
)
from udptracker.storage.redis.samples import LARGE_SWARM, SAMPLE_PEERS, Sample, Samples
from udptracker.storage.redis.scripts import drop_older

_SEEDER, _LEECHER = Role.SEEDER, Role.LEECHER
_NONE, _STOPPED, _COMPLETED = Event.NONE, Event.STOPPED, Event.COMPLETED
_OTHER: Final = {_SEEDER: _LEECHER, _LEECHER: _SEEDER}
_PAIRS: Final = {family: (COMMANDS[family, _SEEDER], COMMANDS[family, _LEECHER]) for family in FAMILIES}
_COUNTERS: Final = {(family, role): peers_counter(family, role) for family in FAMILIES for role in Role}

_SPREAD: Final = 3
"""Announces that share a read choose from up to so many times what one of them wants, so that their answers differ."""

_NOTHING: Final = AnnounceResult(0, 0, b"")

_new_tuple = tuple.__new__


_Notes = list[tuple[int, bool]]
"""For each write on one key: the operation it is part of, and whether it puts the peer there or drops it."""


class _Swarm(NamedTuple):
    """What the first round asks for the announces of one swarm: the order of the fields is that of the replies."""

    swarm: tuple[int, bytes]
    indexes: list[int]
    on_seeders: _Notes
    on_leechers: _Notes
    reads_seeders: bool
    reads_leechers: bool
    sample: Sample | None
    renews: bool


class Batch:
    """See the module. Used once: `first_round`, `read_first`, then `second_round`, `read_second` if it is not empty.

    Args:
        operations: what to plan; `results` has the same length and order.
        now: nanoseconds, the modification time of what is written.
        draw: a source of uniform numbers in [0, 1).
        samples: of large swarms.
        stopped_milliseconds: how long a `stopped` is remembered, 0 for not at all.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        now: int,
        draw: Callable[[], float],
        samples: Samples,
        stopped_milliseconds: int = 0,
    ) -> None:
        self.results: list[Result | StoreError] = [_NOTHING] * len(operations)
        self.changes: list[tuple[bytes, int]] = []
        """(counter, change) for each field that was new or removed."""
        self._operations = operations
        self._now = now
        self._stamp = b"%d" % now
        self._draw = draw
        self._samples = samples
        self._stopped_milliseconds = b"%d" % stopped_milliseconds if stopped_milliseconds else b""
        self._swarms: list[_Swarm] = []
        self._scrapes: list[tuple[int, ScrapeOperation]] = []
        self._registrations: dict[int, list[tuple[Role, bytes]]] = {}
        self._tombstones: list[Segment] = []
        self._chosen: dict[int, list[tuple[int, int, int, list[bytes]]]] = {family: [] for family in FAMILIES}
        self._late: list[int] = []
        self._graduated: list[int] = []

    # ------------------------------------------------------------------------------------ the first round

    def first_round(self) -> list[Segment]:
        """Writes and reads of every operation."""
        segments: list[Segment] = []
        swarms: dict[tuple[int, bytes], list[int]] = {}
        for index, operation in enumerate(self._operations):
            if isinstance(operation, AnnounceOperation):
                swarm = operation[:2]
                indexes = swarms.get(swarm)
                if indexes is None:
                    swarms[swarm] = [index]
                else:
                    indexes.append(index)
            else:
                self._scrapes.append((index, operation))
        for swarm, indexes in swarms.items():
            self._plan_swarm(swarm, indexes, segments)
        for family, registrations in self._registrations.items():
            segments.append(_joined(group(family), [packed for _, packed in registrations]))
        for _, scrape in self._scrapes:
            segments.extend(_scrape_segments(scrape))
        return segments + self._tombstones

    def read_first(self, replies: Replies) -> None:
        """Take the replies of the first round."""
        at = 0
        for planned in self._swarms:
            at = self._read_swarm(planned, replies, at)
        for family, chosen in self._chosen.items():
            if chosen:
                self._answer(family, chosen)
        for family, registrations in self._registrations.items():
            at = self._read_registrations(family, registrations, replies, at)
        for index, scrape in self._scrapes:
            count = 3 * len(scrape.info_hashes)
            self.results[index] = _stats(replies[at : at + count])
            at += count

    def _plan_swarm(self, swarm: tuple[int, bytes], indexes: list[int], segments: list[Segment]) -> None:
        seeder, leecher = _PAIRS[swarm[0]]
        stamp = self._stamp
        hexadecimal = swarm[1].hex().encode()
        on_seeders: list[bytes] = []
        on_leechers: list[bytes] = []
        seeder_notes: _Notes = []
        leecher_notes: _Notes = []
        want_seeders = want_leechers = 0
        for index in indexes:
            _, _, peer, role, event, want = self._announce(index)
            seeds = role is _SEEDER
            if event is _STOPPED:
                self._remember_stop(swarm, peer)
            elif seeds:
                on_seeders.append(seeder.put % (hexadecimal, peer, stamp))
                seeder_notes.append((index, True))
            else:
                on_leechers.append(leecher.put % (hexadecimal, peer, stamp))
                leecher_notes.append((index, True))
                if want > want_seeders:
                    want_seeders = want
            if want > want_leechers:
                want_leechers = want
            if event is not _NONE:
                if seeds or event is _STOPPED:
                    on_leechers.append(leecher.drop % (hexadecimal, peer))
                    leecher_notes.append((index, False))
                if not seeds or event is _STOPPED:
                    on_seeders.append(seeder.drop % (hexadecimal, peer))
                    seeder_notes.append((index, False))
                if event is not _STOPPED:
                    self._register(swarm[0], role, hexadecimal)
        sample, renews = self._samples.find(swarm, self._now)
        if renews:
            want_seeders = want_leechers = SAMPLE_PEERS
            sample = None
        if sample is not None:
            want_seeders = want_leechers = 0
        else:
            if len(indexes) > 1 and not renews:
                spread = min(len(indexes), _SPREAD)
                want_seeders, want_leechers = want_seeders * spread, want_leechers * spread
            if want_seeders:
                on_seeders.append(seeder.read % (hexadecimal, hexadecimal, COUNTS[want_seeders]))
            else:
                on_seeders.append(seeder.size % hexadecimal)
            if want_leechers:  # one more, since the announcer may be among them
                on_leechers.append(leecher.read % (hexadecimal, hexadecimal, COUNTS[want_leechers + 1]))
            else:
                on_leechers.append(leecher.size % hexadecimal)
        if on_seeders:
            count = len(on_seeders) + (want_seeders > 0)
            segments.append(_new_tuple(Segment, (seeder.key % hexadecimal, b"".join(on_seeders), count)))
        if on_leechers:
            count = len(on_leechers) + (want_leechers > 0)
            segments.append(_new_tuple(Segment, (leecher.key % hexadecimal, b"".join(on_leechers), count)))
        self._swarms.append(
            _new_tuple(
                _Swarm,
                (
                    swarm,
                    indexes,
                    seeder_notes,
                    leecher_notes,
                    want_seeders > 0,
                    want_leechers > 0,
                    sample,
                    renews,
                ),
            )
        )

    def _read_swarm(self, planned: _Swarm, replies: Replies, at: int) -> int:
        swarm, indexes, seeder_notes, leecher_notes, reads_seeders, reads_leechers, sample, renews = planned
        begin, late = at, len(self._late)
        seeders: list[bytes] = []
        leechers: list[bytes] = []
        for index, puts in seeder_notes:
            if replies[at] == 1:
                self._changed(index, _SEEDER, puts)
            at += 1
        if sample is None:
            seeder_count = replies[at]
            at += 1
            if reads_seeders:
                seeders = replies[at]
                at += 1
        for index, puts in leecher_notes:
            if replies[at] == 1:
                self._changed(index, _LEECHER, puts)
            at += 1
        if sample is None:
            leecher_count = replies[at]
            at += 1
            if reads_leechers:
                leechers = replies[at]
                at += 1
        if len(indexes) > 1 and len(self._late) > late:
            # What a later announce of the same peer in this batch says, holds.
            last = {self._announce(index).peer: index for index in indexes}
            self._late[late:] = [index for index in self._late[late:] if last[self._announce(index).peer] == index]
        if replies.failed:
            for reply in replies[begin:at]:
                if isinstance(reply, ReplyError):
                    for index in indexes:
                        self.results[index] = store_error(reply)
                    return at
        if sample is not None:
            for index in indexes:
                self.results[index] = from_sample(sample, self._announce(index), self._draw)
            return at
        size = seeder_count + leecher_count
        if size >= LARGE_SWARM:
            self._samples.note(swarm, self._now)
            if renews:
                self._samples.renew(swarm, (seeder_count, leecher_count), (seeders, leechers), self._now)
        elif renews:
            self._samples.forget(swarm)
        chosen = self._chosen[swarm[0]]
        for index in indexes:
            operation = self._announce(index)
            peers = choose(operation, seeders, leechers, self._draw) if operation.num_want else []
            chosen.append((index, seeder_count, leecher_count, peers))
        return at

    def _answer(self, family: int, chosen: list[tuple[int, int, int, list[bytes]]]) -> None:
        """Results of announces, from (index, seeders, leechers, peer keys) of each."""
        packed = compact_endpoints([peers for _, _, _, peers in chosen], family)
        for (index, seeders, leechers, _), peers in zip(chosen, packed, strict=True):
            shown = cut(peers, self._announce(index)) if peers else peers
            self.results[index] = _new_tuple(AnnounceResult, (seeders, leechers, shown))

    def _changed(self, index: int, role: Role, put: bool) -> None:
        operation = self._announce(index)
        self.changes.append((_COUNTERS[operation.family, role], 1 if put else -1))
        if put:
            if operation.event is _NONE:
                self._late.append(index)
        elif operation.event is _COMPLETED and operation.role is _SEEDER:
            self._graduated.append(index)

    def _register(self, family: int, role: Role, hexadecimal: bytes) -> None:
        packed = COMMANDS[family, role].register % (hexadecimal, self._stamp)
        self._registrations.setdefault(family, []).append((role, packed))

    def _read_registrations(
        self, family: int, registrations: list[tuple[Role, bytes]], replies: Replies, at: int
    ) -> int:
        for role, _ in registrations:
            if role is _SEEDER and replies[at] == 1:
                self.changes.append((info_hash_counter(family), 1))
            at += 1
        return at

    def _remember_stop(self, swarm: tuple[int, bytes], peer: bytes) -> None:
        if self._stopped_milliseconds:
            key = stopped_key(*swarm, peer)
            packed = command(b"SET", key, self._stamp, b"PX", self._stopped_milliseconds)
            self._tombstones.append(Segment(key, packed, 1))

    def _announce(self, index: int) -> AnnounceOperation:
        return self._operations[index]  # type: ignore[return-value]  # only announces are in a swarm's indexes

    # ------------------------------------------------------------------------------------ the second round

    def second_round(self) -> list[Segment]:
        """What the replies showed to be missing: leaving the other role, registering the swarm, a download."""
        self._registrations.clear()
        segments: list[Segment] = []
        for index in self._late:
            family, info_hash, peer, role, _, _ = self._announce(index)
            # Not if newer: a `completed` of the same peer may have overtaken this round.
            segments.append(drop_older(swarm_key(family, _OTHER[role], info_hash), peer, self._stamp))
            self._register(family, role, info_hash.hex().encode())
        for family, registrations in self._registrations.items():
            segments.append(_joined(group(family), [packed for _, packed in registrations]))
        for index in self._graduated:
            family, info_hash = self._announce(index)[:2]
            key = downloads_key(family, info_hash)
            segments.append(Segment(key, command(b"HINCRBY", key, info_hash, b"1"), 1))
        return segments

    def read_second(self, replies: Replies) -> None:
        """Take the replies of the second round."""
        at = 0
        for index in self._late:
            if replies[at] == 1:
                self._left_other_role(index)
            at += 1
        for family, registrations in self._registrations.items():
            at = self._read_registrations(family, registrations, replies, at)
        if replies.failed:
            error = next(store_error(reply) for reply in replies if isinstance(reply, ReplyError))
            for index in (*self._late, *self._graduated):
                self.results[index] = error

    def _left_other_role(self, index: int) -> None:
        operation, result = self._announce(index), self.results[index]
        other = _OTHER[operation.role]
        self.changes.append((_COUNTERS[operation.family, other], -1))
        if isinstance(result, AnnounceResult):
            seeders, leechers, peers = result
            if other is _SEEDER:
                seeders = max(seeders - 1, 0)
            else:
                leechers = max(leechers - 1, 0)
            self.results[index] = AnnounceResult(seeders, leechers, peers)


def _joined(key: bytes, packed: list[bytes]) -> Segment:
    """Commands on one key, a reply each."""
    return Segment(key, b"".join(packed), len(packed))


def _scrape_segments(scrape: ScrapeOperation) -> Iterator[Segment]:
    """Three reads for each info hash: seeders, downloads, leechers."""
    family, info_hashes = scrape
    seeder, leecher = _PAIRS[family]
    downloads_key, downloads = DOWNLOADS[family]
    for info_hash in info_hashes:
        hexadecimal = info_hash.hex().encode()
        shard = hexadecimal[:4]
        yield _new_tuple(Segment, (seeder.key % hexadecimal, seeder.size % hexadecimal, 1))
        yield _new_tuple(Segment, (downloads_key % shard, downloads % (shard, info_hash), 1))
        yield _new_tuple(Segment, (leecher.key % hexadecimal, leecher.size % hexadecimal, 1))


def _stats(replies: list[Any]) -> Result | StoreError:
    for reply in replies:
        if isinstance(reply, ReplyError):
            return store_error(reply)
    return [
        _new_tuple(SwarmStats, (seeders, parse_count(downloads) if downloads else 0, leechers))
        for seeders, downloads, leechers in zip(replies[::3], replies[1::3], replies[2::3], strict=True)
    ]
