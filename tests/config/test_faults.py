"""What is said of a configuration that is refused, and that no secret is in it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.support import KEYS, fault, faults, nested, text_fault, tree
from udptracker.config import (
    ConfigError,
    Fault,
    dump,
)


@pytest.mark.parametrize(("path", "store"), KEYS)
def test_the_wrong_type_is_told_by_its_path(path: str, store: str) -> None:
    body = nested(path, {"a": "mapping"})
    if store == "redis":
        body["storage"]["name"] = "redis"
    refused = fault(body)
    assert (refused.path, refused.found) == (f"udptracker.{path}", "a mapping")
    assert refused.expected


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("udp.max_numwant", "ten", "an integer of 0 or more"),
        ("udp.max_numwant", True, "an integer of 0 or more"),
        ("udp.max_numwant", 10.0, "an integer of 0 or more"),
        ("udp.default_numwant", -1, "an integer of 0 or more"),
        ("udp.default_numwant", 101, "at most max_numwant, 100"),
        ("udp.max_scrape_infohashes", 0, "an integer from 1 to 120"),
        ("udp.max_scrape_infohashes", 121, "an integer from 1 to 120"),
        ("udp.max_pending", 0, "an integer of 1 or more"),
        ("udp.receive_buffer", 4095, "an integer from 4096 to 1073741824"),
        ("udp.read_pace", "101ms", "a duration from 0 to 100ms, such as 5ms"),
        ("udp.read_pace", "-1ms", "a duration from 0 to 100ms, such as 5ms"),
        ("udp.allow_ip_spoofing", "yes", "true or false"),
        ("udp.connection_id_lifetime", "1ms", "a duration from 1s to 8760h, such as 14m, 1h30m or 500ms"),
        ("announce_interval", "0s", "a duration from 1s to 8760h, such as 14m, 1h30m or 500ms"),
        ("metrics_addr", "on", "an address such as 127.0.0.1:6880, or off"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("workers", 0, "an integer from 1 to 1024"),
        ("storage.name", "postgres", "'memory' or 'redis'"),
        ("storage.name", ["redis"], "'memory' or 'redis'"),
        ("storage.config.peer_lifetime", "0s", "a duration from 1ms to 8760h, such as 14m, 1h30m or 500ms"),
        ("storage.config", 5, "a mapping"),
        ("udp", [], "a mapping"),
    ],
)
def test_what_is_out_of_range_is_told(path: str, value: Any, expected: str) -> None:
    refused = fault(nested(path, value))
    assert (refused.path, refused.expected) == (f"udptracker.{path}", expected)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("announce_intervall", "'announce_interval', or none"),
        ("udp.max_numwants", "'max_numwant', or none"),
        ("storage.config.gc_intervals", "'gc_interval', or none"),
        ("storage.nam", "'name', or none"),
        ("storage.zzz", "one of name, config"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known(path: str, expected: str) -> None:
    assert fault(nested(path, 1)) == Fault(f"udptracker.{path}", "an unknown key", expected)


def test_a_key_of_another_store_is_unknown() -> None:
    assert fault(nested("storage.config.redis_broker", "redis://localhost")).found == "an unknown key"


def test_every_fault_is_told_at_once() -> None:
    body = {"a\nb": 1, "workers": "x", "udp": {"addr": "x"}, "storage": {"name": "redis", "config": {"x": 1}}}
    told = faults(body)
    assert len(told) == 4
    assert str(ConfigError(told)).count("\n") == 3


SECRET = "s3cr3t"
# Often of what takes a URL apart, or is taken for it by Unicode's rules.
letters = st.sampled_from("/?#[]@:&=% \u2100") | st.characters(codec="utf-8", exclude_categories=["Cc"])
secrets = st.text(letters).map(f"{SECRET}{{}}{SECRET}".format)


@given(secrets, st.sampled_from(["redis", "rediss", "redis+cluster", "unix", "http", "redis:"]), st.booleans())
def test_no_secret_is_told(secret: str, scheme: str, encode: bool) -> None:
    secret = secret.replace("${", "")
    written = quote(secret, "") if encode else secret
    alone = written.replace(":", "")  # what stands before a colon is a user's name
    for tail in ("127.0.0.1:6379/0", "127.0.0.1:x/0", "/run/redis.sock", "", "host/x?y=1"):
        for credentials in (f"user:{written}", f":{written}", alone):
            config = {"redis_broker": f"{scheme}://{credentials}@{tail}"}
            body = {"udp": {"private_key": [secret]}, "storage": {"name": "redis", "config": config}}
            try:
                loaded = tree(body)
                told = dump(loaded.settings) + repr(loaded) + loaded.settings.storage.describe()
            except ConfigError as error:
                told = str(error) + repr(error)
            assert SECRET not in told


@pytest.mark.parametrize(
    "text",
    [
        "udptracker: {udp: {private_key: *s3cr3t}}",
        "udptracker: {udp: {private_key: !s3cr3t x}}",
        "udptracker: {udp: {private_key: 's3cr3t}}",
        "udptracker: {udp: {private_key: [{s3cr3t: x}]}}",
        "udptracker: {udp: {private_key: s3cr3t: x}}",
        "udptracker: {udp: 's3cr3t'}",
        "udptracker: {udp: ['s3cr3t']}",
        "udptracker: {storage: {name: redis, config: 'redis://:s3cr3t@host'}}",
        "udptracker: s3cr3t",
    ],
)
def test_no_secret_of_a_broken_file_is_told(text: str) -> None:
    assert SECRET not in text_fault(text)
