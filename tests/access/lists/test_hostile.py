"""Lists in a Redis that is hostile, or none: what leaves is `StoreError`, and what was known holds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.access.lists.support import Listed
from tests.access.lists.test_shared import ledger_at
from tests.access.support import INFO_HASH, announce
from tests.conftest import StoreServers
from tests.redis.servers import answering, listening
from tests.support.nodes import left_by
from udptracker.access.lists.changes import ALLOW, Change, pack_change, unpack_changes
from udptracker.access.lists.ledger import Gap, Known, Ledger
from udptracker.core.listed import PASSKEYS, TORRENTS, hash_passkey
from udptracker.core.reasons import UNAPPROVED_TORRENT
from udptracker.core.swarm import StoreError

ANSWERS = [
    b":1\r\n",
    b"$-1\r\n",
    b"$3\r\nabc\r\n",
    b"$5002\r\na " + b"9" * 5000 + b"\r\n",
    b"*0\r\n",
    b"*1\r\n:1\r\n",
    b"*2\r\n$1\r\n0\r\n*1\r\n:5\r\n",
    b"*2\r\n$1\r\n0\r\n*2\r\n:5\r\n:6\r\n",
    b"*1\r\n*2\r\n$1\r\nx\r\n*0\r\n",
    b"*1\r\n*2\r\n$5000\r\n" + b"9" * 5000 + b"\r\n*2\r\n+a\r\n+b\r\n",
    b",inf\r\n",
]


async def _every(ledger: Ledger, which: str) -> None:
    async for _ in ledger.entries(which):
        pass


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    "question",
    [
        Ledger.version,
        lambda ledger: ledger.changes(0, 5),
        lambda ledger: _every(ledger, TORRENTS),
        lambda ledger: _every(ledger, PASSKEYS),
        lambda ledger: ledger.size(TORRENTS),
        lambda ledger: ledger.find(TORRENTS, [bytes(20)]),
        lambda ledger: ledger.log(5),
    ],
)
async def test_whatever_is_answered(question: Callable[[Ledger], Any], answer: bytes) -> None:
    async with listening(answering({}, answer)) as port, ledger_at(f"redis://127.0.0.1:{port}/0") as ledger:
        with contextlib.suppress(StoreError, Gap):
            await question(ledger)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_node_starts_and_decides_by_what_it_knows(answer: bytes) -> None:
    async with listening(answering({}, answer)) as port:
        gate = Listed(shared=f"redis://127.0.0.1:{port}/0", torrents={"deny": [INFO_HASH.hex()]})
        try:
            await gate.access.open()
            gate.ask(announce(1), announce(2, bytes(20)))
            assert [gate.refusal(1), gate.refusal(2)] == [UNAPPROVED_TORRENT, None]
        finally:
            await gate.access.close()


@pytest.mark.parametrize("user", ["\x1b]0;x\x07", "x" * 65, 5, None, ["a"], "\ud800"])
def test_a_name_that_nobody_could_have_given_is_none(user: Any) -> None:
    """It goes to hooks, and from there to wherever accounts are kept."""
    known = Known(PASSKEYS, hash_passkey(b"x"), False, 0, json.dumps({"user": user}).encode())
    assert known.user() == ""
    if isinstance(user, str) and user != "\ud800":
        with pytest.raises(ValueError, match="no name of a user"):
            list(unpack_changes(pack_change(Change(PASSKEYS, ALLOW, hash_passkey(b"x"), 0, user)), 10))


def test_what_is_known_may_be_nested_deeply() -> None:
    assert Known(PASSKEYS, hash_passkey(b"x"), False, 0, b"[" * 100_000).about() == {}


async def test_an_opening_that_is_given_up_leaves_nothing(store_servers: StoreServers) -> None:
    server = store_servers()
    server.pause()
    gate = Listed(shared=server.url)
    assert await left_by(gate.access.open(), gate.access.close) == set()
    server.resume()
