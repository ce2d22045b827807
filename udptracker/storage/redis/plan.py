"""What a batch asks of Redis, piece by piece: each piece is commands on one key, and takes the replies to them.

A piece is sent as the segment that it is, and reads as many replies as it asked for; so whoever sends several and
hands the replies to each in turn need not know what any of them asks. No I/O.
"""

from __future__ import annotations

from typing import Any, Final, final

from hiredis import ReplyError

from udptracker.core.swarm import FAMILIES, LEECHER, SEEDER, AnnounceOperation, Role, ScrapeOperation, StoreError
from udptracker.redis.link import Replies
from udptracker.redis.segment import Segment
from udptracker.storage.redis.errors import is_broken_value, store_error
from udptracker.storage.redis.layout import COMMANDS, DOWNLOADS, END, group
from udptracker.storage.redis.registry import Registration
from udptracker.storage.redis.samples import Sample

_COMMANDS: Final = {family: (COMMANDS[family, Role.SEEDER], COMMANDS[family, Role.LEECHER]) for family in FAMILIES}

MOST_COUNT: Final = 2**32 - 1
"""The largest count that a response has room for (BEP 15, "scrape response")."""


class Piece(Segment):
    """Commands on one key that take their own replies."""

    def take(self, replies: Replies, at: int) -> int:
        """Take the replies to these commands, of which the first is at `at`: where those to the next piece begin."""
        raise NotImplementedError


def take_all(pieces: list[Piece], replies: Replies) -> None:
    """Hand each piece, in the order in which they were sent, what it asked for."""
    at = 0
    for piece in pieces:
        at = piece.take(replies, at)


@final
class Single(Piece):
    """One command. `announce` is the place in the batch of the announce that it is part of."""

    __slots__ = ("announce", "reply")

    def __init__(self, announce: int, segment: Segment) -> None:
        super().__init__(segment.key, segment.payload, 1)
        self.announce = announce
        self.reply: Any = None

    def take(self, replies: Replies, at: int) -> int:
        self.reply = replies[at]
        return at + 1


@final
class RolePlan(Piece):
    """Writes to one role's hash of a swarm, and then a read of it.

    Args:
        writes: the announces, by their places in the batch, that each write is part of.
        sizes: whether the size of the hash is asked for.
        draws: whether random fields are, too.

    Once the replies are taken, `changed` are the announces whose field was new or was removed, `count` the size,
    `fields` random peer keys; `error` the first of the errors.
    """

    changed: list[int] | None = None
    count: int = 0
    fields: list[bytes] | None = None
    error: StoreError | None = None

    def __init__(self, key: bytes, payload: bytes, writes: list[int], sizes: bool, draws: bool) -> None:
        self.key = key
        self.payload = payload
        self.replies = len(writes) + sizes + draws
        self.writes = writes
        self.sizes = sizes
        self.draws = draws

    def take(self, replies: Replies, at: int) -> int:
        if replies.failed:
            for reply in replies[at : at + self.replies]:
                if isinstance(reply, ReplyError):
                    self.error = store_error(reply)
                    break
        for announce in self.writes:
            if replies[at] == 1:
                if self.changed is None:
                    self.changed = [announce]
                else:
                    self.changed.append(announce)
            at += 1
        if self.error is not None:
            return at + self.sizes + self.draws
        if self.sizes:
            self.count = replies[at]
            at += 1
            if self.draws:
                self.fields = replies[at]
                at += 1
        return at


@final
class SwarmPlan:
    """What a batch asks of one swarm, for the announces at these places in it.

    They are answered from `sample` unless it is None, and else from what is read. What is read is kept as `renewed`
    if there is one. `seeders` and `leechers` are None where nothing is asked. `wants_seeders` and `wants_leechers` are
    how many peers of each role are asked for; `needs_leechers` when seeders alone, however many, are not enough.
    `reads_more` when what was read did not do, and the second round reads more.
    """

    seeders: RolePlan | None = None
    leechers: RolePlan | None = None
    sample: Sample | None = None
    renewed: Sample | None = None
    wants_seeders: int = 0
    wants_leechers: int = 0
    needs_leechers: bool = False
    reads_more: bool = False
    seeders_collected: int = 0
    leechers_collected: int = 0

    def __init__(self, family: int, info_hash: bytes, announce: int) -> None:
        self.family = family
        self.info_hash = info_hash
        self.announces = [announce]

    def collect(self, fields: list[bytes]) -> None:
        """Add the peer keys that the announces are answered from: those of the seeders, then those of the leechers, but
        not where each is content with seeders."""
        seeders, leechers = self.seeders, self.leechers
        self.seeders_collected = self.leechers_collected = 0
        if seeders is not None and seeders.fields is not None:
            fields += seeders.fields
            self.seeders_collected = len(seeders.fields)
        if leechers is not None and leechers.fields is not None:
            if not self.needs_leechers and self.seeders_collected >= self.wants_seeders:
                return
            fields += leechers.fields
            self.leechers_collected = len(leechers.fields)

    @property
    def unread(self) -> bool:
        """Whether there are peers of a role that is asked for beyond those that were read."""
        seeders, leechers = self.seeders, self.leechers
        return (seeders is not None and seeders.draws and seeders.count > len(seeders.fields or ())) or (
            leechers is not None and leechers.draws and leechers.count > len(leechers.fields or ())
        )

    def older(self, announce: AnnounceOperation) -> list[tuple[Role, bytes]]:
        """Other peers at the endpoint of an announce, among those that were read: who was there before it."""
        peer, endpoint = announce.peer, announce.peer[20:]
        return [
            (role, field)
            for role, plan in ((SEEDER, self.seeders), (LEECHER, self.leechers))
            if plan is not None and plan.fields is not None
            for field in plan.fields
            if field[20:] == endpoint and field != peer
        ]

    def leave_out_foreign(self, key_bytes: int) -> None:
        """Take out of what was read whatever is no peer key."""
        for plan in (self.seeders, self.leechers):
            if plan is not None and plan.fields is not None:
                plan.fields = [field for field in plan.fields if len(field) == key_bytes]

    def error(self) -> StoreError | None:
        """The first error of either role."""
        for plan in (self.seeders, self.leechers):
            if plan is not None and plan.error is not None:
                return plan.error
        return None


@final
class RegistrationsPlan(Piece):
    """Names of swarm hashes, to be written into their family's hash.

    Once the replies are taken, `failed` are those that do not stand there, each with its error, `held` those that do,
    and `new_seeded` how many hashes of seeders were not named before.
    """

    __slots__ = ("failed", "family", "held", "new_seeded", "registrations")

    def __init__(self, family: int, registrations: list[Registration], stamp_end: bytes) -> None:
        parts: list[bytes] = []
        for registration in registrations:
            parts += (COMMANDS[family, registration.role].register, registration.hexadecimal, stamp_end)
        super().__init__(group(family), b"".join(parts), len(registrations))
        self.family = family
        self.registrations = registrations
        self.failed: list[tuple[Registration, StoreError]] = []
        self.held: list[Registration] = []
        self.new_seeded = 0

    def take(self, replies: Replies, at: int) -> int:
        for registration in self.registrations:
            reply = replies[at]
            at += 1
            if isinstance(reply, ReplyError):
                self.failed.append((registration, store_error(reply)))
                continue
            self.held.append(registration)
            self.new_seeded += reply == 1 and registration.role is SEEDER
        return at


@final
class ScrapePlan(Piece):
    """Seeders, downloads and leechers of each info hash of a scrape.

    Once the replies are taken, `counts` or `error` is the answer. A count that does not fit a response is the nearest
    that does, and one that is no number is 0: `misfits` is how many there were.

    Args:
        together: all keys are on one server, so that one segment, this one, holds all commands.
    """

    __slots__ = ("announce", "counts", "error", "misfits", "segments")

    def __init__(self, announce: int, scrape: ScrapeOperation, together: bool) -> None:
        of_seeders, of_leechers = _COMMANDS[scrape.family]
        downloads = DOWNLOADS[scrape.family]
        segments: list[Segment] = []
        packed: list[bytes] = []
        for info_hash in scrape.info_hashes:
            hexadecimal = info_hash.hex().encode()
            shard = hexadecimal[:4]
            get = (downloads.get, shard, downloads.field, info_hash, END)
            if together:
                packed += (of_seeders.size, hexadecimal, END)
                packed += get
                packed += (of_leechers.size, hexadecimal, END)
            else:
                segments.append(Segment(of_seeders.key + hexadecimal, of_seeders.size + hexadecimal + END, 1))
                segments.append(Segment(downloads.key + shard, b"".join(get), 1))
                segments.append(Segment(of_leechers.key + hexadecimal, of_leechers.size + hexadecimal + END, 1))
        super().__init__(b"", b"".join(packed), 3 * len(scrape.info_hashes))
        self.segments: list[Segment] = [self] if together else segments
        self.announce = announce
        self.counts: list[int] = []
        self.error: StoreError | None = None
        self.misfits = 0

    def take(self, replies: Replies, at: int) -> int:
        end = at + self.replies
        if replies.failed:
            for place, reply in enumerate(replies[at:end]):
                if isinstance(reply, ReplyError) and not (place % 3 == 1 and is_broken_value(reply)):
                    self.error = store_error(reply)
                    return end
        while at < end:
            downloads = replies[at + 1]
            count = 0 if downloads is None else self._fitting(downloads)
            self.counts += (replies[at], count, replies[at + 2])
            at += 3
        return end

    def _fitting(self, downloads: Any) -> int:
        try:
            count = int(downloads)
        except (ValueError, TypeError):  # the latter of an error: their hash is no hash
            self.misfits += 1
            return 0
        if 0 <= count <= MOST_COUNT:
            return count
        self.misfits += 1
        return 0 if count < 0 else MOST_COUNT
