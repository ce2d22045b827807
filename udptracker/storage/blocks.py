"""What a memory store holds as blocks of bytes, made and taken in slices of about a millisecond, between any two of
which requests may be served.

A block has its kind, its length, how many peers and swarms are in it, and then swarms of one IP family, or the
downloads of such as have lost their peers. Of the swarms there are first the heads, which are info hash, downloads,
numbers of seeders and of leechers; then the endpoints of all, seeders before leechers; then when each was heard of, as
`swarms` has it. A swarm of more than `_WHOLE` peers has blocks of its own, up to `_PIECE` peers of one role in each,
and its downloads in the first.

Blocks show each swarm as it was at some moment while they were made. A peer that moved meanwhile within a role of more
than `_PIECE` may be in them twice, which makes no difference, or not at all. Where nothing is served meanwhile, as at a
stop, they are exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, NamedTuple, final

from udptracker.core.swarm import Role, place_of
from udptracker.storage.swarms import COUNTED, SHORT, Family, Peers, Swarm

BLOCK: Final = Struct("=IIII")
"""Kind, bytes that follow, peers and swarms in them."""

_SWARM: Final = Struct("=20sIII")
_KEPT: Final = Struct("=20sII")
_KEPT_KIND: Final = 0x100
"""In a kind beside the family: downloads without peers."""
_MOST_DOWNLOADS: Final = 2**32 - 1

_SLICE: Final = 20_000
_SWARM_COST: Final = 50
"""Peers in a block, and in how many peers' time a swarm is written."""
_WHOLE: Final = 2_000
_PIECE: Final = 100_000
_KEPT_SLICE: Final = 2_000
_TAKEN: Final = 2_000
_MERGE_COST: Final = 6
"""Peers that are taken between two pauses, those in short lists not counted; and how many of these one costs that is
taken into a swarm with others."""


class Block(NamedTuple):
    """See the module."""

    kind: int
    peers: int
    swarms: int
    data: bytes

    def head(self) -> bytes:
        """What stands before the data where it is written."""
        return BLOCK.pack(self.kind, len(self.data), self.peers, self.swarms)


def blocks(families: dict[int, Family]) -> Iterator[Block]:
    """What is in the families, a slice at a time."""
    for number, family in families.items():
        kept = dict(family.kept)
        info_hashes = list(kept)
        for at in range(0, len(info_hashes), _KEPT_SLICE):
            rows = []
            for info_hash in info_hashes[at : at + _KEPT_SLICE]:
                downloads, second = kept[info_hash]
                rows.append(_KEPT.pack(info_hash, min(downloads, _MOST_DOWNLOADS), second))
            yield Block(number | _KEPT_KIND, 0, 0, b"".join(rows))
        yield from _swarms(number, family, kept)


def _swarms(number: int, family: Family, kept: dict[bytes, tuple[int, int]]) -> Iterator[Block]:
    """The swarms of a family, with the downloads of each less those that were written as `kept`."""
    heads: list[bytes] = []
    orders: list[bytearray] = []
    words: list[array[int]] = []
    peers = 0
    for shard in family.shards:
        for info_hash in list(shard):
            swarm = shard.get(info_hash)
            if swarm is None:
                continue
            downloads = swarm.downloads
            if kept and info_hash in kept:
                downloads -= kept[info_hash][0]
            seeders, leechers = swarm.seeders, swarm.leechers
            seeding, leeching = swarm.seeding, swarm.leeching
            if seeding + leeching > _WHOLE:
                pieces = _pieces(number, info_hash, min(downloads, _MOST_DOWNLOADS), swarm)
                due = [next(pieces)]
                if heads:  # the lists of what was gathered are the swarms' own, and would change meanwhile
                    due.insert(0, _block(number, peers, heads, orders, words))
                    heads, orders, words = [], [], []
                    peers = 0
                yield from due
                yield from pieces
                continue
            heads.append(_SWARM.pack(info_hash, min(downloads, _MOST_DOWNLOADS), seeding, leeching))
            if seeders is not None:
                orders.append(seeders.order)
                words.append(seeders.heard)
            if leechers is not None:
                orders.append(leechers.order)
                words.append(leechers.heard)
            peers += seeding + leeching
            if peers + _SWARM_COST * len(heads) >= _SLICE:
                yield _block(number, peers, heads, orders, words)
                heads, orders, words = [], [], []
                peers = 0
    if heads:
        yield _block(number, peers, heads, orders, words)


def _block(number: int, peers: int, heads: list[bytes], orders: list[bytearray], words: list[array[int]]) -> Block:
    return Block(number, peers, len(heads), b"".join([*heads, *orders, *words]))


def _pieces(number: int, info_hash: bytes, downloads: int, swarm: Swarm) -> Iterator[Block]:
    """A large swarm. Leechers come first: who becomes a seeder meanwhile is there twice rather than not at all."""
    for role, peers in ((Role.LEECHER, swarm.leechers), (Role.SEEDER, swarm.seeders)):
        at = 0
        while peers is not None and at < len(peers.heard):
            words = peers.heard[at : at + _PIECE]
            order = peers.order[at * peers.width : (at + _PIECE) * peers.width]
            count = len(words)
            seeding, leeching = (count, 0) if role is Role.SEEDER else (0, count)
            head = _SWARM.pack(info_hash, downloads, seeding, leeching)
            yield _block(number, count, [head], [order], [words])
            at += _PIECE
            downloads = 0


@final
class Restoring:
    """Takes blocks into the families of a store that answers meanwhile: what it has heard itself wins.

    Args:
        room: for how many peers and swarms more the store has room.
        oldest: the second at which, or before, a peer that was last heard of is stale.
        place: of `places` workers: swarms of others are passed over.

    Attributes:
        peers: that were taken.
        stale: that were too old.
        unkept: for which there was no room.
    """

    def __init__(
        self,
        families: dict[int, Family],
        draw: Callable[[], float],
        room: Callable[[], tuple[int, int]],
        oldest: int,
        place: int,
        places: int,
    ) -> None:
        self._families = families
        self._draw = draw
        self._room = room
        self._oldest = oldest
        self._place = place
        self._places = places
        self._left: dict[bytes, set[bytes]] = {}
        self.peers = 0
        self.stale = 0
        self.unkept = 0
        self.date(0)

    def date(self, shift: int) -> None:
        """From now on blocks of a store whose seconds are those of this one less `shift`."""
        self._shift = shift
        self._added = 2 * shift
        self._stale = 2 * (self._oldest - shift) + COUNTED

    def left(self, info_hash: bytes, endpoint: bytes) -> None:
        """A peer has stopped meanwhile: it does not come back."""
        gone = self._left.get(info_hash)
        if gone is None:
            gone = self._left[info_hash] = set()
        gone.add(endpoint)

    def take(self, block: Block) -> Iterator[None]:
        """Take a block, a slice at each step."""
        family = self._families[block.kind & ~_KEPT_KIND]
        if block.kind & _KEPT_KIND:
            self._take_kept(family, block.data)
        elif block.swarms == 1 and block.peers > _WHOLE:
            yield from self._take_piece(family, block)
        else:
            yield from self._take_swarms(family, block)
        yield None

    def _take_swarms(self, family: Family, block: Block) -> Iterator[None]:
        width, data, places = family.width, block.data, self._places
        base = block.swarms * _SWARM.size
        words = array("I", data[base + block.peers * width :])
        fresh = bool(words) and min(words) > self._stale
        dated = self._dated(words) if fresh else words
        yield None
        stop = cost = 0
        peers, swarms = self._room()
        for info_hash, downloads, seeding, leeching in _SWARM.iter_unpack(data[:base]):
            start, middle = stop, stop + seeding
            stop = middle + leeching
            if places > 1 and place_of(info_hash, places) != self._place:
                continue
            if peers <= 0 or swarms <= 0:
                self.unkept += stop - start
                continue
            peers -= stop - start
            swarms -= 1
            order = data[base + start * width : base + stop * width]
            if family.find(info_hash) is not None or (self._left and info_hash in self._left) or not order:
                self._add_downloads(family, info_hash, downloads, self._oldest)
                self._merge(family, info_hash, Role.SEEDER, order[: seeding * width], words[start:middle])
                self._merge(family, info_hash, Role.LEECHER, order[seeding * width :], words[middle:stop])
                cost += _MERGE_COST * (stop - start)
            elif fresh:
                swarm = family.found(info_hash)
                swarm.downloads += downloads
                if seeding:
                    swarm.seeders = Peers(width, bytearray(order[: seeding * width]), dated[start:middle])
                if leeching:
                    swarm.leechers = Peers(width, bytearray(order[seeding * width :]), dated[middle:stop])
                family.count(swarm, Role.SEEDER, seeding)
                family.count(swarm, Role.LEECHER, leeching)
                self.peers += stop - start
                if stop - start > SHORT:
                    cost += stop - start
            else:
                self._add_downloads(family, info_hash, downloads, self._oldest)
                self._append(family, info_hash, Role.SEEDER, order[: seeding * width], words[start:middle])
                self._append(family, info_hash, Role.LEECHER, order[seeding * width :], words[middle:stop])
                cost += stop - start
            if cost >= _TAKEN:
                cost = 0
                yield None
                peers, swarms = self._room()

    def _take_piece(self, family: Family, block: Block) -> Iterator[None]:
        """Of a swarm too large for a slice."""
        width, data = family.width, block.data
        info_hash, downloads, seeding, _ = _SWARM.unpack_from(data)
        if place_of(info_hash, self._places) != self._place:
            return
        role = Role.SEEDER if seeding else Role.LEECHER
        self._add_downloads(family, info_hash, downloads, self._oldest)
        words = array("I", data[_SWARM.size + block.peers * width :])
        for at in range(0, block.peers, _TAKEN):
            if self._room()[0] <= 0:
                self.unkept += block.peers - at
                return
            order = data[_SWARM.size + at * width : _SWARM.size + min(at + _TAKEN, block.peers) * width]
            self._append(family, info_hash, role, order, words[at : at + _TAKEN])
            yield None

    def _append(self, family: Family, info_hash: bytes, role: Role, order: bytes, words: array[int]) -> None:
        """Peers of a role behind those there are, if none of them was heard of meanwhile."""
        width = family.width
        endpoints = [order[at : at + width] for at in range(0, len(order), width)]
        if words and min(words) <= self._stale:
            fresh = [nth for nth in range(len(words)) if words[nth] > self._stale]
            self.stale += len(words) - len(fresh)
            endpoints = [endpoints[nth] for nth in fresh]
            words = array("I", [words[nth] for nth in fresh])
        if not endpoints:
            return
        swarm = family.find(info_hash)
        if swarm is None:
            swarm = family.found(info_hash)
        seeders, leechers = swarm.seeders, swarm.leechers
        if (
            info_hash in self._left
            or not (seeders is None or seeders.has_none_of(endpoints))
            or not (leechers is None or leechers.has_none_of(endpoints))
        ):
            self._merge(family, info_hash, role, b"".join(endpoints), words)
            return
        mine = seeders if role is Role.SEEDER else leechers
        if mine is None:
            mine = self._role(family, swarm, role)
        mine.extend(endpoints, self._dated(words))
        family.count(swarm, role, len(endpoints))
        self.peers += len(endpoints)

    def _merge(self, family: Family, info_hash: bytes, role: Role, order: bytes, words: array[int]) -> None:
        """Peers of a role among others, each at a random place, but who was heard of meanwhile."""
        width = family.width
        gone = self._left.get(info_hash)
        swarm = family.find(info_hash)
        for nth in range(len(words)):
            word = words[nth]
            if word <= self._stale:
                self.stale += 1
                continue
            endpoint = order[nth * width : (nth + 1) * width]
            if gone is not None and endpoint in gone:
                continue
            if swarm is None:
                swarm = family.found(info_hash)
            if _known(swarm.seeders, endpoint, word) or _known(swarm.leechers, endpoint, word):
                continue
            mine = swarm.seeders if role is Role.SEEDER else swarm.leechers
            if mine is None:
                mine = self._role(family, swarm, role)
            mine.add(endpoint, word + self._added, self._draw)
            family.count(swarm, role, 1)
            self.peers += 1

    def _dated(self, words: array[int]) -> array[int]:
        """When peers were heard of, by the clock of this store."""
        added = self._added
        return array("I", [word + added for word in words])

    def _role(self, family: Family, swarm: Swarm, role: Role) -> Peers:
        """The peers of a role that has none yet."""
        peers = Peers(family.width)
        if role is Role.SEEDER:
            swarm.seeders = peers
        else:
            swarm.leechers = peers
        return peers

    def _take_kept(self, family: Family, data: bytes) -> None:
        for info_hash, downloads, second in _KEPT.iter_unpack(data):
            if self._places == 1 or place_of(info_hash, self._places) == self._place:
                self._add_downloads(family, info_hash, downloads, second + self._shift)

    def _add_downloads(self, family: Family, info_hash: bytes, downloads: int, second: int) -> None:
        """To those of a swarm, which may have no peers at the moment and was left at `second` then."""
        swarm = family.find(info_hash)
        if swarm is not None:
            swarm.downloads += downloads
        elif downloads:
            before, _ = family.kept.pop(info_hash, (0, 0))
            family.keep(info_hash, before + downloads, second)


def _known(peers: Peers | None, endpoint: bytes, word: int) -> bool:
    """Whether a peer is there; if its download was counted, it is known then, too."""
    if peers is None:
        return False
    at = peers.find(endpoint)
    if at < 0:
        return False
    peers.heard[at] |= word & COUNTED
    return True
