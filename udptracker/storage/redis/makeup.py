"""The rounds after the first: what its replies showed to be missing. No I/O.

Most batches of steady announces need none. The second round moves peers out of their other role and registers their
swarms, where their fields were new and nothing said that they would be; counts downloads; takes away who was at the
endpoint of a peer that started; and reads more of a swarm where many of those that were read share an endpoint. A
third puts a peer back that was moved in two directions at once.
"""

from __future__ import annotations

from typing import Final, final

from udptracker.core.swarm import FAMILIES, SEEDER, AnnounceResult, Role
from udptracker.redis.link import Replies
from udptracker.redis.segment import Segment
from udptracker.storage.redis import scripts
from udptracker.storage.redis.context import Context
from udptracker.storage.redis.downloads import count_download
from udptracker.storage.redis.errors import is_broken_value
from udptracker.storage.redis.layout import COMMANDS, COUNTS, END, swarm_key
from udptracker.storage.redis.plan import Piece, RegistrationsPlan, RolePlan, Single, SwarmPlan, take_all
from udptracker.storage.redis.registry import Registration
from udptracker.storage.redis.samples import Samples

CLOCKS_APART: Final = 50_000_000
"""Nanoseconds: so much ahead of this node's idea of the store's clock may another's be. A peer's entry in the other
role that is not newer than that is still taken for older than its announce."""

MORE_PEERS: Final = 1_000
"""Random peers of a role that are read where fewer did not do."""

_OTHER: Final = {Role.SEEDER: Role.LEECHER, Role.LEECHER: Role.SEEDER}


@final
class MakeUp:
    """See the module. The first round fills the lists; then `next_round` and `read` in turn until there is no more.

    `graduated` are the places of announces that completed a download; `older` (place, role, peer) of peers at the
    endpoint of who started; `crowded` the swarms of which more is read.
    """

    def __init__(self, context: Context, samples: Samples) -> None:
        self.graduated: list[int] = []
        self.older: list[tuple[int, Role, bytes]] = []
        self.crowded: list[SwarmPlan] = []
        self._context = context
        self._samples = samples
        self._pieces: list[Piece] = []
        self._registrations: list[RegistrationsPlan] = []
        self._moves: list[Single] = []
        self._drops: list[Single] = []
        self._downloads: list[Single] = []
        self._returns: list[Single] = []
        self._returning: list[int] = []
        self._began = False

    def next_round(self) -> list[Segment]:
        """What is to be sent next, nothing if that was all."""
        self._pieces = []
        if self._began:
            self._plan_returns()
        else:
            self._began = True
            self._plan_moves()
            self._downloads += [Single(place, self._count_download(place)) for place in self.graduated]
            self._pieces += self._downloads
            self._plan_drops()
            for swarm in self.crowded:
                self._plan_more(swarm)
        return [*self._pieces]

    def read(self, replies: Replies) -> None:
        """Take the replies to what was sent last."""
        take_all(self._pieces, replies)
        context = self._context
        for planned in self._registrations:
            context.read_registrations(planned)
        self._registrations.clear()
        for move in self._moves:
            if move.reply in (1, 2):
                self._left_other_role(move.announce)
                if move.reply == 2:
                    self._returning.append(move.announce)
        for (place, role, _), drop in zip(self.older, self._drops, strict=True):
            if drop.reply == 1:
                context.changes.append((COMMANDS[context.announce(place).family, role].counter, -1))
        for back in self._returns:
            if back.reply == 1:
                announce = context.announce(back.announce)
                context.changes.append((COMMANDS[announce.family, announce.role].counter, 1))
        for download in self._downloads:
            if is_broken_value(download.reply):  # which keeps no peer out
                context.misfits += 1
                download.reply = 0
        for singles in (self._moves, self._downloads, self._returns):
            context.refuse_failed(singles)
            singles.clear()
        self.older.clear()
        self._drops.clear()

    def _plan_moves(self) -> None:
        context = self._context
        registrations: dict[int, list[Registration]] = {family: [] for family in FAMILIES}
        last = b"%d" % (context.now + CLOCKS_APART)
        for place in context.late:
            announce = context.announce(place)
            family, role, info_hash = announce.family, announce.role, announce.info_hash
            key = swarm_key(family, _OTHER[role], info_hash)
            # Not if newer: a `completed` of the same peer may have overtaken this round.
            self._moves.append(Single(place, scripts.leave_role(key, announce.peer, context.stamp, last)))
        for place in (*context.late, *context.unnamed):
            announce = context.announce(place)
            registration = Registration(announce.family, announce.role, announce.info_hash.hex().encode(), [place])
            registrations[announce.family].append(registration)
        self._pieces += self._moves
        for family, names in registrations.items():
            if names:
                self._registrations.append(RegistrationsPlan(family, names, context.stamp_end))
        self._pieces += self._registrations

    def _count_download(self, place: int) -> Segment:
        context, announce = self._context, self._context.announce(place)
        return count_download(announce.family, announce.info_hash, announce.peer, context.stamp, context.lifetime)

    def _plan_drops(self) -> None:
        before = b"%d" % (self._context.now - 1)  # who comes at this very moment, in this batch perhaps, stays
        for place, role, peer in self.older:
            announce = self._context.announce(place)
            key = swarm_key(announce.family, role, announce.info_hash)
            self._drops.append(Single(place, scripts.drop_older(key, peer, before)))
        self._pieces += self._drops

    def _plan_more(self, swarm: SwarmPlan) -> None:
        digits = swarm.info_hash.hex().encode()
        plans: list[RolePlan] = []
        for role in Role:
            commands = COMMANDS[swarm.family, role]
            draws = (swarm.wants_seeders if role is SEEDER else swarm.wants_leechers) > 0
            end = (commands.random, digits, COUNTS[MORE_PEERS]) if draws else (END,)
            payload = b"".join((commands.size, digits, *end))
            plans.append(RolePlan(commands.key + digits, payload, [], True, draws))
        swarm.seeders, swarm.leechers = plans
        swarm.needs_leechers = True
        self._pieces += plans

    def _plan_returns(self) -> None:
        """A peer that another node wrote into its other role at the same moment may have been taken out of both."""
        for place in self._returning:
            announce = self._context.announce(place)
            key = swarm_key(announce.family, announce.role, announce.info_hash)
            self._returns.append(Single(place, scripts.put_newer(key, announce.peer, self._context.stamp)))
        self._returning.clear()
        self._pieces += self._returns

    def _left_other_role(self, place: int) -> None:
        context = self._context
        announce, result = context.announce(place), context.results[place]
        other = _OTHER[announce.role]
        context.changes.append((COMMANDS[announce.family, other].counter, -1))
        self._samples.left(announce, other, context.now)
        if isinstance(result, AnnounceResult):
            seeders, leechers = result.seeders, result.leechers
            if other is SEEDER:
                seeders = max(seeders - 1, 0)
            else:
                leechers = max(leechers - 1, 0)
            context.results[place] = AnnounceResult(seeders, leechers, result.peers)
