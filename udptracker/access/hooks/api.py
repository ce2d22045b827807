"""What a hook written in Python is given and gives back."""

from __future__ import annotations

from urllib.parse import parse_qsl


def client_of(peer_id: bytes) -> bytes:
    """The six bytes of a peer id that tell the client, by chihaya's rule: the first, without a dash before them."""
    return peer_id[1:7] if peer_id[:1] == b"-" else peer_id[:6]


def parameters(query: str) -> dict[str, str]:
    """The parameters of a query by their names in lower case, of several with a name the last, as in chihaya."""
    pairs = parse_qsl(query.replace(";", "&"), keep_blank_values=True)
    return {name.lower(): value for name, value in pairs}
