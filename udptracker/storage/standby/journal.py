"""What a node remembers of announces, bounded in number, in bytes and in age. No I/O, and no clock.

`Recent` keeps the announces of a node whose store answers, as cheaply as it can be done: a reference to each. `News`
keeps the newest state of each peer: of what the store has not heard (the journal), or of what is collected from
`Recent` to be written again.

All times here are nanoseconds of this machine's steady clock, not the store's: what is heard before the store's
clock is known, or while that jumps, is dated right when it is written.

Nothing here takes long: what is large is handed out in slices, between which the event loop may turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, final

from udptracker.core.swarm import AnnounceOperation, Operation, Role
from udptracker.core.wire import Event
from udptracker.storage.replayable import Entry, Pool

ENTRY_BYTES: Final = 512
"""The most memory that one announce takes in `Recent`, and one peer in `News`."""
SLICE: Final = 200
"""Announces looked at between two turns of the event loop: about half a millisecond."""
_SHARDS: Final = 64
"""Of `News`, so that none becomes large enough for its growth or its copy to be felt."""

Key = tuple[int, bytes, bytes]
Heard = tuple[int, Sequence[AnnounceOperation]]
"""When some announces were heard, and the announces."""


@final
class _Link:
    """A batch in `Recent`, and the one that was heard next: whoever walks along may be where the walk was forgotten."""

    __slots__ = ("announces", "next", "stamp")

    def __init__(self, stamp: int, announces: Sequence[AnnounceOperation]) -> None:
        self.stamp = stamp
        self.announces = announces
        self.next: _Link | None = None


class Recent:
    """The announces heard last, oldest first, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._newest = _Link(0, ())
        self._before = self._newest  # the oldest comes after this one
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def remember(self, batch: Sequence[Operation], now: int) -> None:
        """Keep the announces of a batch, and forget the oldest beyond the bound."""
        announces = [operation for operation in batch if isinstance(operation, AnnounceOperation)]
        if announces:
            self._newest.next = _Link(now, announces)
            self._newest = self._newest.next
            self._count += len(announces)
            while self._count > self._most:
                self._forget_oldest()

    def remember_entry(self, entry: Entry) -> None:
        """Keep what was written to the store as if it had been announced there."""
        event = Event.STOPPED if entry.stopped else Event.COMPLETED if entry.completed else Event.NONE
        operation = AnnounceOperation(entry.family, entry.info_hash, entry.peer, entry.role, event, 0)
        self.remember([operation], entry.stamp)

    def forget(self, oldest: int) -> Iterator[None]:
        """Forget what was heard at `oldest` or before, in slices."""
        freed = 0
        while (first := self._before.next) is not None and first.stamp <= oldest:
            freed += self._forget_oldest()
            if freed >= SLICE:
                yield
                freed = 0

    def since(self, oldest: int) -> Iterator[list[Heard]]:
        """What was heard after `oldest` and until now, in slices. Less may be remembered while this goes on."""
        part: list[Heard] = []
        count = 0
        link, last = self._before, self._newest
        while link is not last and link.next is not None:
            link = link.next
            for at in range(0, len(link.announces), SLICE):
                piece = link.announces[at : at + SLICE]
                count += len(piece)
                if link.stamp > oldest:
                    part.append((link.stamp, piece))
                if count >= SLICE:
                    yield part
                    part, count = [], 0
        if part:
            yield part

    def _forget_oldest(self) -> int:
        """How many announces that were."""
        first = self._before.next
        assert first is not None
        self._before = first
        self._count -= len(first.announces)
        return len(first.announces)


class News:
    """The newest state of each peer, at most `most` peers.

    Args:
        counted: whether the store has heard all this, and counted its downloads, unless its answer got lost.
    """

    def __init__(self, most: int, *, counted: bool) -> None:
        self._most = most
        self._counted = counted
        self._shards: list[dict[Key, Entry]] = [{} for _ in range(_SHARDS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, family: int, info_hash: bytes, peer: bytes) -> Entry | None:
        """What is known of a peer."""
        return self._shards[hash(peer) % _SHARDS].get((family, info_hash, peer))

    def hear(self, announce: AnnounceOperation, stamp: int) -> bool:
        """Take an announce that is newer than what is known of its peer; false if there is no room for one more peer.

        That a peer completed is kept until it is written, whatever it announces in the meantime.
        """
        shard = self._shards[hash(announce.peer) % _SHARDS]
        key = (announce.family, announce.info_hash, announce.peer)
        before = shard.get(key)
        completed = announce.event is Event.COMPLETED and announce.role is Role.SEEDER
        graduated = False
        if before is None:
            if self._count >= self._most:
                return False
            self._count += 1
        else:
            was_leecher = before.role is Role.LEECHER and not before.stopped
            graduated = before.graduated or (completed and was_leecher and not self._counted)
            completed = completed or before.completed
        stopped = announce.event is Event.STOPPED
        shard[key] = Entry(*key, announce.role, stopped, stamp, completed, graduated)
        return True

    def forget(self, oldest: int) -> Iterator[None]:
        """Forget who was last heard of at `oldest` or before, in slices."""
        for chunk in self.chunks(SLICE):
            self.settle([entry for entry in chunk if entry.stamp <= oldest])
            yield

    def chunks(self, size: int) -> Iterator[list[Entry]]:
        """Everybody, at most `size` at once. What is heard meanwhile may be among them or not."""
        for shard in self._shards:
            entries = list(shard.values())
            for at in range(0, len(entries), size):
                yield entries[at : at + size]

    def settle(self, entries: Sequence[Entry]) -> None:
        """Forget these, but for peers of which something newer has been heard."""
        for entry in entries:
            shard = self._shards[hash(entry.peer) % _SHARDS]
            if shard.get(entry[:3]) is entry:
                del shard[entry[:3]]
                self._count -= 1
                if not shard:
                    shard.clear()  # which lets go of its table: those of all shards at once would be felt


def pool_of(entry: Entry) -> Pool:
    """Where a peer is if it has not stopped."""
    return Pool(entry.family, entry.info_hash, entry.role)
