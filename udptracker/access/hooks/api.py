"""What a hook written in Python is given and gives back."""

from __future__ import annotations


def client_of(peer_id: bytes) -> bytes:
    """The six bytes of a peer id that tell the client, by chihaya's rule: the first, without a dash before them."""
    return peer_id[1:7] if peer_id[:1] == b"-" else peer_id[:6]
