"""What a stranger can fill, where no other test shows its bound (docs/security.md has all of them)."""

from __future__ import annotations

from udptracker.core.connection_id import ConnectionIds


def test_ids_of_any_number_of_addresses_take_bounded_memory() -> None:
    """Connects cost their sender nothing, and may come from any address."""
    ids = ConnectionIds([b"secret"])
    first = ids.issue(bytes(4), 0.0)
    for number in range(200_000):
        ids.issue(number.to_bytes(4, "big"), 0.0)
        assert len(ids._remembered) <= 65_536
    assert ids.valid(first, bytes(4), 1.0)
    assert not ids.valid(first, bytes((0, 0, 0, 1)), 1.0)
    for late in (200.0, 400.0):  # when they have expired, two lifetimes later at most, they are let go of
        ids.issue(bytes(4), late)
    assert len(ids._remembered) <= 2
