"""`http approval`: another service decides, asked once for many announces over HTTP; its answers are remembered.

What is asked and answered is in docs/hooks.md. An answer holds for as long as it says (`ttl`), for announces of the
same user, or of the same URL where no user is known, of the same torrent and by the same client.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, final

from udptracker.access.hooks.api import MOST_INTERVAL_SECONDS, Announce, HookFailure, PreHook
from udptracker.access.hooks.http import HttpClient

_SECONDS: Final = 3600.0
"""For a request at the most; it is the hook's `timeout` that cuts it off."""
_MOST_BYTES: Final = 2**20
_LONGEST_URL: Final = 64
_LONGEST_TTL: Final = 86_400.0

_Key = tuple[bytes, bytes, str]


class ApprovalError(HookFailure):
    """There is no decision; the text is for an operator."""


class Verdict(NamedTuple):
    """What was answered about an announce. `reason` is why it is refused, empty if it is not; `interval` is 0 for what
    the configuration says, `ttl` seconds."""

    reason: str
    interval: int
    ttl: float


@final
class HttpApproval(PreHook):
    """See the module.

    Args:
        token: a bearer token (RFC 6750); empty for none.
        most: verdicts that are remembered.
        now: steady seconds.
    """

    def __init__(self, url: str, token: str, most: int, now: Callable[[], float] = time.monotonic) -> None:
        headers = (("Accept", "application/json"), *([("Authorization", f"Bearer {token}")] if token else []))
        self._client = HttpClient(url, seconds=_SECONDS, most_bytes=_MOST_BYTES, headers=headers)
        self._most = most
        self._now = now
        self._known: dict[_Key, tuple[Verdict, float]] = {}

    async def close(self) -> None:
        await self._client.close()

    def recall(self, announces: Sequence[Announce]) -> Sequence[Announce]:
        now = self._now()
        unknown = []
        for announce in announces:
            verdict, until = self._known.get(_key(announce), (None, 0.0))
            if verdict is None or until <= now:
                unknown.append(announce)
            else:
                _apply(verdict, announce)
        return unknown

    async def judge(self, announces: Sequence[Announce]) -> None:
        body = json.dumps({"announces": [_told(announce) for announce in announces]}).encode()
        response = await self._client.request("POST", body, "application/json")
        if response.status != 200:
            raise ApprovalError(f"it answered with status {response.status}")
        verdicts = read_verdicts(response.body, len(announces))
        now = self._now()
        for announce, verdict in zip(announces, verdicts, strict=True):
            _apply(verdict, announce)
            self._remember(_key(announce), verdict, now)

    def _remember(self, key: _Key, verdict: Verdict, now: float) -> None:
        self._known.pop(key, None)
        if verdict.ttl > 0 and self._most:
            self._known[key] = (verdict, now + verdict.ttl)
            if len(self._known) > self._most:
                del self._known[next(iter(self._known))]


def read_verdicts(text: bytes, count: int) -> list[Verdict]:
    """What was answered about `count` announces.

    Raises:
        ApprovalError: it is not understood.
    """
    try:
        answers = json.loads(text)["answers"]
        verdicts = [_verdict(answer) for answer in answers]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ApprovalError("it answered with something else than answers (docs/hooks.md)") from None
    if len(verdicts) != count:
        raise ApprovalError(f"it gave {len(verdicts)} answers to {count} announces")
    return verdicts


def _verdict(answer: Any) -> Verdict:
    """Raises:
    ValueError, KeyError, TypeError: it is none.
    """
    allow, reason = answer["allow"], answer.get("reason", "")
    interval, ttl = answer.get("interval", 0), answer.get("ttl", 0)
    if not isinstance(allow, bool) or not isinstance(reason, str):
        raise TypeError
    if isinstance(interval, bool) or not isinstance(interval, int) or not 0 <= interval <= MOST_INTERVAL_SECONDS:
        raise ValueError
    if isinstance(ttl, bool) or not ttl >= 0:  # nor is NaN
        raise ValueError
    return Verdict("" if allow else reason or "unapproved request", interval, min(float(ttl), _LONGEST_TTL))


def _apply(verdict: Verdict, announce: Announce) -> None:
    if verdict.reason:
        announce.refuse(verdict.reason)
    elif verdict.interval:
        announce.interval = verdict.interval


def _key(announce: Announce) -> _Key:
    return announce.info_hash, announce.client, announce.user or _place(f"{announce.path}?{announce.query}")


def _place(url: str) -> str:
    """A URL as part of a key: nobody can make one that is a user's name, which is printable, and a long one, of which
    there may be as many as are remembered, takes no more room than others."""
    return f"\n{url}" if len(url) <= _LONGEST_URL else f"\n{blake2b(url.encode(), digest_size=32).hexdigest()}"


def _told(announce: Announce) -> dict[str, Any]:
    return {
        "info_hash": announce.info_hash.hex(),
        "peer_id": announce.peer_id.hex(),
        "client": announce.client.decode("latin-1"),
        "source": str(announce.source),
        "address": str(announce.address),
        "port": announce.port,
        "event": announce.event.name.lower(),
        "uploaded": announce.uploaded,
        "downloaded": announce.downloaded,
        "left": announce.left,
        "path": announce.path,
        "query": announce.query,
        "user": announce.user,
    }
