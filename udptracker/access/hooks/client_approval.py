"""`client approval` of chihaya: only the clients of a list, or all but those of a list."""

from __future__ import annotations

from collections.abc import Iterable

from udptracker.access.hooks.api import client_of
from udptracker.access.hooks.at_once import AtOnce
from udptracker.core.counters import Counters
from udptracker.core.reasons import UNAPPROVED_CLIENT
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question


class ClientApproval(AtOnce):
    """As in chihaya, a list that is empty decides nothing.

    Args:
        whitelist, blacklist: client ids of six bytes, as `client_of` finds them in a peer id.
    """

    def __init__(self, name: str, counters: Counters, whitelist: Iterable[bytes], blacklist: Iterable[bytes]) -> None:
        super().__init__(name, counters)
        self._approved = frozenset(whitelist)
        self._unapproved = frozenset(blacklist)

    def decide(self, question: Question, announce: AnnounceOperation) -> str:
        client = client_of(announce.peer)
        if (self._approved and client not in self._approved) or client in self._unapproved:
            return UNAPPROVED_CLIENT
        return ""
