"""The door: how many connects, announces, scrapes and bad connection ids may come of one source.

A source is an IPv4 address, or an IPv6 network of 64 bits, which is what one subscriber has; of 56 and 48, too, if
asked. What is over a limit gets no answer, or, where it is only watched, is counted.

Threat model. The address of a connect, and of a request whose id is not valid, may be forged; that of a request with a
valid id is proven. Each has a table of its own, so that

- a proven request is judged by nothing but the proven requests of its source: connects and bad ids that others send in
  its name cannot keep it out, nor can a flood of forged addresses have an offender's announces forgotten;
- a source that was proven within the last hour is not limited in its connects at all, since a flood from it and one in
  its name look the same, and whoever could have it shut out could take its peers off the tracker. It costs what it
  always did: 16 bytes of answer for 16 bytes of question, which makes no weapon;
- a flood of forged addresses can push an unproven source out of the table, if half a table of them comes between two of
  its requests, and so give it a full bucket again: 50,000 datagrams, by default, for as many connects as a bucket has.

What is left: whoever sends more connects than the limit in the name of an address that was not proven lately can keep
it from its first connection id for as long as that goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from udptracker.access.limits.offenders import Offenders
from udptracker.access.limits.table import Table
from udptracker.core.counters import CONNECTED
from udptracker.core.networks import NetworkSet

PROVEN_SECONDS: Final = 3600.0
"""For how long, at least, a source that was proven is known to be; it is half of the most, and more than clients let
pass between two announces."""
_CLAIMED_SECONDS: Final = 60.0

_SOURCES_AS_WIDE: Final = {8: 1.0, 7: 8.0, 6: 16.0}
"""As how many sources a network counts, by the bytes of its prefix: one of 64, 56 and 48 bits."""

_WITHIN: Final = 0
"""What no network is wide."""


@final
class Limit:
    """One kind of request.

    Args:
        place: of what is over it in `Counters.limited`, where it is only watched; what is enforced is in the next.
        reason: why what is over it gets no answer.
        is_proven: whether its source is.
        is_first: which bucket of an account is its.
    """

    def __init__(self, place: int, reason: str, *, is_proven: bool, is_first: bool) -> None:
        self.place = place
        self.reason = reason
        self.is_proven = is_proven
        self.is_first = is_first
        self.step = 0.0
        self.most = 0.0

    def use(self, step: float, burst: int) -> None:
        """From now on one every `step` seconds, 0 for no limit, and `burst` at once."""
        self.step = step
        self.most = step * burst + 1e-6  # what a sum of steps may be off by


@final
class _Network:
    """IPv6 networks of one width as sources, and the wider ones around them.

    Args:
        width: bytes of the prefix.
        wider: those around, if they are sources, too.
    """

    def __init__(self, width: int, wider: _Network | None) -> None:
        self.width = width
        self._as_many = _SOURCES_AS_WIDE[width]
        self._wider = wider

    def take(self, limit: Limit, table: Table, source: bytes, now: float) -> int:
        """Take for a packed address from its network and those around it, or from none of them: the width of the one
        that has nothing left, or `_WITHIN`."""
        step = limit.step / self._as_many
        account = table.account(source[: self.width], now)
        if not account.take(limit.is_first, step, limit.most, now):
            return self.width
        over = _WITHIN if self._wider is None else self._wider.take(limit, table, source, now)
        if over:
            account.give_back(limit.is_first, step)
        return over


@final
class Door:
    """Judges sources; a limit has none until its `use`.

    Args:
        limits: by kind of request, its place in `counters.ANSWER_NAMES`.
        limited: where what is over a limit is counted, `Counters.limited`.
        offenders: is told the source of it.
    """

    def __init__(self, limits: Sequence[Limit], limited: list[int], offenders: Offenders) -> None:
        self._limits = list(limits)
        self._limited = limited
        self._offenders = offenders
        self._enforced = 0
        self._exempt: NetworkSet | None = None
        self._network = _Network(8, None)
        self._proven = Table(1, PROVEN_SECONDS)
        self._claimed = Table(1, _CLAIMED_SECONDS)

    def use(self, *, enforced: bool, exempt: NetworkSet | None, v6_bytes: Sequence[int], most: int) -> None:
        """Judge by this from now on; what is known of sources stays.

        Args:
            enforced: whether what is over a limit gets no answer.
            exempt: sources that have no limits.
            v6_bytes: of the prefixes of IPv6 networks that are a source, 8, 7 and 6, at least one of them.
            most: accounts in each of the two tables.
        """
        self._enforced = 1 if enforced else 0
        self._exempt = exempt
        network = None
        for width in sorted(v6_bytes):
            network = _Network(width, network)
        assert network is not None
        self._network = network
        half = max(most // 2, 1)
        # A bucket that is forgotten is a full one, so none may be before it is full.
        self._proven.use(half, max(limit.most for limit in self._limits if limit.is_proven) + PROVEN_SECONDS)
        self._claimed.use(half, max(limit.most for limit in self._limits if not limit.is_proven) + _CLAIMED_SECONDS)

    def sources(self) -> int:
        """How many accounts there are."""
        return len(self._proven) + len(self._claimed)

    def admit(self, kind: int, source: bytes, now: float) -> str | None:
        """See `core.tracker.Admit`."""
        limit = self._limits[kind]
        table = self._claimed
        if limit.is_proven:
            table = self._proven
            if limit.step == 0.0:
                table.account(self._key(source), now)  # it is known to be proven all the same
                return None
        elif limit.step == 0.0 or (kind == CONNECTED and self._proven.knows(self._key(source), now)):
            return None
        if len(source) == 16:
            over = self._network.take(limit, table, source, now)
            return None if over == _WITHIN else self._over(limit, source[:over], source)
        if table.account(source, now).take(limit.is_first, limit.step, limit.most, now):
            return None
        return self._over(limit, source, source)

    def _key(self, source: bytes) -> bytes:
        return source[: self._network.width] if len(source) == 16 else source

    def _over(self, limit: Limit, key: bytes, source: bytes) -> str | None:
        if self._exempt is not None and self._exempt.have(source):
            return None
        self._limited[limit.place + self._enforced] += 1
        self._offenders.add(key)
        return limit.reason if self._enforced else None
