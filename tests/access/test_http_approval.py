"""A service that approves announces over HTTP: what it is asked, what it may answer, and when it does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.access.hooked import Hooked
from tests.access.support import INFO_HASH, PEER_ID, announce
from tests.support.tls import Authority
from tests.support.web import Answer, Asked, Web, web
from udptracker.access.hooks.api import Announce
from udptracker.access.hooks.http import HttpClient, HttpError
from udptracker.access.hooks.http_approval import ApprovalError, _key, read_verdicts
from udptracker.core import wire
from udptracker.core.reasons import UNDECIDED
from udptracker.core.swarm import IPV4, AnnounceOperation, Role
from udptracker.core.tracker import Question
from udptracker.core.wire import Event

NAME = "http approval"
OTHER = bytes(20)


words = st.sampled_from(["allow", "reason", "interval", "ttl"]) | st.text()
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(words, inner))
"""Whatever JSON can say."""


def approving(decide: Callable[[dict[str, Any]], Any]) -> Callable[[Asked], Answer]:
    """Answers each announce with what `decide` makes of it."""

    def answer(asked: Asked) -> Answer:
        given = json.loads(asked.body)["announces"]
        return Answer(json.dumps({"answers": [decide(each) for each in given]}).encode())

    return answer


def asked_of(served: Web) -> list[list[int]]:
    """The ports of the announces in each request."""
    return [[each["port"] for each in json.loads(asked.body)["announces"]] for asked in served.asked]


class Approved(Hooked):
    """A tracker with this hook alone, and the service it asks."""

    def __init__(self, served: Web) -> None:
        super().__init__()
        self.served = served

    async def approve(self, terms: dict[str, Any] | None = None, **options: Any) -> None:
        options = {"url": f"{self.served.url}/approve?for=us", **options}
        await self.use({"name": NAME, "timeout": "10s", "options": options, **(terms or {})})

    async def ask(self, *requests: bytes) -> list[str | None]:
        numbers = [int.from_bytes(request[12:16], "big") for request in requests]
        self.gate.ask(*requests)
        return await self.refusals(*numbers)


@pytest.fixture
async def approved() -> AsyncIterator[Approved]:
    with web(approving(lambda _: {"allow": True})) as served:
        made = Approved(served)
        yield made
        await made.close()


class TestWhatIsAsked:
    async def test_one_request_for_a_turn_with_all_that_is_known(self, approved: Approved) -> None:
        await approved.approve(bearer_token="S3CRET")
        assert await approved.ask(announce(1, port=1, url="/k/announce?a=b"), announce(2, port=2)) == [None, None]
        (asked,) = approved.served.asked
        assert (asked.method, asked.path) == ("POST", "/approve?for=us")
        assert asked.headers["authorization"] == "Bearer S3CRET"
        assert asked.headers["content-type"] == "application/json"
        first, second = json.loads(asked.body)["announces"]
        assert first == {
            "info_hash": INFO_HASH.hex(),
            "peer_id": PEER_ID.hex(),
            "client": "UT0001",
            "source": "192.0.2.1",
            "address": "192.0.2.1",
            "port": 1,
            "event": "started",
            "uploaded": 0,
            "downloaded": 0,
            "left": 1,
            "path": "/k/announce",
            "query": "a=b",
            "user": "",
        }
        assert (second["port"], second["path"]) == (2, "")

    async def test_without_a_token_there_is_no_header(self, approved: Approved) -> None:
        await approved.approve()
        await approved.ask(announce(1))
        assert "authorization" not in approved.served.asked[0].headers


class TestWhatIsAnswered:
    async def test_each_announce_has_its_own_answer(self, approved: Approved) -> None:
        said = {
            1: {"allow": True},
            2: {"allow": False},
            3: {"allow": False, "reason": "over\nquota"},
            4: {"allow": True, "interval": 900},
        }
        approved.served.answer = approving(lambda each: said[each["port"]])
        await approved.approve()
        refusals = await approved.ask(*(announce(number, port=number) for number in said))
        assert refusals == [None, "unapproved request", r"over\nquota", None]
        response = approved.gate.answers[4]
        assert isinstance(response, wire.AnnounceResponse)
        assert response.interval == 900
        assert approved.gate.counters.hook_refusals[NAME] == 2

    async def test_an_answer_holds_for_as_long_as_it_says(self, approved: Approved) -> None:
        approved.served.answer = approving(lambda each: {"allow": each["port"] != 2, "reason": "no", "ttl": 3600})
        await approved.approve()
        assert await approved.ask(announce(1, port=1, url="/a"), announce(2, port=2, url="/b")) == [None, "no"]
        assert await approved.ask(announce(3, port=1, url="/a"), announce(4, port=2, url="/b")) == [None, "no"]
        assert asked_of(approved.served) == [[1, 2]]
        others = [
            announce(5, port=5, url="/c"),
            announce(6, OTHER, port=6, url="/a"),
            announce(7, port=7, url="/a", peer_id=b"-XX0001-000000006881"),
        ]
        assert await approved.ask(announce(8, port=2, url="/b"), *others) == ["no", None, None, None]
        assert asked_of(approved.served)[1:] == [[5, 6, 7]]

    @pytest.mark.parametrize("ttl", [0, 0.05])
    async def test_and_no_longer(self, approved: Approved, ttl: float) -> None:
        approved.served.answer = approving(lambda _: {"allow": True, "ttl": ttl})
        await approved.approve()
        await approved.ask(announce(1))
        await asyncio.sleep(ttl * 2)
        await approved.ask(announce(2))
        assert len(approved.served.asked) == 2

    async def test_only_so_many_are_remembered(self, approved: Approved) -> None:
        approved.served.answer = approving(lambda _: {"allow": True, "ttl": 3600})
        await approved.approve(max_cached=2)
        for number, url in enumerate(["/a", "/b", "/c", "/c", "/b", "/a"], 1):
            await approved.ask(announce(number, port=number, url=url))
        assert asked_of(approved.served) == [[1], [2], [3], [6]]

    async def test_a_url_is_nobodys_name_and_a_long_one_takes_little_memory(self, approved: Approved) -> None:
        """Whoever has no passkey is not taken for the user whose name their URL spells."""
        operation = AnnounceOperation(IPV4, INFO_HASH, bytes(26), Role.LEECHER, Event.NONE, 0)
        keys = []
        for url, user in (("alice?a", ""), ("", "alice?a"), ("/" + "x" * 1000, ""), ("/" + "x" * 999 + "y", "")):
            question = Question(operation, announce(1, url=url), bytes(4), None)
            question.user = user
            keys.append(_key(Announce(question, operation, 0.0)))
        assert len(set(keys)) == 4
        assert all(len(part) <= 65 for key in keys for part in key)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"[]",
            b"{}",
            b'{"answers": 1}',
            b'{"answers": []}',
            b'{"answers": [1]}',
            b'{"answers": [{}]}',
            b'{"answers": [{"allow": 1}]}',
            b'{"answers": [{"allow": true, "reason": 1}]}',
            b'{"answers": [{"allow": true, "interval": -1}]}',
            b'{"answers": [{"allow": true, "interval": 1e9}]}',
            b'{"answers": [{"allow": true, "ttl": -1}]}',
            b'{"answers": [{"allow": true, "ttl": NaN}]}',
            b'{"answers": [{"allow": true, "ttl": "1"}]}',
            b'{"answers": [{"allow": true}, {"allow": true}]}',
            b"[" * 100_000,
            b"\xff",
        ],
    )
    def test_what_is_no_answer(self, text: bytes) -> None:
        with pytest.raises(ApprovalError):
            read_verdicts(text, 1)

    @given(st.binary() | anything.map(lambda value: json.dumps({"answers": [value]}).encode()))
    def test_any_answer_is_understood_or_refused(self, text: bytes) -> None:
        with contextlib.suppress(ApprovalError):
            (verdict,) = read_verdicts(text, 1)
            assert verdict.ttl >= 0


@pytest.mark.parametrize(("policy", "words"), [("refuse", UNDECIDED), ("allow", None)])
class TestFailures:
    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(Answer(b"{}"), id="no answers"),
            pytest.param(Answer(status=500), id="an error"),
            pytest.param(Answer(status=302, headers=(("Location", "/"),)), id="a redirection"),
            pytest.param(Answer(b" " * 2**21), id="too long"),
        ],
    )
    async def test_no_answer_is_no_decision(
        self, approved: Approved, policy: str, words: str | None, answer: Answer, caplog: pytest.LogCaptureFixture
    ) -> None:
        approved.served.answer = lambda _: answer
        await approved.approve({"on_failure": policy}, bearer_token="S3CRET")
        assert await approved.ask(announce(1)) == [words]
        assert approved.gate.counters.hook_failures[NAME] == 1
        assert "hook http approval: it failed" in caplog.text
        assert "Traceback" not in caplog.text
        assert "S3CRET" not in caplog.text

    async def test_nobody_there(
        self, approved: Approved, policy: str, words: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        approved.served.stop()
        await approved.approve({"on_failure": policy})
        assert await approved.ask(announce(1)) == [words]
        assert "it failed: HttpError: 127.0.0.1: Connect" in caplog.text
        assert "Traceback" not in caplog.text, "that a service is away is to be expected"

    async def test_one_that_hangs_is_not_waited_for_and_what_is_remembered_holds(
        self, approved: Approved, policy: str, words: str | None
    ) -> None:
        hanging = threading.Event()
        approved.served.answer = approving(lambda _: {"allow": False, "reason": "no", "ttl": 3600})
        await approved.approve({"on_failure": policy})
        assert await approved.ask(announce(1, url="/a")) == ["no"]

        def hang(_: Asked) -> Answer:
            hanging.wait(20)
            return Answer()

        approved.served.answer = hang
        await approved.approve({"on_failure": policy, "timeout": "50ms"})
        assert await approved.ask(announce(2, url="/a"), announce(3, url="/b")) == ["no", words]
        assert approved.gate.counters.hook_timeouts[NAME] == 1
        hanging.set()


class TestClient:
    async def test_a_connection_is_kept_and_made_again_when_it_was_closed(self) -> None:
        """By a server that closes each after two answers, without a word."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            accepted: list[int] = []

            def serve() -> None:
                for _ in range(2):
                    connection, _address = listener.accept()
                    accepted.append(1)
                    with connection:
                        for _ in range(2):
                            while b"\r\n\r\n" not in connection.recv(65536):
                                pass
                            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            client = HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}/", seconds=20, most_bytes=10)
            for _ in range(4):
                assert (await client.request("GET")).body == b"x"
            await client.close()
            await asyncio.to_thread(thread.join, 20)
            assert len(accepted) == 2

    @pytest.mark.parametrize(
        ("sent", "told"),
        [
            (b"", "no whole answer"),
            (b"nonsense\r\n\r\n", "no whole answer"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx", "no whole answer"),
            (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000, "no whole answer"),
            (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 11, "more than 10 bytes"),
        ],
    )
    async def test_what_is_no_answer(self, sent: bytes, told: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                connection, _address = listener.accept()
                with connection, contextlib.suppress(ConnectionError):
                    connection.recv(65536)
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(65536)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            client = HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}/", seconds=20, most_bytes=10)
            with pytest.raises(HttpError, match=told):
                await client.request("GET")
            await asyncio.to_thread(thread.join, 20)

    async def test_a_body_that_ends_with_its_connection(self) -> None:
        with web(lambda _: Answer(b"x")) as served:
            client = HttpClient(served.url, seconds=20, most_bytes=10)
            assert await client.request("GET") == (200, b"x", "")
            await client.close()

    async def test_certificates_are_checked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        authority = Authority(tmp_path / "authority")
        certificate = authority.issue("localhost", "127.0.0.2")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        with web(lambda _: Answer(b"x"), context) as served:
            url = served.url.replace("127.0.0.1", "localhost")
            stranger = HttpClient(url, seconds=20, most_bytes=10)
            with pytest.raises(HttpError, match="certificate verify failed"):
                await stranger.request("GET")
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
            client = HttpClient(url, seconds=20, most_bytes=10)
            assert (await client.request("GET")).body == b"x"
            await client.close()
            other = HttpClient(served.url, seconds=20, most_bytes=10)
            with pytest.raises(HttpError, match="certificate verify failed"):
                await other.request("GET")

    async def test_no_answer_in_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}/", seconds=0.05, most_bytes=10)
            with pytest.raises(HttpError, match="no answer within"):
                await client.request("GET")
