"""Info hashes as people write them."""

from __future__ import annotations

import base64
import binascii
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from udptracker.core.wire import INFO_HASH_BYTES

_HEX_DIGITS: Final = 2 * INFO_HASH_BYTES
_BASE32_DIGITS: Final = INFO_HASH_BYTES * 8 // 5
_V1: Final = "urn:btih:"
_V2: Final = "urn:btmh:1220"
"""How BEP 9 and BEP 52 begin the exact topics of a magnet link; 1220 is the multihash of SHA-256."""

INFO_HASH_HELP: Final = "40 hexadecimal digits, 32 of base32, or a magnet link"


def parse_info_hash(text: str) -> bytes:
    """20 bytes from 40 hexadecimal digits, 32 of base32, or a magnet link of BEP 9.

    A link to a torrent of version 2 alone gives its hash cut to 20 bytes, under which it is announced (BEP 52).

    Raises:
        ValueError: anything else.
    """
    info_hash = _of_magnet(text) if text[:7].lower() == "magnet:" else _of_digits(text)
    if info_hash is None:
        raise ValueError(f"bad info hash {text!r}: expected {INFO_HASH_HELP}")
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
