"""What a node does so that a family's hash names every swarm hash that has peers. No I/O.

A name that could not be written is owed, and sent again with each batch until it holds. And once a second it is asked
for a name that should be there: if it is not, the hash is lost, evicted or deleted, and the next walk builds it anew.
"""

from __future__ import annotations

from typing import Final, final

from udptracker.core.swarm import FAMILIES, Role

PROBE_NANOSECONDS: Final = 1_000_000_000
MOST_OWED: Final = 10_000
"""Names. Beyond it a node forgets the first: the next walk over a lost hash finds it."""


@final
class Registration:
    """The name of a swarm hash, to be written into its family's hash.

    `announces` are the places in the batch of those that need it.
    """

    __slots__ = ("announces", "family", "hexadecimal", "role")

    def __init__(self, family: int, role: Role, hexadecimal: bytes, announces: list[int]) -> None:
        self.family = family
        self.role = role
        self.hexadecimal = hexadecimal
        self.announces = announces


@final
class Registry:
    """One node's. `lost` are the families whose hash is not what it was, as a probe showed."""

    __slots__ = ("_owed", "_probe_at", "lost")

    def __init__(self) -> None:
        self._owed: dict[tuple[int, Role, bytes], Registration] = {}
        self._probe_at = dict.fromkeys(FAMILIES, 0)
        self.lost: set[int] = set()

    def owe(self, registration: Registration) -> None:
        """Keep one that failed, to be sent with the next batch."""
        name = (registration.family, registration.role, registration.hexadecimal)
        if name not in self._owed and len(self._owed) >= MOST_OWED:
            del self._owed[next(iter(self._owed))]
        self._owed[name] = Registration(*name, [])

    def settle(self, registration: Registration) -> None:
        """One holds."""
        self._owed.pop((registration.family, registration.role, registration.hexadecimal), None)

    def owed(self, family: int) -> list[Registration]:
        """What does not hold yet."""
        return [registration for name, registration in self._owed.items() if name[0] == family]

    def take_probe(self, family: int, now: int) -> bool:
        """Whether it is time for a probe, at `now` in nanoseconds; the next is due a second later."""
        if 0 < self._probe_at[family] - now <= PROBE_NANOSECONDS:
            return False
        self._probe_at[family] = now + PROBE_NANOSECONDS
        return True
