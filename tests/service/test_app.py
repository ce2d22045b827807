"""Sockets and the metrics server as `app` puts them together; the whole of it runs in `test_end_to_end`."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from udptracker import config
from udptracker.config import Loaded, Settings
from udptracker.service.app import report, serve
from udptracker.service.listening import Bound


def settings(**tree: Any) -> Settings:
    return config.from_tree(tree, "udptracker", {}).settings


def nothing_else() -> Loaded:
    raise AssertionError("nobody asks for a reload")


class TestServe:
    def test_a_bind_failure_is_one_error_and_a_status(self, caplog: pytest.LogCaptureFixture) -> None:
        status = serve(settings(udp={"addr": "192.0.2.1:6969", "private_key": "secret"}), nothing_else)
        assert status == 1
        assert [record.message for record in caplog.records] == [
            "cannot listen on 192.0.2.1 port 6969: Cannot assign requested address"
        ]

    def test_a_made_key_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        assert serve(settings(udp={"addr": "192.0.2.1:6969"}), nothing_else) == 1
        warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert "no udp.private_key" in warnings[0]


class TestReport:
    def test_a_line_each(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        given = settings(udp={"addr": ["127.0.0.1:6969", "[::1]:6970", "[::]:6971"]})
        report(given, Bound(given.udp.addresses(), [[], []]))
        assert [record.message for record in caplog.records] == [
            "listening on udp 127.0.0.1:6969",
            "listening on udp [::1]:6970",
            "listening on udp [::]:6971, IPv4 as well",
            "2 workers share the ports",
            "the store is memory: gone when this process is",
        ]

    def test_no_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        broker = {"redis_broker": "redis://swordfish@127.0.0.1:6379/3"}
        given = settings(udp={"private_key": "hunter2"}, storage={"name": "redis", "config": broker})
        report(given, Bound(given.udp.addresses(), [[]]))
        assert "Redis at 127.0.0.1:6379, database 3" in caplog.text
        assert "swordfish" not in caplog.text
        assert "hunter2" not in caplog.text
