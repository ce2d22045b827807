"""What decides who may announce, as strangers and hostile issuers and lists feed it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import jwt

from tests.access.support import INFO_HASH, announce
from tests.access.tokens import AUDIENCE, ED, ISSUER, KEYS, P256, raw, token
from tests.fuzz.base import Reader
from udptracker.access.hooks.api import parameters
from udptracker.access.hooks.jwt_approval import JwtApproval
from udptracker.access.hooks.key_set import KeySetError, read_keys
from udptracker.access.lists.rules import PasskeyRule, passkey_of
from udptracker.access.lists.tables import Passkeys, make_table
from udptracker.core.counters import Counters
from udptracker.core.listed import LISTS, PARSE, PASSKEYS, parse_passkey, show, split_passkey
from udptracker.core.swarm import IPV4, AnnounceOperation, Role
from udptracker.core.tracker import Question
from udptracker.core.wire import Event

_PASSKEY = "0123456789abcdef"


class TokenTarget:
    """`jwt`: a token in the options of an announce, or a key set. Who is let in has what the issuer signed."""

    def __init__(self) -> None:
        self._hook = JwtApproval("jwt", Counters(), issuer=ISSUER, audience=AUDIENCE, url="http://h/", interval=300.0)
        self._hook._keys = read_keys(KEYS)
        self._genuine = [token(), token(P256, "ES256", "ec"), token(ED, "EdDSA", "ed"), token(exp=time.time() - 60)]

    def close(self) -> None: ...

    def seeds(self) -> Sequence[bytes]:
        forged = [
            raw({"alg": "none", "kid": "rsa"}, {"iss": ISSUER, "aud": AUDIENCE, "infohash": INFO_HASH.hex()}),
            raw({"alg": "HS256", "kid": "rsa"}, {"iss": ISSUER, "aud": AUDIENCE, "infohash": INFO_HASH.hex()}, b"x"),
            raw({"alg": "RS256", "kid": ["rsa"]}, {"exp": 1e400}),
            raw(b"[" * 900, b"{" * 900),
        ]
        urls = [f"/announce?jwt={each}" for each in (*self._genuine, *forged)]
        return [
            *(b"\0" + announce(1, url=url)[98:] for url in urls),
            b"\1" + KEYS,
            b'\1{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}',
            b'\1{"keys":[{"kty":"oct","kid":"a","k":"AQAB"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}',
        ]

    def feed(self, data: bytes) -> None:
        reader = Reader(data)
        if reader.byte() & 1:
            with contextlib.suppress(KeySetError):
                read_keys(reader.rest())
            return
        operation = AnnounceOperation(IPV4, INFO_HASH, bytes(26), Role.LEECHER, Event.NONE, 0)
        question = Question(operation, announce(1)[:98] + reader.rest(), bytes(4), None)
        self._hook._verified.clear()
        if not self._hook.decide(question, operation):
            claims = jwt.decode(parameters(question.url().query)["jwt"], options={"verify_signature": False})
            assert (claims["iss"], claims["aud"], claims["infohash"]) == (ISSUER, AUDIENCE, INFO_HASH.hex())


class ListTarget:
    """Entries of lists as somebody wrote them, and the passkeys in announce URLs."""

    def __init__(self) -> None:
        self._rule = PasskeyRule()
        passkeys = Passkeys()
        passkeys.put(parse_passkey(_PASSKEY), False, 0, "somebody")
        self._rule.use([passkeys], True)

    def close(self) -> None: ...

    def seeds(self) -> Sequence[bytes]:
        lines = ["ff" * 20, "-qB45%00", "192.0.2.0/24", "2001:db8::/32", f"{_PASSKEY} me", "sha256:" + "a" * 64]
        lines.append("magnet:?xt=urn:btih:" + "A" * 32)
        urls = [f"/{_PASSKEY}/announce", f"/announce/{_PASSKEY}?a=b", f"/announce?passkey={_PASSKEY}", "/%00/announce"]
        return [
            *(bytes((which,)) + line.encode() for which in range(4) for line in lines),
            *(b"\4" + announce(1, url=url)[98:] for url in urls),
        ]

    def feed(self, data: bytes) -> None:
        reader = Reader(data)
        kind = reader.byte() % (len(LISTS) + 1)
        if kind < len(LISTS):
            self._read(LISTS[kind], reader.rest().decode("utf-8", "replace"))
            return
        operation = AnnounceOperation(IPV4, INFO_HASH, bytes(26), Role.LEECHER, Event.NONE, 0)
        question = Question(operation, announce(1)[:98] + reader.rest(), bytes(4), None)
        self._rule.judge([question])
        assert question.refusal or passkey_of(question) == _PASSKEY.encode()

    @staticmethod
    def _read(which: str, line: str) -> None:
        table = make_table(which)
        try:
            text, user = split_passkey(line) if which == PASSKEYS else (line, "")
            entry = PARSE[which](text)
        except ValueError:
            return
        table.put(entry, True, 0, user)
        found = table.find(entry, 1)
        assert found is not None
        assert found.denied
        assert PARSE[which](show(which, entry)) == entry
        table.remove(entry)
        assert table.counts() == (0, 0)
