"""Public keys that sign tokens, as a URL gives them (JSON Web Key Set, RFC 7517).

Only keys of asymmetric algorithms are taken: whoever could use a symmetric one to verify could sign with it as well. A
key that names its algorithm is used with no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urljoin

import jwt

from udptracker.access.hooks.http import HttpClient, HttpError
from udptracker.core.text import is_url

_SECONDS: Final = 10.0
_MOST_BYTES: Final = 2**18
_MOST_REDIRECTIONS: Final = 5
_REDIRECTIONS: Final = (301, 302, 303, 307, 308)
_LEAST_RSA_BITS: Final = 2048
"""RFC 7518 §3.3."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_KINDS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("EC", "secp256k1"): ("ES256K",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""Algorithms by type and curve of a key."""

_PUBLIC: Final[tuple[str, ...]] = ("kty", "crv", "n", "e", "x", "y")


class KeySetError(Exception):
    """There is no key set; the text is for an operator."""


class SigningKey(NamedTuple):
    """A key, the algorithms that it may be used with, and what it was read from, by which keys compare."""

    key: Any
    algorithms: tuple[str, ...]
    read_from: Mapping[str, Any]

    def is_same(self, other: SigningKey | None) -> bool:
        return other is not None and (self.algorithms, self.read_from) == (other.algorithms, other.read_from)


async def fetch(url: str) -> dict[str, SigningKey]:
    """The usable keys at a URL by their ids, at least one.

    Raises:
        KeySetError: there is no such.
    """
    return read_keys(await _body_at(url))


def read_keys(text: bytes) -> dict[str, SigningKey]:
    """The usable keys of a key set by their ids, at least one; of two with an id the later, as in chihaya.

    Raises:
        KeySetError: there is no such.
    """
    try:
        found = json.loads(text)["keys"]
        given = [key for key in found if isinstance(key, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError("what was answered is no JSON Web Key Set") from None
    keys = {}
    for each in given:
        kid, key = each.get("kid"), _signing_key(each)
        if isinstance(kid, str) and key is not None:
            keys[kid] = key
    if not keys:
        raise KeySetError(f"none of {len(given)} keys has an id, and is one that RS, PS, ES or EdDSA signs with")
    return keys


def _signing_key(given: dict[str, Any]) -> SigningKey | None:
    curve = "" if given.get("kty") == "RSA" else given.get("crv")
    try:
        algorithms = _KINDS[given.get("kty", ""), curve or ""]
        if "alg" in given:
            algorithms = tuple(name for name in algorithms if name == given["alg"])
        if not algorithms or given.get("use", "sig") != "sig" or "verify" not in given.get("key_ops", ["verify"]):
            return None
        public = {name: given[name] for name in _PUBLIC if name in given}
        key = jwt.PyJWK(public, algorithms[0]).key
    except Exception:  # strangers write it, and the libraries that read it are several
        return None
    if getattr(key, "key_size", _LEAST_RSA_BITS) < _LEAST_RSA_BITS and algorithms[0] in _RSA:
        return None
    return SigningKey(key, algorithms, public)


async def _body_at(url: str) -> bytes:
    """What is at a URL, or where that leads; never from https to http, or to anything else."""
    for _ in range(_MOST_REDIRECTIONS + 1):
        client = HttpClient(url, seconds=_SECONDS, most_bytes=_MOST_BYTES, headers=(("Accept", "application/json"),))
        try:
            response = await client.request("GET")
        except HttpError as error:
            raise KeySetError(str(error)) from None
        finally:
            await client.close()
        if response.status == 200:
            return response.body
        if response.status not in _REDIRECTIONS:
            raise KeySetError(f"it was answered with status {response.status}")
        url = _redirected(url, response.location)
    raise KeySetError(f"more than {_MOST_REDIRECTIONS} redirections")


def _redirected(url: str, location: str) -> str:
    try:
        there = urljoin(url, location)
    except ValueError:
        there = ""
    if not is_url(there) or (url.startswith("https:") and not there.startswith("https:")):
        raise KeySetError("it leads to a place that cannot be asked, or not as safely")
    return there
