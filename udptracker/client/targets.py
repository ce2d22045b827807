"""What an operator names: trackers by URL, swarms by info hash, base32 or magnet link."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from udptracker.core import info_hash

DEFAULT_PORT: Final = 6969

LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a daemon on this machine is met that listens on all addresses."""

INFO_HASH_HELP: Final = info_hash.INFO_HASH_HELP


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
    """20 bytes from what `core.info_hash` reads.

    Raises:
        BadTarget: anything else.
    """
    try:
        return info_hash.parse_info_hash(text)
    except ValueError as error:
        raise BadTarget(str(error)) from None


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
