"""The format of a snapshot: what was written is read, and nothing else is."""

from __future__ import annotations

import hashlib
import random
from io import BytesIO
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.contract import LEECHER, STARTED, Clock, announce
from udptracker.storage.memory import MemoryStore
from udptracker.storage.snapshot import (
    HEADER_BYTES,
    MAGIC,
    NO_BOOT,
    VERSION,
    Header,
    Moment,
    SnapshotError,
    elapsed,
    examine,
    read_blocks,
)

SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
BOOT, OTHER_BOOT = bytes(range(16)), bytes(range(1, 17))


def part(number: int = 0, parts: int = 1, peers: int = 50) -> bytes:
    """One part, of a store with so many peers."""
    store = MemoryStore(random.Random(number).random, Clock())
    store.begin()
    for peer in range(peers):
        store.apply(announce(peer, LEECHER, STARTED, 0, peer % 7))
    body = b"".join([block.head() + block.data for block in store.blocks()])
    header = Header(number, parts, HEADER_BYTES + len(body), peers, store.age, Moment(1, 2, BOOT))
    return header.pack(hashlib.sha256(body)) + body


def refused(data: bytes) -> str:
    """Why it is."""
    with pytest.raises(SnapshotError) as caught:
        examine(BytesIO(data))
    return str(caught.value)


class TestWhatIsTrusted:
    @pytest.mark.parametrize("parts", [1, 2, 3])
    def test_all_parts_in_their_order(self, parts: int) -> None:
        data = b"".join(part(number, parts, 10 * number) for number in range(parts))
        found = examine(BytesIO(data))
        assert [(each.header.part, each.header.parts, each.header.peers) for each in found] == [
            (number, parts, 10 * number) for number in range(parts)
        ]
        assert found[0].header.moment == Moment(1, 2, BOOT)
        assert [each.start for each in found[1:]] == [each.stop + HEADER_BYTES for each in found[:-1]]
        assert found[-1].stop == len(data)

    def test_blocks_are_read_to_the_end_of_their_part(self) -> None:
        file = BytesIO(part(0, 2) + part(1, 2, 60))
        for each in examine(file):
            blocks, end = read_blocks(file, each.start, each.stop)
            assert end == each.stop
            assert sum(block.peers for block in blocks) == each.header.peers


class TestWhatIsNot:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "empty"),
            (b"hello, I am a shopping list", "no snapshot of udptracker"),
            (b"\x00" * 10_000, "no snapshot of udptracker"),
            (MAGIC[:4], "cut short"),
            (MAGIC, "cut short"),
        ],
    )
    def test_what_never_was_one(self, data: bytes, why: str) -> None:
        assert why in refused(data)

    def test_cut_anywhere(self) -> None:
        whole = part(0, 2) + part(1, 2)
        middle = len(part(0, 2))
        ends = {1, 7, 8, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, middle - 1, middle, middle + 1, middle + 8}
        for end in {*ends, middle + HEADER_BYTES, len(whole) - 1}:
            assert "cut short" in refused(whole[:end]), end

    def test_more_than_there_should_be(self) -> None:
        assert "no snapshot" in refused(part() + b"more")
        assert "wrong place" in refused(part() + part())

    def test_another_version(self) -> None:
        data = bytearray(part())
        data[8:12] = (VERSION + 1).to_bytes(4, "little")
        assert refused(bytes(data)) == f"of version {VERSION + 1}, and this program reads version {VERSION}"

    def test_a_machine_of_the_other_byte_order(self) -> None:
        data = bytearray(part())
        data[8:12] = data[8:12][::-1]
        assert "of version" in refused(bytes(data))

    @given(st.data())
    def test_any_byte_that_changed(self, data: st.DataObject) -> None:
        """In the header, where each field is, and in the blocks."""
        whole = bytearray(part(peers=20))
        at = data.draw(st.one_of(st.integers(0, HEADER_BYTES - 1), st.integers(0, len(whole) - 1)))
        whole[at] ^= data.draw(st.integers(1, 255))
        assert refused(bytes(whole))

    @pytest.mark.parametrize(
        "order", [[1, 0], [0], [1], [0, 0], [0, 1, 1]], ids=["swapped", "first", "second", "twice", "one too many"]
    )
    def test_parts_put_together_otherwise(self, order: list[int]) -> None:
        assert refused(b"".join(part(number, 2) for number in order))

    def test_parts_of_two(self) -> None:
        assert "put together of others" in refused(part(0, 2) + part(1, 3))


class TestElapsed:
    """How much time went by: what the clocks say before and after, in hours."""

    @pytest.mark.parametrize(
        ("case", "wall", "since_boot", "boot", "expected"),
        [
            ("an hour", 1, 1, BOOT, 1),
            ("no time", 0, 0, BOOT, 0),
            ("the wall clock went back by a day meanwhile", -23, 1, BOOT, 1),
            ("the wall clock is a year ahead", 24 * 365, 1, BOOT, 1),
            ("started again, which took an hour", 1, -9.5, OTHER_BOOT, 1),
            ("started again, and up for longer than before", 20, 5, OTHER_BOOT, 20),
            ("started again, with a clock that is at 1970", -500_000, -9.5, OTHER_BOOT, 0.5),
            ("started again, and up for longer, with a clock that is at 1970", -500_000, 5, OTHER_BOOT, 15),
            ("started again, with a clock that is far ahead", 24 * 365, -9.5, OTHER_BOOT, 24 * 365),
            ("nobody knows, an hour", 1, 1, NO_BOOT, 1),
            ("nobody knows, and the wall clock went back", -5, 1, NO_BOOT, 1),
            ("nobody knows, but it must have been started again", 1, -9.5, NO_BOOT, 1),
            ("nobody knows, started again with a clock that went back", -5, -9.5, NO_BOOT, 0.5),
        ],
    )
    def test_by_the_clock_that_knows(
        self, case: str, wall: float, since_boot: float, boot: bytes, expected: float
    ) -> None:
        then = Moment(1_800_000_000 * SECOND, 10 * HOUR, BOOT)
        now = Moment(then.wall + int(wall * HOUR), then.since_boot + int(since_boot * HOUR), boot)
        assert elapsed(then, now) == int(expected * HOUR), case
