"""What an operator names: trackers by URL, swarms by info hash, base32 or magnet link."""

from __future__ import annotations

import base64
import binascii
import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from udptracker.core import wire

DEFAULT_PORT: Final = 6969

_HEX_DIGITS: Final = 2 * wire.INFO_HASH_BYTES
_BASE32_DIGITS: Final = wire.INFO_HASH_BYTES * 8 // 5
_V1: Final = "urn:btih:"
_V2: Final = "urn:btmh:1220"
"""How BEP 9 and BEP 52 begin the exact topics of a magnet link; 1220 is the multihash of SHA-256."""

INFO_HASH_HELP: Final = "40 hexadecimal digits, 32 of base32, or a magnet link"


class BadTarget(ValueError):
    """A URL or an info hash that names nothing; `str()` is one line for the user."""


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of an announce URL such as `udp://tracker.example:6969/announce` or `udp://[::1]:6969`.

    Raises:
        BadTarget: another scheme, no host, or a port out of range. A port left out is 6969.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"bad URL {url!r}: {error}") from None
    if parts.scheme != "udp" or not parts.hostname or port == 0:
        raise BadTarget(f"bad URL {url!r}: expected udp://host:port")
    return parts.hostname, DEFAULT_PORT if port is None else port


def parse_info_hash(text: str) -> bytes:
    """20 bytes from 40 hexadecimal digits, 32 of base32, or a magnet link of BEP 9.

    A link to a torrent of version 2 alone gives its hash cut to 20 bytes, under which it is announced (BEP 52).

    Raises:
        BadTarget: anything else.
    """
    info_hash = _of_magnet(text) if text[:7].lower() == "magnet:" else _of_digits(text)
    if info_hash is None:
        raise BadTarget(f"bad info hash {text!r}: expected {INFO_HASH_HELP}")
    return info_hash


def _of_magnet(link: str) -> bytes | None:
    try:
        topics = [topic for name, topic in parse_qsl(urlsplit(link).query) if name.lower().partition(".")[0] == "xt"]
    except ValueError:
        return None
    found = [_of_digits(topic[len(_V1) :]) for topic in topics if topic.lower().startswith(_V1)]
    found += [
        _of_digits(topic[len(_V2) :][:_HEX_DIGITS])
        for topic in topics
        if topic.lower().startswith(_V2) and len(topic) == len(_V2) + 64
    ]
    return found[0] if found else None


def _of_digits(text: str) -> bytes | None:
    try:
        if len(text) == _HEX_DIGITS:
            return binascii.unhexlify(text)
        if len(text) == _BASE32_DIGITS:
            return base64.b32decode(text, casefold=True)
    except ValueError:  # binascii.Error is one, too
        pass
    return None


def resolve(host: str, port: int, family: int | None = None) -> tuple[int, tuple[str, int]]:
    """(IP version, numeric address and port) of a host, its first address of the IP version that is asked for.

    Raises:
        BadTarget: it has none.
    """
    wanted = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[family]
    try:
        found = socket.getaddrinfo(host, port, wanted, socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise BadTarget(f"cannot resolve {host!r}: {getattr(error, 'strerror', None) or error}") from None
    return (6 if found[0] == socket.AF_INET6 else 4), (str(found[4][0]), port)


def format_endpoint(compact: bytes) -> str:
    """`127.0.0.1:6881` or `[::1]:6881` of a compact endpoint."""
    address = ip_address(compact[:-2])
    port = int.from_bytes(compact[-2:], "big")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
