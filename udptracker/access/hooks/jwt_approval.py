"""`jwt` of chihaya: an announce needs a token (RFC 7519) for its torrent in the query of its URL (BEP 41).

The token names the issuer, the audience, and the torrent as `infohash`, and is signed by the key of the issuer's set
that its header names (`kid`). Beyond chihaya, which looks at neither, it must not have expired (`exp`), nor be of the
future (`nbf`). What was verified is remembered until it expires, so that a signature is looked at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from hashlib import blake2b
from math import inf
from typing import Any, Final, final

import jwt

from udptracker.access.base import AccessError
from udptracker.access.hooks.api import parameters
from udptracker.access.hooks.at_once import AtOnce
from udptracker.access.hooks.key_set import KeySetError, SigningKey, fetch
from udptracker.core.counters import Counters
from udptracker.core.reasons import INVALID_JWT, MISSING_JWT
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.tracker import Question

log = logging.getLogger(__name__)

_MOST_REMEMBERED: Final = 65_536
_DIGEST_BYTES: Final = 16
_CHECKED: Final[Any] = {"require": ["iss", "aud"], "verify_iat": False, "verify_sub": False, "verify_jti": False}


@final
class JwtApproval(AtOnce):
    """Args:
    url: of the key set.
    interval: seconds between two looks at it.
    now: Unix seconds.
    """

    def __init__(
        self,
        name: str,
        counters: Counters,
        *,
        issuer: str,
        audience: str,
        url: str,
        interval: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, counters)
        self._issuer = issuer
        self._audience = audience
        self._url = url
        self._interval = interval
        self._now = now
        self._keys: dict[str, SigningKey] = {}
        self._verified: dict[bytes, float] = {}
        self._refreshing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        try:
            self._keys = await fetch(self._url)
        except KeySetError as error:
            raise AccessError(f"jwt: there is no key set: {error}") from None
        self._refreshing = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing

    def decide(self, question: Question, announce: AnnounceOperation) -> str:
        key = blake2b(announce.info_hash + question.options(), digest_size=_DIGEST_BYTES).digest()
        expires = self._verified.get(key)
        if expires is not None:
            if self._now() < expires:
                return ""
            del self._verified[key]
        token = parameters(question.url().query).get("jwt")
        if token is None:
            return MISSING_JWT
        expires = self._expiry(token, announce.info_hash)
        if expires is None:
            return INVALID_JWT
        if len(self._verified) >= _MOST_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[key] = expires
        return ""

    def _expiry(self, token: str, info_hash: bytes) -> float | None:
        """Until when a token holds, Unix seconds; None if it does not."""
        try:
            header = jwt.get_unverified_header(token)
            signing = self._keys[header["kid"]]
            if "crit" in header:
                return None
            claims = jwt.decode(
                token,
                signing.key,
                algorithms=signing.algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options=_CHECKED,
            )
            return float(claims.get("exp", inf)) if claims["infohash"] == info_hash.hex() else None
        except Exception:  # strangers write it, and the libraries that read it are several
            return None

    async def _keep_fresh(self) -> None:
        is_stale = False
        while True:
            await asyncio.sleep(self._interval)
            try:
                keys = await fetch(self._url)
            except KeySetError as error:
                if not is_stale:
                    log.warning("jwt: the key set cannot be read again, and what was read before holds: %s", error)
                is_stale = True
                continue
            if is_stale:
                log.info("jwt: the key set is read again")
            is_stale = False
            if not all(key.is_same(keys.get(kid)) for kid, key in self._keys.items()):
                self._verified.clear()  # whose key is gone must not get in for having been let in before
            self._keys = keys
