"""chihaya's jwt hook: which tokens let an announce in, and where the keys come from."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import sys
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from tests.access.hooked import until
from tests.access.support import INFO_HASH, PEER_ID, Gate, announce, scrape
from tests.access.tokens import (
    AUDIENCE,
    ED,
    ISSUER,
    KEYS,
    OTHER_RSA,
    P256,
    RSA,
    WEAK_RSA,
    issuer,
    jwk,
    key_set,
    raw,
    token,
)
from tests.config.support import settings
from tests.support.web import Answer, Web
from udptracker.access.access import Access
from udptracker.access.base import AccessError
from udptracker.access.hooks.jwt_approval import JwtApproval
from udptracker.access.hooks.key_set import KeySetError, fetch, read_keys
from udptracker.access.hooks.making import make_hook
from udptracker.access.hooks.part import Hooks
from udptracker.core import wire
from udptracker.core.counters import Counters
from udptracker.core.swarm import AnnounceOperation, Role
from udptracker.core.tracker import Question
from udptracker.core.wire import Event

OTHER = bytes(20)
OPTIONS = {"issuer": ISSUER, "audience": AUDIENCE, "jwk_set_url": "http://h/", "jwk_set_update_interval": "1s"}


class Guarded:
    """A tracker that asks for tokens of an issuer."""

    def __init__(self, served: Web) -> None:
        self.gate = Gate()
        self.served = served
        hooks = settings(prehooks=[{"name": "jwt", "options": OPTIONS | {"jwk_set_url": served.url}}])
        self.access = Access([Hooks(hooks, self.gate.counters)], self.gate.guard, self.gate.tracker)
        self._last = 0

    def ask(self, url: str, info_hash: bytes = INFO_HASH) -> str | None:
        """The words of the refusal of an announce to a URL."""
        self._last += 1
        self.gate.ask(announce(self._last, info_hash, url=url))
        return self.gate.refusal(self._last)

    def show(self, given: str, info_hash: bytes = INFO_HASH) -> str | None:
        return self.ask(f"/announce?jwt={given}", info_hash)


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    with issuer() as served:
        made = Guarded(served)
        await made.access.open()
        yield made
        await made.access.close()


MISSING = "unapproved request: missing jwt"
INVALID = "unapproved request: invalid jwt"


def signed_with_a_public_key() -> str:
    """What an RS256 verifier takes that is talked into HS256: the key that everybody knows as the shared secret."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = raw({"alg": "HS256", "kid": "rsa"}, claims()).rpartition(".")[0]
    signature = base64.urlsafe_b64encode(hmac.digest(pem, unsigned.encode(), "sha256")).rstrip(b"=").decode()
    return f"{unsigned}.{signature}"


def claims(**other: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "infohash": INFO_HASH.hex(), "exp": time.time() + 3600, **other}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["alg", "kid", "crit", "exp"]) | st.text(), inner),
)
tokens = st.builds(raw, anything, anything, st.binary()).map(lambda text: wire.encode_url_data(f"/?jwt={text}"))
"""BEP 41 options with something that looks like a token."""


def counted() -> Counters:
    counters = Counters()
    counters.add_hook("jwt")
    return counters


class TestTokens:
    async def test_scrapes_need_none(self, guarded: Guarded) -> None:
        guarded.gate.ask(scrape(1, INFO_HASH))
        assert guarded.gate.refusal(1) is None

    @pytest.mark.parametrize("url", ["", "/announce", "/announce?token=x", "/jwt=x", "/announce?xjwt=1"])
    async def test_none(self, guarded: Guarded, url: str) -> None:
        assert guarded.ask(url) == MISSING
        assert guarded.gate.counters.refused[MISSING] == 1
        assert guarded.gate.counters.hook_refusals["jwt"] == 1

    @pytest.mark.parametrize(
        "form", ["/announce?jwt={}", "?a=b&jwt={}", "/a?JWT={};x", "/a?jwt=older&jwt={}", "/a?%6Awt={}"]
    )
    async def test_wherever_it_is_in_the_query(self, guarded: Guarded, form: str) -> None:
        assert guarded.ask(form.format(token())) is None

    @pytest.mark.parametrize(
        "good",
        [
            pytest.param({}, id="RS256"),
            pytest.param({"key": P256, "algorithm": "ES256", "kid": "ec"}, id="ES256"),
            pytest.param({"key": ED, "algorithm": "EdDSA", "kid": "ed"}, id="EdDSA"),
            pytest.param({"key": OTHER_RSA, "algorithm": "PS384", "kid": "free"}, id="PS384"),
            pytest.param({"aud": ["https://else.example", AUDIENCE]}, id="one of several audiences"),
            pytest.param({"nbf": 0, "iat": 4e9, "sub": 7, "jti": 8, "exp": None}, id="claims that are not asked for"),
        ],
    )
    async def test_that_let_in(self, guarded: Guarded, good: dict[str, Any]) -> None:
        given = token(**good)
        assert guarded.show(given) is None
        assert guarded.show(given) is None
        assert guarded.show(given, OTHER) == INVALID, "it is for one torrent"

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param({"iss": "https://issuer.example/"}, id="another issuer"),
            pytest.param({"iss": None}, id="no issuer"),
            pytest.param({"aud": "https://else.example"}, id="another audience"),
            pytest.param({"aud": None}, id="no audience"),
            pytest.param({"aud": 5}, id="no text for an audience"),
            pytest.param({"infohash": OTHER.hex()}, id="another torrent"),
            pytest.param({"infohash": INFO_HASH.hex().upper()}, id="upper case, which chihaya refuses"),
            pytest.param({"infohash": None}, id="no torrent"),
            pytest.param({"exp": 1}, id="expired"),
            pytest.param({"exp": "soon"}, id="no time to expire"),
            pytest.param({"nbf": 4e9}, id="not yet"),
            pytest.param({"kid": "unknown"}, id="an unknown key"),
            pytest.param({"kid": ""}, id="a key without a name"),
            pytest.param({"key": OTHER_RSA}, id="the key of another"),
            pytest.param({"algorithm": "RS384"}, id="another algorithm than its key says"),
            pytest.param({"algorithm": "PS256"}, id="another padding than its key says"),
            pytest.param({"head": {"crit": ["x"], "x": 1}}, id="something critical that nobody knows"),
        ],
    )
    async def test_that_do_not(self, guarded: Guarded, bad: dict[str, Any]) -> None:
        assert guarded.show(token(**bad)) == INVALID

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param("", id="empty"),
            pytest.param("x", id="no token"),
            pytest.param(raw({"alg": "none", "kid": "rsa"}, claims()), id="unsigned"),
            pytest.param(raw({"alg": "HS256", "kid": "rsa"}, claims(), b"x" * 32), id="symmetric"),
            pytest.param(signed_with_a_public_key(), id="signed with the public key"),
            pytest.param(raw({"alg": "RS256"}, claims(), b"x" * 256), id="without a key"),
            pytest.param(raw({"alg": "RS256", "kid": ["rsa"]}, claims(), b"x" * 256), id="a list for a key"),
            pytest.param(raw(b"[" * 400, b"[" * 400), id="deep"),
            pytest.param(raw([1], [2]), id="lists"),
            pytest.param("é", id="not even ASCII"),
        ],
    )
    async def test_that_are_none(self, guarded: Guarded, bad: str) -> None:
        assert guarded.show(bad) == INVALID

    def test_whatever_is_sent_is_refused_and_nothing_is_raised(self) -> None:
        hook = JwtApproval("jwt", counted(), issuer=ISSUER, audience=AUDIENCE, url="http://h/", interval=1)
        operation = AnnounceOperation(4, INFO_HASH, PEER_ID + bytes(6), Role.LEECHER, Event.NONE, 50)

        @given(st.binary() | st.text().map(lambda text: wire.encode_url_data(f"/?jwt={quote(text)}")) | tokens)
        def check(options: bytes) -> None:
            question = Question(operation, bytes(8) + wire.ANNOUNCE_ACTION + bytes(86) + options, bytes(4), None)
            assert hook.decide(question, operation) in (MISSING, INVALID)

        check()

    async def test_one_that_was_changed(self, guarded: Guarded) -> None:
        head, body, signature = token(infohash=OTHER.hex()).split(".")
        changed = body[:-1] + ("A" if body[-1] != "A" else "B")
        assert guarded.show(f"{head}.{changed}.{signature}", OTHER) == INVALID
        assert guarded.show(f"{head}.{body}.{signature}", OTHER) is None

    async def test_one_that_was_let_in_expires_all_the_same(self, guarded: Guarded) -> None:
        expires = int(time.time()) + 4
        given = token(exp=expires)
        assert guarded.show(given) is None
        await asyncio.sleep(max(expires - time.time(), 0) + 0.1)
        assert guarded.show(given) == INVALID

    async def test_a_signature_is_looked_at_once(self, guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        given = token()
        assert guarded.show(given) is None
        monkeypatch.setattr(jwt, "decode", None)
        assert guarded.show(given) is None
        assert guarded.show(token(exp=time.time() + 60)) == INVALID, "of another nobody knows anything"


class TestKeys:
    def test_only_what_can_verify_and_cannot_sign(self) -> None:
        keys = read_keys(
            key_set(
                {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
                jwk(RSA, "encrypts", use="enc"),
                jwk(RSA, "signs", use="sig", key_ops=["verify"]),
                jwk(RSA, "only signs", key_ops=["sign"]),
                jwk(RSA, "symmetric", alg="HS256"),
                jwk(RSA, "of another kind", alg="ES256"),
                jwk(WEAK_RSA, "weak"),
                {**jwk(P256, "broken"), "x": "AA"},
                {"kty": "RSA", "kid": "empty"},
                {"kty": ["RSA"], "kid": "odd"},
                {key: value for key, value in jwk(RSA, "").items() if key != "kid"},
            )
        )
        assert set(keys) == {"signs"}
        assert "RS256" in keys["signs"].algorithms

    def test_one_that_a_library_cannot_take_costs_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever it raises: a key set that is read again later must not be given up for it."""
        take = jwt.PyJWK

        def picky(key: dict[str, Any], algorithm: str) -> jwt.PyJWK:
            if key["kty"] == "EC":
                raise UnsupportedAlgorithm("no such curve here")
            return take(key, algorithm)

        monkeypatch.setattr(jwt, "PyJWK", picky)
        assert set(read_keys(key_set(jwk(P256, "ec"), jwk(RSA, "rsa")))) == {"rsa"}

    def test_a_private_key_in_a_set_is_used_as_a_public_one(self) -> None:
        private = jwt.get_algorithm_by_name("RS256").to_jwk(RSA, as_dict=True)
        keys = read_keys(key_set({**private, "kid": "leaked", "key_ops": ["sign", "verify"]}))
        assert not hasattr(keys["leaked"].key, "private_bytes")

    @pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys": 1}', b"\xff", b"[" * 10_000, key_set()])
    def test_what_is_no_key_set(self, text: bytes) -> None:
        with pytest.raises(KeySetError):
            read_keys(text)

    async def test_a_redirection_is_followed(self) -> None:
        with issuer() as served:
            leads = Answer(status=302, headers=(("Location", "/keys"),))
            served.answer = lambda asked: Answer(KEYS) if asked.path == "/keys" else leads
            assert set(await fetch(served.url)) == {"rsa", "ec", "ed", "free"}

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (Answer(status=404), "status 404"),
            (Answer(b" " * 2**19), "more than 262144 bytes"),
            (Answer(status=302, headers=(("Location", "file:///etc/passwd"),)), "cannot be asked"),
            (Answer(status=302, headers=(("Location", "http://[/"),)), "cannot be asked"),
            (Answer(status=301, headers=(("Location", "/again"),)), "more than 5 redirections"),
            (Answer(b"{}"), "no JSON Web Key Set"),
        ],
    )
    async def test_without_keys_it_does_not_start(self, answer: Answer, told: str) -> None:
        with issuer() as served:
            served.answer = lambda _: answer
            made = Guarded(served)
            with pytest.raises(AccessError, match=told):
                await made.access.open()
            await made.access.close()

    async def test_nobody_there_is_no_start(self) -> None:
        with issuer() as served:
            made = Guarded(served)
        with pytest.raises(AccessError, match="there is no key set: 127"):
            await made.access.open()
        await made.access.close()

    async def test_keys_are_read_again_and_the_old_hold_while_they_cannot_be(
        self, guarded: Guarded, caplog: pytest.LogCaptureFixture
    ) -> None:
        given = token()
        assert guarded.show(given) is None
        with caplog.at_level(logging.INFO):
            guarded.served.answer = lambda _: Answer(status=503)
            await until(lambda: "holds: it was answered with status 503" in caplog.text, "a word that they are old")
            assert guarded.show(given) is None
            assert guarded.show(token(exp=time.time() + 60)) is None
            guarded.served.answer = lambda _: Answer(key_set(jwk(OTHER_RSA, "new")))
            await until(lambda: "the key set is read again" in caplog.text, "new keys")
        assert guarded.show(given) == INVALID, "whose key was withdrawn"
        assert guarded.show(token(OTHER_RSA, kid="new")) is None


async def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "udptracker.access.hooks.jwt_approval", None)
    with pytest.raises(AccessError, match=r"pip install 'udptracker\[jwt\]'"):
        await make_hook(
            "prehooks", 0, settings(prehooks=[{"name": "jwt", "options": OPTIONS}]).prehooks[0], None, Counters()
        )
