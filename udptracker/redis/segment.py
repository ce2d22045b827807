"""What a topology is given: packed commands that touch one key."""

from __future__ import annotations

from typing import Any

from udptracker.redis.link import pack


class Segment:
    """Packed commands that all touch `key`, and the number of their replies."""

    __slots__ = ("key", "payload", "replies")

    def __init__(self, key: bytes, payload: bytes, replies: int) -> None:
        self.key = key
        self.payload = payload
        self.replies = replies


def segment(key: bytes, *command: Any) -> Segment:
    """One command as a segment."""
    return Segment(key, pack(*command), 1)
