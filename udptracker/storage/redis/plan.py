"""What a batch asks of Redis, piece by piece: each piece is commands on one key, and takes the replies to them.

A piece is sent as the segment that it is, and reads as many replies as it asked for; so whoever sends several and
hands the replies to each in turn need not know what any of them asks. No I/O.
"""

from __future__ import annotations

from typing import Any, Final, final

from hiredis import ReplyError
from mypy_extensions import mypyc_attr

from udptracker.core.swarm import (
    FAMILIES,
    LEECHER,
    SEEDER,
    AnnounceOperation,
    Role,
    ScrapeOperation,
    ScrapeResult,
    StoreError,
)
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
@mypyc_attr(acyclic=True)
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
@mypyc_attr(acyclic=True)
class ScrapedSwarm:
    """What a scrape tells of one swarm, as soon as the store has said it; `error` is the first of what it refused."""

    __slots__ = ("downloads", "error", "leechers", "seeders")

    def __init__(self) -> None:
        self.seeders = self.downloads = self.leechers = 0
        self.error: StoreError | None = None


@final
class CountsPlan(Piece):
    """The counts of all swarms that the scrapes of a batch ask for, each asked for once: popular ones are in many.

    A number of downloads that does not fit a response is the nearest that does, and one that is no number is 0:
    `misfits` is how many there were.

    Args:
        together: all keys are on one server, so that one segment, this one, holds all commands.
    """

    __slots__ = ("_asked", "_parts", "_segments", "_swarms", "_together", "misfits")

    def __init__(self, together: bool) -> None:
        super().__init__(b"", b"", 0)
        self._together = together
        self._swarms: dict[int, dict[bytes, ScrapedSwarm]] = {family: {} for family in FAMILIES}
        self._asked: list[ScrapedSwarm] = []
        self._parts: list[bytes] = []
        self._segments: list[Segment] = []
        self.misfits = 0

    def ask(self, scrape: ScrapeOperation) -> list[ScrapedSwarm]:
        """The swarms of a scrape, in its order, whose counts will stand there."""
        swarms, scraped, missing = self._swarms[scrape.family], [], []
        for info_hash in scrape.info_hashes:
            swarm = swarms.get(info_hash)
            if swarm is None:
                swarm = swarms[info_hash] = ScrapedSwarm()
                self._asked.append(swarm)
                missing.append(info_hash)
            scraped.append(swarm)
        if missing:
            self._plan(scrape.family, missing)
        return scraped

    def segments(self) -> list[Segment]:
        """What is sent for all that was asked."""
        if self._asked and self._together:
            self.payload = b"".join(self._parts)
            return [self]
        return self._segments

    def take(self, replies: Replies, at: int) -> int:
        for swarm in self._asked:
            if replies.failed:
                self._take_error(swarm, replies[at : at + 3])
            if swarm.error is None:
                swarm.seeders, downloads, swarm.leechers = replies[at], replies[at + 1], replies[at + 2]
                if downloads is not None:
                    swarm.downloads = self._fitting(downloads)
            at += 3
        return at

    def _plan(self, family: int, info_hashes: list[bytes]) -> None:
        of_seeders, of_leechers = _COMMANDS[family]
        downloads, parts = DOWNLOADS[family], self._parts
        seeders_size, get, field, leechers_size = of_seeders.size, downloads.get, downloads.field, of_leechers.size
        self.replies += 3 * len(info_hashes)
        for info_hash in info_hashes:
            digits = info_hash.hex().encode()
            shard = digits[:4]
            if self._together:
                parts += (seeders_size, digits, END, get, shard, field, info_hash, END, leechers_size, digits, END)
            else:
                self._segments += (
                    Segment(of_seeders.key + digits, seeders_size + digits + END, 1),
                    Segment(downloads.key + shard, b"".join((get, shard, field, info_hash, END)), 1),
                    Segment(of_leechers.key + digits, leechers_size + digits + END, 1),
                )

    def _take_error(self, swarm: ScrapedSwarm, replies: list[Any]) -> None:
        for place, reply in enumerate(replies):
            if isinstance(reply, ReplyError) and not (place == 1 and is_broken_value(reply)):
                swarm.error = store_error(reply)
                return

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


@final
@mypyc_attr(acyclic=True)
class ScrapePlan:
    """One scrape, by its place in the batch, and the swarms that it asks for, in its order."""

    __slots__ = ("_swarms", "place")

    def __init__(self, place: int, swarms: list[ScrapedSwarm]) -> None:
        self.place = place
        self._swarms = swarms

    def result(self) -> ScrapeResult | StoreError:
        """Its answer, once the replies are taken."""
        counts: list[int] = []
        for swarm in self._swarms:
            if swarm.error is not None:
                return swarm.error
            counts += (swarm.seeders, swarm.downloads, swarm.leechers)
        return ScrapeResult(counts)
