"""What a worker says to its parent."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.waiting import PATIENCE
from udptracker.config import Settings
from udptracker.service.channel import Channel, channel_pair
from udptracker.service.node import Node
from udptracker.service.orders import READY
from udptracker.service.worker import _Answers


async def test_a_question_that_cannot_be_answered_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an answer the parent would wait for it for ever."""
    node = Node(Settings(), [bytes(32)], [])
    parent, worker = map(Channel, channel_pair())

    async def ping() -> None:
        raise LookupError("a bug in a store")

    monkeypatch.setattr(node, "_serving", True)
    monkeypatch.setattr(type(node.store), "ping", lambda _: ping())
    told = asyncio.Event()
    _Answers(node, worker, told)
    parent.send((READY, 7, ()))
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(parent.fileno(), heard.set)
    await asyncio.wait_for(heard.wait(), PATIENCE)
    loop.remove_reader(parent.fileno())
    assert parent.receive() == (READY, 7, None)
    assert "a bug in a store" in caplog.text
    parent.hang_up()
    await asyncio.wait_for(told.wait(), PATIENCE)
    parent.close()
    worker.close()
    await node.stop()
