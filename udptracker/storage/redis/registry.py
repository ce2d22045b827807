"""What a node does so that a family's hash names every swarm hash that has peers. No I/O.

A name that could not be written is owed, and sent again with each batch until it holds. And once a second a name that
should be there is written: if it was not, the hash is lost, evicted or deleted, and the next walk builds it anew.
"""

from __future__ import annotations

from typing import Final, final

from udptracker.core.swarm import Role

PROBE_NANOSECONDS: Final = 1_000_000_000
MOST_OWED: Final = 10_000
"""Names. Beyond it a node forgets the first: the next walk over a lost hash finds it."""


@final
class Registration:
    """The name of a swarm hash, to be written into its family's hash.

    `announces` are the places in the batch of those that need it. `probes` when nobody does, and it should be there.
    """

    __slots__ = ("announces", "family", "hexadecimal", "probes", "role")

    def __init__(self, family: int, role: Role, hexadecimal: bytes, announces: list[int]) -> None:
        self.family = family
        self.role = role
        self.hexadecimal = hexadecimal
        self.announces = announces
        self.probes = False


@final
class Registry:
    """One node's. `lost` is set to true when a probe shows that a family's hash is not what it was."""

    __slots__ = ("_owed", "_probe_at", "lost")

    def __init__(self) -> None:
        self._owed: dict[tuple[int, Role, bytes], Registration] = {}
        self._probe_at = 0
        self.lost = False

    def owe(self, registration: Registration) -> None:
        """Keep one that failed."""
        if len(self._owed) >= MOST_OWED:
            del self._owed[next(iter(self._owed))]
        name = (registration.family, registration.role, registration.hexadecimal)
        self._owed[name] = Registration(*name, [])

    def take_owed(self) -> list[Registration]:
        """What is owed, once: what fails again is to be owed again."""
        if not self._owed:
            return []
        owed = list(self._owed.values())
        self._owed.clear()
        return owed

    def probes(self, now: int) -> bool:
        """Whether it is time for a probe, at `now` in nanoseconds; the next is a second later."""
        if now < self._probe_at and self._probe_at - now <= PROBE_NANOSECONDS:
            return False
        self._probe_at = now + PROBE_NANOSECONDS
        return True
