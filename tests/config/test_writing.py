"""The effective configuration as an operator sees it."""

from __future__ import annotations

import pytest

from tests.config.support import settings
from udptracker.config import (
    dump,
    parse,
)
from udptracker.redis.url import redacted


def test_what_is_written_reads_as_the_same_settings() -> None:
    config = {"redis_broker": "unix:///run/redis.sock", "sample_ttl": "250ms", "replay_window": "0s"}
    body = {
        "announce_interval": "1h1m1.5s",
        "metrics_addr": False,
        "workers": 2,
        "udp": {"addr": [":1", "[::1]:2"], "allow_ip_spoofing": True},
        "storage": {"name": "redis", "config": config},
    }
    before = settings(**body)
    assert parse(dump(before), {}).settings == before


def test_durations_are_written_as_in_a_file() -> None:
    assert "\n  interval_jitter: 0s\n" in dump(settings())


def test_what_is_written_is_printable() -> None:
    body = {"udp": {"addr": ["\x1bc\u202e:1"]}}
    assert dump(settings(**body)).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://pwd@h:1/0", "redis://***@h:1/0"),
        ("redis://user:pwd@h", "redis://user:***@h"),
        ("redis://:p@ss@h", "redis://:***@h"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("unix://pwd@/run/r.sock?db=1", "unix://***@/run/r.sock?db=1"),
        ("redis+sentinel://p@a,b/s/0?sentinel_password=q", "redis+sentinel://***@a,b/s/0?sentinel_password=***"),
    ],
)
def test_a_url_keeps_all_but_its_passwords(url: str, shown: str) -> None:
    assert redacted(url) == shown
