"""What the lists of the access control have entries of, and how an entry is written: by people, and packed.

torrents   an info hash, 20 bytes
clients    how a peer id begins, 1 to 20 bytes; what is no visible character of ASCII is written %00, and % is %25
networks   a CIDR network of either family: the bits of its prefix as one byte, then its address
passkeys   8 to 128 letters, digits and -._~, packed as the SHA-256 of that
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from udptracker.core.info_hash import INFO_HASH_HELP, parse_info_hash
from udptracker.core.wire import INFO_HASH_BYTES, PEER_ID_BYTES

TORRENTS: Final = "torrents"
CLIENTS: Final = "clients"
NETWORKS: Final = "networks"
PASSKEYS: Final = "passkeys"
LISTS: Final = (TORRENTS, CLIENTS, NETWORKS, PASSKEYS)

_CLIENT_HELP: Final = "how a peer id begins, 1 to 20 bytes such as -qB45"
_NETWORK_HELP: Final = "a network such as 192.0.2.0/24 or 2001:db8::/32, with no bit set behind its prefix"
_PASSKEY_HELP: Final = "a passkey of 8 to 128 letters, digits and -._~, or sha256: and the 64 digits of its hash"
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
_PASSKEY: Final = re.compile(r"[A-Za-z0-9._~-]{8,128}")
_HASHED: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_PASSKEY_BYTES: Final = 32
_MOST_USER: Final = 64


def parse_client(text: str) -> bytes:
    """How a peer id begins, packed.

    Raises:
        ValueError: it is nothing of the kind.
    """
    found = unquote_to_bytes(text)
    if text.isascii() and text.isprintable() and " " not in text and 1 <= len(found) <= PEER_ID_BYTES:
        return found
    raise ValueError(f"expected {_CLIENT_HELP}")


def parse_network(text: str) -> bytes:
    """A network, packed; one of IPv4-mapped addresses is the IPv4 network that it is. An address is a network of one.

    Raises:
        ValueError: it is none, or has bits set behind its prefix.
    """
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(f"expected {_NETWORK_HELP}") from None
    if isinstance(network, IPv6Network):
        mapped = IPv6Address(network.network_address).ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return bytes((network.prefixlen - 96,)) + mapped.packed
    return bytes((network.prefixlen,)) + network.network_address.packed


def parse_passkey(text: str) -> bytes:
    """The SHA-256 of a passkey that is given as it is, or as that.

    Raises:
        ValueError: it is neither; the text is not repeated.
    """
    if hashed := _HASHED.fullmatch(text):
        return bytes.fromhex(hashed[1])
    if _PASSKEY.fullmatch(text):
        return hash_passkey(text.encode())
    raise ValueError(f"expected {_PASSKEY_HELP}")


def split_passkey(text: str) -> tuple[str, str]:
    """A passkey, and the name of its user behind a blank; empty if there is none.

    Raises:
        ValueError: the name is too long, or holds what is not printable.
    """
    passkey, _, user = text.strip().partition(" ")
    user = user.strip()
    if not is_user(user):
        raise ValueError(f"expected a passkey and the name of its user, at most {_MOST_USER} bytes of printable text")
    return passkey, user


def is_user(name: str) -> bool:
    """Whether it may be the name of a user: not too long, and printable, so that it may be shown as it is."""
    return name.isprintable() and len(name.encode()) <= _MOST_USER


def hash_passkey(passkey: bytes) -> bytes:
    """What a passkey is known by."""
    return sha256(passkey).digest()


PARSE: Final[Mapping[str, Callable[[str], bytes]]] = {
    TORRENTS: parse_info_hash,
    CLIENTS: parse_client,
    NETWORKS: parse_network,
    PASSKEYS: parse_passkey,
}
"""What reads an entry of each list: packed, or a ValueError with what is expected."""

EXPECTED: Final[Mapping[str, str]] = {
    TORRENTS: INFO_HASH_HELP,
    CLIENTS: _CLIENT_HELP,
    NETWORKS: _NETWORK_HELP,
    PASSKEYS: _PASSKEY_HELP,
}
"""What is expected of an entry of each list, in words."""


def is_entry(which: str, packed: bytes) -> bool:
    """Whether this may be a packed entry of a list."""
    if which == TORRENTS:
        return len(packed) == INFO_HASH_BYTES
    if which == CLIENTS:
        return 1 <= len(packed) <= PEER_ID_BYTES
    if which == NETWORKS:
        return len(packed) in (5, 17) and packed[0] <= 8 * (len(packed) - 1)
    return len(packed) == _PASSKEY_BYTES


def candidates(which: str, packed: bytes) -> list[bytes]:
    """The entries that would decide over this one, the most particular first: itself; of a peer id, or how it begins,
    all shorter beginnings; of a network or an address all networks that it is in."""
    if which == CLIENTS:
        return [packed[:length] for length in range(len(packed), 0, -1)]
    if which != NETWORKS:
        return [packed]
    bits, size = packed[0], len(packed) - 1
    number = int.from_bytes(packed[1:], "big")
    shifts = range(8 * size - bits, 8 * size + 1)
    return [bytes((8 * size - shift,)) + (number >> shift << shift).to_bytes(size, "big") for shift in shifts]


def show(which: str, entry: bytes) -> str:
    """A packed entry as it is written; a passkey by its hash."""
    if which == TORRENTS:
        return entry.hex()
    if which == CLIENTS:
        return quote_from_bytes(entry, safe=_VISIBLE)
    if which == NETWORKS:
        return f"{ip_address(entry[1:])}/{entry[0]}"
    return f"sha256:{entry.hex()}"
