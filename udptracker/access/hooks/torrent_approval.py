"""`torrent approval` of chihaya: only the torrents of a list, or all but those of a list."""

from __future__ import annotations

from collections.abc import Iterable

from udptracker.access.hooks.at_once import AtOnce
from udptracker.core.counters import Counters
from udptracker.core.reasons import UNAPPROVED_TORRENT
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question


class TorrentApproval(AtOnce):
    """As in chihaya, a list that is empty decides nothing.

    Args:
        whitelist, blacklist: info hashes of 20 bytes.
    """

    def __init__(self, name: str, counters: Counters, whitelist: Iterable[bytes], blacklist: Iterable[bytes]) -> None:
        super().__init__(name, counters)
        self._approved = frozenset(whitelist)
        self._unapproved = frozenset(blacklist)

    def decide(self, question: Question, announce: AnnounceOperation) -> str:
        info_hash = announce.info_hash
        if (self._approved and info_hash not in self._approved) or info_hash in self._unapproved:
            return UNAPPROVED_TORRENT
        return ""
