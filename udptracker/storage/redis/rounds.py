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

from collections.abc import Callable, Sequence
from typing import Final, final

from udptracker.core.swarm import (
    FAMILIES,
    LEECHER,
    PEER_KEY_BYTES,
    SEEDER,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    Role,
    StoreError,
    compact_endpoint,
)
from udptracker.core.wire import COMPACT_BYTES, COMPLETED, NO_EVENT, STARTED, STOPPED
from udptracker.redis.link import Replies
from udptracker.redis.segment import Segment
from udptracker.storage.redis.answers import NO_POOLS, Pools, choose, make_pools, pack_endpoints
from udptracker.storage.redis.context import Context
from udptracker.storage.redis.layout import COMMANDS, COUNTS, END, command, counted_key, group, stopped_key, swarm_key
from udptracker.storage.redis.makeup import MakeUp
from udptracker.storage.redis.plan import (
    CountsPlan,
    Piece,
    RegistrationsPlan,
    RolePlan,
    ScrapePlan,
    Single,
    SwarmPlan,
    take_all,
)
from udptracker.storage.redis.registry import Registration, Registry
from udptracker.storage.redis.samples import LARGE_SWARM, SAMPLE_PEERS, Samples

_COMMANDS: Final = {family: (COMMANDS[family, Role.SEEDER], COMMANDS[family, Role.LEECHER]) for family in FAMILIES}

_SPREAD: Final = 3
"""Announces that share a read choose from up to so many times what one of them wants, so that their answers differ."""


@final
class Batch:
    """See the module. Used once: `first_round`, `read_first`, then `next_round` and `read_next` in turn for as long as
    there is something to be sent.

    Args:
        operations: what to plan; `results` has the same length and order.
        now: nanoseconds, the modification time of what is written.
        draw: a source of uniform numbers in [0, 1).
        samples: of large swarms.
        registry: what the node knows of the families' hashes.
        lifetime: milliseconds, how long it is remembered that a peer stopped, or completed; 0 for not at all.
        together: all keys are on one server, so that commands on several of them may go as one.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        now: int,
        draw: Callable[[], float],
        samples: Samples,
        registry: Registry,
        lifetime: int = 0,
        together: bool = False,
    ) -> None:
        self._context = Context(operations, now, draw, registry, b"%d" % lifetime if lifetime else b"")
        self._make_up = MakeUp(self._context, samples)
        self._samples = samples
        self._swarms: dict[int, dict[bytes, SwarmPlan]] = {family: {} for family in FAMILIES}
        self._counts = CountsPlan(together)
        self._scrapes: list[ScrapePlan] = []
        self._pieces: list[Piece] = []
        self._registrations: list[RegistrationsPlan] = []
        self._probes: list[Single] = []
        self._stops: list[Single] = []

    @property
    def results(self) -> list[Result | StoreError]:
        """In the order of the operations."""
        return self._context.results

    @property
    def changes(self) -> list[tuple[bytes, int]]:
        """(counter, change) for each field that was new or removed."""
        return self._context.changes

    @property
    def misfits(self) -> int:
        """Numbers from the store that no response has room for, or that are none."""
        return self._context.misfits + self._counts.misfits

    # ------------------------------------------------------------------------------------ the first round

    def first_round(self) -> list[Segment]:
        """Writes and reads of every operation."""
        pieces = self._pieces
        for place, operation in enumerate(self._context.operations):
            if isinstance(operation, AnnounceOperation):
                swarms = self._swarms[operation.family]
                swarm = swarms.get(operation.info_hash)
                if swarm is None:
                    swarms[operation.info_hash] = SwarmPlan(operation.family, operation.info_hash, place)
                else:
                    swarm.announces.append(place)
            else:
                self._scrapes.append(ScrapePlan(place, self._counts.ask(operation)))
        for family, swarms in self._swarms.items():
            registrations = self._context.registry.owed(family)
            for swarm in swarms.values():
                self._plan_swarm(swarm, pieces, registrations)
            self._plan_registrations(family, registrations)
            if swarms and self._context.registry.take_probe(family, self._context.now):
                self._plan_probe(list(swarms.values()))
        pieces += self._probes
        pieces += self._stops
        segments: list[Segment] = [*pieces]
        pieces.append(self._counts)
        return segments + self._counts.segments()

    def _plan_swarm(self, swarm: SwarmPlan, pieces: list[Piece], registrations: list[Registration]) -> None:
        of_seeders, of_leechers = _COMMANDS[swarm.family]
        digits, stamp_end = swarm.info_hash.hex().encode(), self._context.stamp_end
        seeder_parts: list[bytes] = []
        leecher_parts: list[bytes] = []
        seeder_writes: list[int] = []
        leecher_writes: list[int] = []
        registering: list[int] = []
        want_seeders = want_leechers = 0
        for place in swarm.announces:
            announce = self._context.operations[place]
            assert isinstance(announce, AnnounceOperation)
            peer, event, want = announce.peer, announce.event, announce.num_want
            seeds = announce.role is SEEDER
            stops = event is STOPPED
            if stops:
                self._remember_stop(place, announce)
            elif seeds:
                seeder_parts += (of_seeders.put, digits, of_seeders.peer, peer, stamp_end)
                seeder_writes.append(place)
                swarm.needs_leechers = swarm.needs_leechers or want > 0
            else:
                leecher_parts += (of_leechers.put, digits, of_leechers.peer, peer, stamp_end)
                leecher_writes.append(place)
                if want > want_seeders:
                    want_seeders = want
            if want > want_leechers:
                want_leechers = want
            if event is not NO_EVENT:
                if seeds or stops:
                    leecher_parts += (of_leechers.drop, digits, of_leechers.peer, peer, END)
                    leecher_writes.append(place)
                if not seeds or stops:
                    seeder_parts += (of_seeders.drop, digits, of_seeders.peer, peer, END)
                    seeder_writes.append(place)
                if not stops:
                    registering.append(place)
        if registering:
            self._register(swarm.family, digits, registering, registrations)
        swarm.wants_seeders, swarm.wants_leechers = want_seeders, want_leechers
        reads = self._reads(swarm)
        if reads:
            if swarm.wants_seeders:
                random = (of_seeders.size, digits, of_seeders.random, digits, COUNTS[swarm.wants_seeders])
                seeder_parts += random
            else:
                seeder_parts += (of_seeders.size, digits, END)
            if swarm.wants_leechers:
                random = (of_leechers.size, digits, of_leechers.random, digits, COUNTS[swarm.wants_leechers])
                leecher_parts += random
            else:
                leecher_parts += (of_leechers.size, digits, END)
        if seeder_parts:
            key, payload = of_seeders.key + digits, b"".join(seeder_parts)
            swarm.seeders = RolePlan(key, payload, seeder_writes, reads, reads and swarm.wants_seeders > 0)
            pieces.append(swarm.seeders)
        if leecher_parts:
            key, payload = of_leechers.key + digits, b"".join(leecher_parts)
            swarm.leechers = RolePlan(key, payload, leecher_writes, reads, reads and swarm.wants_leechers > 0)
            pieces.append(swarm.leechers)

    def _register(self, family: int, digits: bytes, places: list[int], registrations: list[Registration]) -> None:
        for role in Role:
            announces = [place for place in places if self._context.announce(place).role is role]
            if announces:
                registrations.append(Registration(family, role, digits, announces))

    def _plan_probe(self, swarms: list[SwarmPlan]) -> None:
        """Ask for the name of a swarm with a steady announce: it should be there if the field is."""
        for swarm in swarms:
            for place in swarm.announces:
                announce = self._context.announce(place)
                if announce.event is NO_EVENT:
                    key, name = group(swarm.family), swarm_key(swarm.family, announce.role, swarm.info_hash)
                    self._probes.append(Single(place, Segment(key, command(b"HEXISTS", key, name), 1)))
                    return

    def _reads(self, swarm: SwarmPlan) -> bool:
        """Whether the announces of a swarm are answered from a read that follows their writes, and not from its
        sample; how many peers of each role are asked for."""
        sample = self._samples.find(swarm.family, swarm.info_hash)
        if sample is not None:
            if self._samples.renews(sample, self._context.now):
                swarm.renewed, swarm.needs_leechers = sample, True
                swarm.wants_seeders = swarm.wants_leechers = SAMPLE_PEERS
                return True
            if self._context.now < sample.until:
                swarm.sample = sample
                return False
        spread = min(len(swarm.announces), _SPREAD)
        swarm.wants_seeders *= spread
        if swarm.wants_leechers:  # one more, since the announcer may be among them
            swarm.wants_leechers = swarm.wants_leechers * spread + 1
        return True

    def _plan_registrations(self, family: int, registrations: list[Registration]) -> None:
        if registrations:
            planned = RegistrationsPlan(family, registrations, self._context.stamp_end)
            self._registrations.append(planned)
            self._pieces.append(planned)

    def _remember_stop(self, place: int, announce: AnnounceOperation) -> None:
        if self._context.lifetime:
            key = stopped_key(announce.family, announce.info_hash, announce.peer)
            packed = command(b"SET", key, self._context.stamp, b"PX", self._context.lifetime)
            self._stops.append(Single(place, Segment(key, packed, 1)))
            key = counted_key(announce.family, announce.info_hash, announce.peer)
            self._stops.append(Single(place, Segment(key, command(b"DEL", key), 1)))

    def read_first(self, replies: Replies) -> None:
        """Take the replies of the first round."""
        take_all(self._pieces, replies)
        for family, swarms in self._swarms.items():
            if swarms:
                planned = list(swarms.values())
                for swarm in planned:
                    self._note_changes(swarm)
                self._answer(family, planned)
                if replies.failed:
                    self._refuse(planned)
        for registrations in self._registrations:
            self._context.read_registrations(registrations)
        for probe in self._probes:
            # A peer that is new to its role registers its swarm in the second round: its probe says nothing.
            if probe.reply == 0 and probe.announce not in self._context.late:
                self._context.unnamed.append(probe.announce)
                self._context.registry.lost.add(self._context.announce(probe.announce).family)
        self._context.refuse_failed(self._stops)
        for scrape in self._scrapes:
            self._context.results[scrape.place] = scrape.result()

    def _note_changes(self, swarm: SwarmPlan) -> None:
        """Fields that were new or removed: what it means for the counters and the second round."""
        seeders, leechers = swarm.seeders, swarm.leechers
        begin = len(self._context.late)
        if seeders is not None and seeders.changed is not None:
            self._note_changes_of(swarm, SEEDER, seeders.changed)
        if leechers is not None and leechers.changed is not None:
            self._note_changes_of(swarm, LEECHER, leechers.changed)
        if len(swarm.announces) > 1 and len(self._context.late) > begin:
            # What a later announce of the same peer in this batch says, holds.
            last = {self._context.announce(place).peer: place for place in swarm.announces}
            self._context.late[begin:] = [
                place for place in self._context.late[begin:] if last[self._context.announce(place).peer] == place
            ]

    def _note_changes_of(self, swarm: SwarmPlan, role: Role, changed: list[int]) -> None:
        family, sample = swarm.family, swarm.sample
        for place in changed:
            announce = self._context.announce(place)
            put = announce.event is not STOPPED and announce.role is role
            self._context.changes.append((COMMANDS[family, role].counter, 1 if put else -1))
            if put:
                if announce.event is NO_EVENT:
                    self._context.late.append(place)
                if sample is not None:
                    sample.join(role, compact_endpoint(announce.peer), family, self._context.draw)
                continue
            if announce.event is COMPLETED and announce.role is SEEDER:
                self._make_up.graduated.append(place)
            if sample is not None:
                sample.leave(role, compact_endpoint(announce.peer), family)

    def _answer(self, family: int, swarms: list[SwarmPlan]) -> None:
        """Results of the announces of some swarms of one family."""
        fields: list[bytes] = []
        for swarm in swarms:
            swarm.collect(fields)
        packed = pack_endpoints(fields, family)
        if fields and not packed:
            for swarm in swarms:
                swarm.leave_out_foreign(PEER_KEY_BYTES[family])
            self._answer(family, swarms)
            return
        width, begin = COMPACT_BYTES[family], 0
        for swarm in swarms:
            sample = swarm.sample
            if sample is not None:
                self._answer_from(swarm, sample.seeders, sample.leechers, sample.pools)
                continue
            seeders, leechers = swarm.seeders_collected, swarm.leechers_collected
            pools = NO_POOLS
            if seeders or leechers:
                end = begin + (seeders + leechers) * width
                pools = make_pools(packed[begin:end], seeders, leechers, family)
                begin = end
            self._answer_from_read(swarm, pools)

    def _answer_from_read(self, swarm: SwarmPlan, pools: Pools) -> None:
        assert swarm.seeders is not None
        assert swarm.leechers is not None
        seeders, leechers = swarm.seeders.count, swarm.leechers.count
        if seeders + leechers >= LARGE_SWARM:
            self._samples.note(swarm.family, swarm.info_hash, self._context.now)
            if swarm.renewed is not None:
                self._samples.keep(swarm.renewed, seeders, leechers, pools, self._context.now)
        elif swarm.renewed is not None:
            self._samples.forget(swarm.family, swarm.info_hash)
        short = self._answer_from(swarm, seeders, leechers, pools)
        if swarm.reads_more:
            return
        if short and not swarm.needs_leechers and not swarm.leechers_collected and swarm.leechers.count:
            swarm.needs_leechers = True
            self._answer(swarm.family, [swarm])
            return
        for place in swarm.announces:
            announce = self._context.announce(place)
            if announce.event is STARTED:
                self._make_up.older += [(place, role, peer) for role, peer in swarm.older(announce)]
        if short and swarm.unread:
            swarm.reads_more = True
            self._make_up.crowded.append(swarm)

    def _answer_from(self, swarm: SwarmPlan, seeders: int, leechers: int, pools: Pools) -> bool:
        """Answer the announces of a swarm; whether one of them is given fewer peers than it wants."""
        context, width, short = self._context, COMPACT_BYTES[swarm.family], False
        operations, results, draw = context.operations, context.results, context.draw
        for place in swarm.announces:
            announce = operations[place]
            assert isinstance(announce, AnnounceOperation)
            if swarm.reads_more and isinstance(results[place], StoreError):
                continue
            peers, want = b"", announce.num_want
            if want:
                peers = choose(announce, pools, draw)
                short = short or len(peers) < want * width
            results[place] = AnnounceResult(seeders, leechers, peers)
        return short

    def _refuse(self, swarms: list[SwarmPlan]) -> None:
        """The errors of swarms in place of their answers."""
        for swarm in swarms:
            error = swarm.error()
            if error is not None:
                for place in swarm.announces:
                    self._context.results[place] = error

    # ------------------------------------------------------------------------------------ the rounds that follow

    def next_round(self) -> list[Segment]:
        """What is still missing, nothing if that was all."""
        return self._make_up.next_round()

    def read_next(self, replies: Replies) -> None:
        """Take the replies to it."""
        make_up = self._make_up
        make_up.read(replies)
        for swarm in make_up.crowded:
            if swarm.error() is None:
                self._answer(swarm.family, [swarm])
        make_up.crowded.clear()
