"""How many peers one source may have in one swarm, and in all.

A peer is what a store keeps: a peer id, a port and an address. It is counted for the source that announces it, whatever
address it names, from its first announce until it stops, or until it was not heard of for `peer_lifetime`. A source is
what it is for `door`. All of this is of proven senders, so nobody holds places in another's name. Peers are counted
before hooks are asked, so that no source can have these asked about more: one that a hook refuses keeps its place.

The peers of a source are known by hashes, with a key of this process that nobody can guess. Most sources have one, and
cost no more than an object for it. When more peers are remembered than may be, the sources that were not heard of for
longest are forgotten, and begin anew: a bound is never below what is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from mypy_extensions import i64

from udptracker.access.limits.offenders import Offenders
from udptracker.core.networks import NetworkSet
from udptracker.core.reasons import TOO_MANY_PEERS, TOO_MANY_PEERS_IN_SWARM
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question
from udptracker.core.wire import Event

SHARES: Final = 32
"""Of no source are more peers remembered than this part of all, so that none can have the others forgotten."""
_PARTS: Final = 8
_LET_GO_AT_ONCE: Final = 64
"""Sources are spread over so many tables, so that none is so large that to resize it would be felt, and those that are
forgotten are let go so many a turn of datagrams: half a million at once would hold everybody up for 20 ms."""
_LOOK_SECONDS: Final = 1.0


@final
class _Peer:
    """When it was heard of, and where."""

    def __init__(self, swarm: int, heard: float) -> None:
        self.swarm = swarm
        self.heard = heard


@final
class _Many:
    """Several peers of a source, and how many of them each swarm has."""

    def __init__(self) -> None:
        self.peers: dict[int, _Peer] = {}
        self.in_swarm: dict[int, int] = {}
        self._next_look = 0.0

    def add(self, swarm: int, peer: int, heard: float) -> None:
        self.peers[peer] = _Peer(swarm, heard)
        self.in_swarm[swarm] = self.in_swarm.get(swarm, 0) + 1

    def remove(self, peer: int) -> bool:
        """Whether it was there."""
        found = self.peers.pop(peer, None)
        if found is None:
            return False
        left = self.in_swarm[found.swarm] - 1
        if left:
            self.in_swarm[found.swarm] = left
        else:
            del self.in_swarm[found.swarm]
        return True

    def expire(self, now: float, lifetime: float) -> int:
        """Remove what was not heard of for so long; how many those were. It looks when there may be some, and once in
        `_LOOK_SECONDS` at the most, since it looks at all."""
        if now < self._next_look:
            return 0
        stale = []
        oldest = now
        for peer, found in self.peers.items():
            if found.heard + lifetime <= now:
                stale.append(peer)
            elif found.heard < oldest:
                oldest = found.heard
        for peer in stale:
            self.remove(peer)
        self._next_look = max(oldest + lifetime, now + _LOOK_SECONDS)
        return len(stale)


@final
class _Held:
    """The peers of one source: one, or several."""

    def __init__(self, swarm: int, peer: int, now: float) -> None:
        self.swarm: i64 = swarm
        self.peer: i64 = peer
        self.heard = now
        self.many: _Many | None = None

    def count(self) -> int:
        return 1 if self.many is None else len(self.many.peers)


@final
class _Table:
    """Some of the sources, in two generations as in `table`, of which it counts the peers."""

    def __init__(self) -> None:
        self._young: dict[bytes, _Held] = {}
        self._old: dict[bytes, _Held] = {}
        self.young_peers: i64 = 0
        self.old_peers: i64 = 0

    def find(self, source: bytes) -> _Held | None:
        """What a source has, which from now on was heard of."""
        held = self._young.get(source)
        if held is None:
            held = self._old.pop(source, None)
            if held is not None:
                self._young[source] = held
                self.old_peers -= held.count()
                self.young_peers += held.count()
        return held

    def begin(self, source: bytes, held: _Held) -> None:
        """A source that has one peer."""
        self._young[source] = held
        self.young_peers += 1

    def stop(self, source: bytes, peer: int) -> None:
        """A peer leaves, if it is there."""
        held = self._young.get(source)
        is_young = held is not None
        if held is None:
            held = self._old.get(source)
            if held is None:
                return
        many = held.many
        if many is None:
            if held.peer != peer:
                return
        elif not many.remove(peer):
            return
        if is_young:
            self.young_peers -= 1
        else:
            self.old_peers -= 1
        if many is None or not many.peers:
            del (self._young if is_young else self._old)[source]

    def turn(self) -> dict[bytes, _Held]:
        """Begin a new generation: the sources that were not heard of since the last one did, which are forgotten."""
        forgotten = self._old
        self._old, self.old_peers = self._young, self.young_peers
        self._young, self.young_peers = {}, 0
        return forgotten


@final
class PeersRule:
    """Refuses peers beyond the bounds; a `Rule`. It has none until its `use`.

    Args:
        places: of what is over the bound in one swarm, and over that in all, in `limited`: where it is only watched;
            what is enforced is in the next.
        limited: where it is counted, `Counters.limited`.
        offenders: is told the source of it.
        clock: seconds of any steady clock.
    """

    def __init__(
        self, places: tuple[int, int], limited: list[int], offenders: Offenders, clock: Callable[[], float]
    ) -> None:
        self._place_in_swarm, self._place_in_all = places
        self._limited = limited
        self._offenders = offenders
        self._clock = clock
        self._tables = [_Table() for _ in range(_PARTS)]
        self._forgotten: list[dict[bytes, _Held]] = []
        self._turned = 0
        self._turn_at = 0.0
        self.use(enforced=False, exempt=None, v6_bytes=8, in_swarm=0, in_all=0, lifetime=1.0, most=1)

    def use(
        self,
        *,
        enforced: bool,
        exempt: NetworkSet | None,
        v6_bytes: int,
        in_swarm: int,
        in_all: int,
        lifetime: float,
        most: int,
    ) -> None:
        """Judge by this from now on; the peers of sources are remembered.

        Args:
            enforced: whether what is over a bound is refused.
            exempt: sources that have no bounds.
            v6_bytes: of the prefix of IPv6 networks that are a source.
            in_swarm, in_all: the bounds, 0 for none.
            lifetime: seconds after which a peer that was not heard of has left.
            most: peers that are remembered, of all sources.
        """
        self._enforced = 1 if enforced else 0
        self._exempt = exempt
        self._width = v6_bytes
        self._in_swarm = in_swarm
        self._in_all = in_all
        self._lifetime = lifetime
        self._most_young: i64 = max(most // (2 * _PARTS), 1)
        self._share = max(most // SHARES, 1)

    def peers(self) -> int:
        """How many are remembered."""
        return sum([table.young_peers + table.old_peers for table in self._tables])

    def judge(self, questions: Sequence[Question]) -> None:
        now = self._clock()
        if now >= self._turn_at:
            self._turn(now)
        if self._forgotten:
            self._let_go()
        for question in questions:
            operation = question.operation
            if isinstance(operation, AnnounceOperation) and not question.refusal:
                source = question.source
                key = source[: self._width] if len(source) == 16 else source
                peer = hash(operation.info_hash + operation.peer)
                table = self._tables[hash(key) % _PARTS]
                if operation.event is Event.STOPPED:
                    table.stop(key, peer)
                else:
                    self._announce(question, table, key, hash(operation.info_hash), peer, now)

    def _announce(self, question: Question, table: _Table, key: bytes, swarm: int, peer: int, now: float) -> None:
        if table.young_peers >= self._most_young:
            self._forgotten.append(table.turn())
        held = table.find(key)
        if held is None:
            table.begin(key, _Held(swarm, peer, now))
            return
        many = held.many
        if many is None:
            if held.peer == peer:
                held.heard = now
                return
            many = held.many = _Many()
            many.add(held.swarm, held.peer, held.heard)
        found = many.peers.get(peer)
        if found is not None:
            found.heard = now
            return
        if self._in_all and len(many.peers) >= self._in_all:
            self._expire(table, many, now)
            if len(many.peers) >= self._in_all:
                self._over(question, key, TOO_MANY_PEERS, self._place_in_all)
                return
        if self._in_swarm and many.in_swarm.get(swarm, 0) >= self._in_swarm:
            self._expire(table, many, now)
            if many.in_swarm.get(swarm, 0) >= self._in_swarm:
                self._over(question, key, TOO_MANY_PEERS_IN_SWARM, self._place_in_swarm)
                return
        if len(many.peers) >= self._share:
            self._expire(table, many, now)
            if len(many.peers) >= self._share:
                return
        many.add(swarm, peer, now)
        table.young_peers += 1

    def _expire(self, table: _Table, many: _Many, now: float) -> None:
        table.young_peers -= many.expire(now, self._lifetime)

    def _over(self, question: Question, key: bytes, words: str, place: int) -> None:
        if self._exempt is not None and self._exempt.have(question.source):
            return
        self._limited[place + self._enforced] += 1
        self._offenders.add(key)
        if self._enforced:
            question.refuse(words)

    def _turn(self, now: float) -> None:
        """Turn the tables one after the other, each once in a `lifetime`; after a time in which nobody came, all."""
        between = self._lifetime / _PARTS
        for _ in range(2 * _PARTS):
            self._forgotten.append(self._tables[self._turned].turn())
            self._turned = (self._turned + 1) % _PARTS
            self._turn_at += between
            if now < self._turn_at:
                return
        self._turn_at = now + between

    def _let_go(self) -> None:
        """Of some of those that are forgotten."""
        forgotten = self._forgotten[-1]
        for _ in range(min(len(forgotten), _LET_GO_AT_ONCE)):
            forgotten.popitem()
        if not forgotten:
            self._forgotten.pop()
