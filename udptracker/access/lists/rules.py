"""What is decided by lists, at once: over torrents, clients, passkeys, and at the door over networks.

Each rule asks the tables of every source. Of torrents what is denied anywhere is denied; of clients and networks the
most particular entry decides, and of two alike the one that denies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final
from urllib.parse import parse_qsl, unquote_to_bytes

from udptracker.access.lists.tables import Clients, Found, Hashes, Networks, Passkeys
from udptracker.core.listed import hash_passkey
from udptracker.core.reasons import DENIED_NETWORK, UNAPPROVED_CLIENT, UNAPPROVED_PASSKEY, UNAPPROVED_TORRENT
from udptracker.core.swarm import AnnounceOperation, ScrapeOperation
from udptracker.core.tracker import Question
from udptracker.core.wire import PEER_ID_BYTES

MOST_URLS: Final = 16_384
LONGEST_URL: Final = 256
"""How many announce URLs of up to how many bytes are remembered with their passkeys. Others are read each time."""


@final
class TorrentRule:
    """Refuses announces of torrents that are not served, and answers scrapes of them with zeros.

    Attributes:
        now: Unix second, kept up to date by whoever has a clock.
    """

    __slots__ = ("_allowed", "_denied", "now", "only_allowed")

    def __init__(self) -> None:
        self._allowed: list[Hashes] = []
        self._denied: list[Hashes] = []
        self.only_allowed = False
        self.now = 0

    def use(self, allowed: Sequence[Hashes], denied: Sequence[Hashes], only_allowed: bool) -> None:
        """Decide by these."""
        self._allowed = list(allowed)
        self._denied = list(denied)
        self.only_allowed = only_allowed

    def refuses(self, info_hash: bytes) -> bool:
        """Whether a torrent is not served."""
        now = self.now
        for hashes in self._denied:
            if hashes.holds(info_hash, now):
                return True
        if not self.only_allowed:
            return False
        for hashes in self._allowed:  # noqa: SIM110  # a generator costs several times as much when it is compiled
            if hashes.holds(info_hash, now):
                return False
        return True

    def judge(self, questions: Sequence[Question]) -> None:
        if not self._denied and not self.only_allowed:
            return
        for question in questions:
            if question.refusal:
                continue
            operation = question.operation
            if isinstance(operation, AnnounceOperation):
                if self.refuses(operation.info_hash):
                    question.refuse(UNAPPROVED_TORRENT)
            else:
                self._hide(question, operation)

    def _hide(self, question: Question, operation: ScrapeOperation) -> None:
        hidden = [place for place, info_hash in enumerate(operation.info_hashes) if self.refuses(info_hash)]
        if hidden:
            question.hidden = hidden if question.hidden is None else question.hidden + hidden


@final
class ClientRule:
    """Refuses announces of clients by how their peer ids begin."""

    __slots__ = ("_tables", "now", "only_allowed")

    def __init__(self) -> None:
        self._tables: list[Clients] = []
        self.only_allowed = False
        self.now = 0

    def use(self, tables: Sequence[Clients], only_allowed: bool) -> None:
        """Decide by these."""
        self._tables = list(tables)
        self.only_allowed = only_allowed

    def judge(self, questions: Sequence[Question]) -> None:
        if not self._tables and not self.only_allowed:
            return
        for question in questions:
            operation = question.operation
            if not question.refusal and isinstance(operation, AnnounceOperation):
                peer_id = operation.peer[:PEER_ID_BYTES]
                best = -1
                for table in self._tables:
                    rank = table.rank(peer_id, self.now)
                    if rank > best:
                        best = rank
                if best & 1 if best >= 0 else self.only_allowed:
                    question.refuse(UNAPPROVED_CLIENT)


@final
class NetworkDoor:
    """Leaves requests from denied networks without an answer."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: list[Networks] = []

    def use(self, tables: Sequence[Networks]) -> None:
        """Decide by these."""
        self._tables = list(tables)

    def admit(self, kind: int, source: bytes, now: float) -> str | None:
        """See `core.tracker.Admit`."""
        if not self._tables:
            return None
        second = int(now)
        best = -1
        for table in self._tables:
            rank = table.rank(source, second)
            if rank > best:
                best = rank
        return DENIED_NETWORK if best >= 0 and best & 1 else None


@final
class PasskeyRule:
    """Tells whose announce it is, and refuses those that need a passkey and have none.

    Scrapes have no URL with them (BEP 41), and are let through.

    Args:
        most_urls: how many announce URLs are remembered; beyond it all are read anew.
    """

    __slots__ = ("_most", "_read", "_tables", "now", "required")

    def __init__(self, most_urls: int = MOST_URLS) -> None:
        self._most = most_urls
        self._tables: list[Passkeys] = []
        self._read: dict[bytes, bytes] = {}
        self.required = False
        self.now = 0

    def use(self, tables: Sequence[Passkeys], required: bool) -> None:
        """Decide by these."""
        self._tables = list(tables)
        self.required = required

    def judge(self, questions: Sequence[Question]) -> None:
        if not self._tables and not self.required:
            return
        for question in questions:
            if question.refusal or not isinstance(question.operation, AnnounceOperation):
                continue
            found = self._find(self._digest(question))
            if found is None:
                if self.required:
                    question.refuse(UNAPPROVED_PASSKEY)
            elif found.denied:
                question.refuse(UNAPPROVED_PASSKEY)
            else:
                question.user = found.user

    def _find(self, digest: bytes) -> Found | None:
        """What is known of a passkey: that it is denied, if any source says so."""
        best: Found | None = None
        if digest:
            for table in self._tables:
                found = table.find(digest, self.now)
                if found is not None and (best is None or found.denied):
                    best = found
        return best

    def _digest(self, question: Question) -> bytes:
        """The hash of the passkey in an announce URL, empty if there is none. It is the same with each announce of a
        client, and so remembered."""
        options = question.options()
        if not options:
            return b""
        digest = self._read.get(options)
        if digest is None:
            passkey = passkey_of(question)
            digest = hash_passkey(passkey) if passkey else b""
            if len(options) <= LONGEST_URL:
                if len(self._read) >= self._most:
                    self._read.clear()
                self._read[options] = digest
        return digest


def passkey_of(question: Question) -> bytes:
    """The passkey in the URL that was announced to: of `?passkey=`, else of `/PASSKEY/announce` or `/announce/PASSKEY`;
    empty if there is none."""
    try:
        url = question.url()
        for name, value in parse_qsl(url.query, encoding="latin-1", max_num_fields=32):
            if name == "passkey":
                return value.encode("latin-1")
        steps = url.path.strip("/").split("/")
    except ValueError:
        return b""
    if len(steps) == 2 and "announce" in steps:
        return unquote_to_bytes(steps[1] if steps[0] == "announce" else steps[0])
    return b""
