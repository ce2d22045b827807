"""Configuration by environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.config.support import KEYS, faults, nested, settings, tree
from udptracker.config import ConfigError, Fault, RedisSettings, dump, from_tree


def variable(path: str) -> str:
    return "UDPTRACKER_" + path.upper().replace(".", "_")


@pytest.mark.parametrize(("path", "store"), KEYS)
def test_every_key_has_a_variable(path: str, store: str) -> None:
    """What no value of that key can be is refused by the name of its variable, so it was taken for it."""
    refused = faults({"storage": {"name": store}}, **{variable(path): "[1]"})
    assert variable(path) in [fault.path for fault in refused]


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("announce_interval", "20m", "20m"),
        ("workers", "1", 1),
        ("log_level", "debug", "debug"),
        ("metrics_addr", "off", "off"),
        ("udp.addr", "[::]:1", ["[::]:1"]),
        ("udp.addr", '["127.0.0.1:1", ":2"]', ["127.0.0.1:1", ":2"]),
        ("udp.private_key", "1234", ["1234"]),
        ("udp.private_key", '["new", "old"]', ["new", "old"]),
        ("udp.allow_ip_spoofing", "true", True),
        ("udp.return_own_peer_when_alone", "False", False),
        ("udp.max_numwant", "60", 60),
        ("storage.config.gc_interval", "1m", "1m"),
    ],
)
def test_a_variable_says_what_the_file_would(path: str, text: str, value: Any) -> None:
    expected = tree(nested(path, value)).settings
    assert tree({}, **{variable(path): text}).settings == expected


def test_flags_are_above_variables_and_variables_above_the_file() -> None:
    body = {"log_level": "error", "announce_interval": "20m", "workers": 1}
    environment = {"UDPTRACKER_LOG_LEVEL": "warning", "UDPTRACKER_ANNOUNCE_INTERVAL": "25m"}
    loaded = from_tree(body, "udptracker", environment, {"log_level": "debug"})
    assert (loaded.settings.log_level, loaded.settings.announce_interval) == ("debug", 1500)
    assert loaded.origins == {
        "workers": "file",
        "announce_interval": "UDPTRACKER_ANNOUNCE_INTERVAL",
        "log_level": "flag",
    }


def test_an_empty_variable_is_none() -> None:
    assert tree({"workers": 1}, UDPTRACKER_WORKERS="", UDPTRACKER_UDP_PRIVATE_KEY_FILE="").settings.workers == 1


def test_a_store_that_is_none_is_refused_also_above_a_file() -> None:
    (fault,) = faults(
        {"storage": {"name": "redis", "config": {"gc_interval": "1m"}}}, UDPTRACKER_STORAGE_NAME="postgres"
    )
    assert fault.path == "UDPTRACKER_STORAGE_NAME"
    assert fault.found == "'postgres'"


def test_a_list_that_is_nested_too_deeply_is_refused() -> None:
    (fault,) = faults({}, UDPTRACKER_UDP_ADDR="[" * 100_000)
    assert fault.path == "UDPTRACKER_UDP_ADDR"


def test_a_whole_node_on_redis(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("redis://:s3cr3t@redis:6379/0\n")
    (tmp_path / "key").write_text("k3y\n")
    loaded = tree(
        {},
        UDPTRACKER_STORAGE_NAME="redis",
        UDPTRACKER_STORAGE_CONFIG_REDIS_BROKER_FILE=str(tmp_path / "broker"),
        UDPTRACKER_UDP_PRIVATE_KEY_FILE=str(tmp_path / "key"),
        UDPTRACKER_METRICS_ADDR=":6880",
    )
    config = loaded.settings.storage.config
    assert isinstance(config, RedisSettings)
    assert config.redis_broker.get_secret_value() == "redis://:s3cr3t@redis:6379/0"
    assert [key.get_secret_value() for key in loaded.settings.udp.private_key] == ["k3y"]
    assert loaded.warnings == ()
    shown = dump(loaded.settings, loaded.origins)
    assert "s3cr3t" not in shown
    assert "k3y" not in shown
    assert yaml.safe_load(shown) == yaml.safe_load(dump(loaded.settings))
    lines = shown.splitlines()
    assert "  metrics_addr: :6880  # UDPTRACKER_METRICS_ADDR" in lines
    assert "    private_key:  # UDPTRACKER_UDP_PRIVATE_KEY_FILE" in lines
    assert "      redis_broker: redis://:***@redis:6379/0  # UDPTRACKER_STORAGE_CONFIG_REDIS_BROKER_FILE" in lines
    assert "  announce_interval: 30m  # default" in lines


def test_where_each_value_came_from() -> None:
    body = {"udp": {"addr": [":1", ":2"], "max_numwant": 60}, "storage": {"name": "memory"}}
    loaded = tree(body)
    lines = dump(settings(**body), loaded.origins).splitlines()
    told = [line for line in lines if line.endswith("# file")]
    assert told == ["    addr:  # file", "    max_numwant: 60  # file", "    name: memory  # file"]
    keys = [line for line in lines if "# " in line]
    assert (
        len(keys)
        == len([path for path, store in KEYS if store == "memory" or not path.startswith("storage.config.")]) + 1
    )


@pytest.mark.parametrize("name", ["UDPTRACKER_UDP_PRIVATE_KEY", "UDPTRACKER_STORAGE_CONFIG_REDIS_BROKER"])
def test_a_secret_is_never_told(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text('["s3cr3t", 5]')
    for environment in ({name: '["s3cr3t", 5]'}, {f"{name}_FILE": str(path)}):
        with pytest.raises(ConfigError) as refused:
            tree({"storage": {"name": "redis"}}, **environment)
        assert "s3cr3t" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    (refused,) = faults({}, UDPTRACKER_UDP_PRIVATE_KEY_FILE=missing)
    assert refused == Fault(
        "UDPTRACKER_UDP_PRIVATE_KEY_FILE",
        f"{missing!r}: No such file or directory",
        "the name of a file with the secret",
    )
    (refused,) = faults({}, UDPTRACKER_UDP_PRIVATE_KEY="x", UDPTRACKER_UDP_PRIVATE_KEY_FILE=__file__)
    assert (refused.path, refused.found) == ("UDPTRACKER_UDP_PRIVATE_KEY_FILE", "UDPTRACKER_UDP_PRIVATE_KEY as well")


def test_what_is_no_key_is_told_where_one_was_meant() -> None:
    told = tree(
        {"udp": {"private_key": "${UDPTRACKER_PRIVATE_KEY}"}},
        UDPTRACKER_PRIVATE_KEY="used by the file",
        UDPTRACKER_UDP_MAX_NUMWANTS="1",
        UDPTRACKER_PURE="1",
        UDPTRACKER_SERVICE_HOST="10.0.0.1",
        UDPTRACKER_STORAGE_CONFIG_REDIS_BROKER="redis://h",
    ).warnings
    assert told == (
        "UDPTRACKER_UDP_MAX_NUMWANTS: an environment variable that is no key; UDPTRACKER_UDP_MAX_NUMWANT is",
        "UDPTRACKER_STORAGE_CONFIG_REDIS_BROKER: memory storage has no such key",
    )
