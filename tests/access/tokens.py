"""Issuers of tokens, and a place where their keys are."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.access.support import INFO_HASH
from tests.support.web import Answer, Web, web

ISSUER = "https://issuer.example"
AUDIENCE = "https://tracker.example"

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """The public half of a key as a key set has it."""
    kind = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
    (name,) = (name for of, name in kind.items() if isinstance(key, of))
    algorithm = jwt.get_algorithm_by_name(name)
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


KEYS = key_set(jwk(RSA, "rsa", alg="RS256"), jwk(P256, "ec"), jwk(ED, "ed"), jwk(OTHER_RSA, "free"))


def token(
    key: Any = RSA, algorithm: str = "RS256", kid: str = "rsa", head: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A token for INFO_HASH that holds for an hour, unless `claims` say otherwise; one of None is left out."""
    told = {"iss": ISSUER, "aud": AUDIENCE, "infohash": INFO_HASH.hex(), "exp": time.time() + 3600, **claims}
    told = {name: value for name, value in told.items() if value is not None}
    return jwt.encode(told, key, algorithm, headers={"kid": kid, **(head or {})})


def raw(header: Any, claims: Any, signature: bytes = b"") -> str:
    """A token of whatever is given, bytes as they are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


@contextmanager
def issuer(keys: bytes = KEYS) -> Iterator[Web]:
    """A place where a key set is."""
    with web(lambda _: Answer(keys)) as served:
        yield served
