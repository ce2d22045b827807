"""Files, the environment and flags; chihaya's file; whatever is no configuration."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.config.support import KEYS, fault, faults, text_fault, tree
from udptracker.config import (
    ConfigError,
    Fault,
    Loaded,
    MemorySettings,
    RedisSettings,
    Settings,
    UdpSettings,
    dump,
    from_tree,
    load,
    parse,
)

CHIHAYA = """
chihaya:
  announce_interval: 30m
  min_announce_interval: 15m
  metrics_addr: "0.0.0.0:6880"
  http:
    addr: "0.0.0.0:6969"
    https_addr: ""
    read_timeout: 5s
    enable_keepalive: false
  udp:
    addr: "0.0.0.0:6969"
    max_clock_skew: 10s
    private_key: "paste a random string here that will be used to hmac connection IDs"
    enable_request_timing: false
    allow_ip_spoofing: false
    max_numwant: 100
    default_numwant: 50
    max_scrape_infohashes: 50
  storage:
    name: memory
    config:
      gc_interval: 3m
      peer_lifetime: 31m
      shard_count: 1024
      prometheus_reporting_interval: 1s
  prehooks:
    - name: interval variation
      options:
        modify_response_probability: 0.2
        max_increase_delta: 60
"""
"""The keys of chihaya's example file."""


def test_environment_variables() -> None:
    body = {"udp": {"private_key": ["${A}${B}", "$${A}", "$A {A}"]}}
    keys = [key.get_secret_value() for key in tree(body, A="1", B="2").settings.udp.private_key]
    assert keys == ["12", "${A}", "$A {A}"]


def test_a_variable_that_is_not_set_is_one_fault() -> None:
    assert fault({"udp": {"addr": ["${WHERE}"]}}) == Fault(
        "udptracker.udp.addr.0", "${WHERE}", "an environment variable that is set"
    )


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b" k3y \r\n\n")
    (tmp_path / "password").write_text("p%40ss")
    broker = "redis://:${file:password}@redis:6379/0"
    body = {
        "udp": {"private_key": [f"${{file:{tmp_path}/key}}", "$${file:key}"]},
        "storage": {"name": "redis", "config": {"redis_broker": broker}},
    }
    found = tree(body, CREDENTIALS_DIRECTORY=str(tmp_path)).settings
    assert [key.get_secret_value() for key in found.udp.private_key] == [" k3y ", "${file:key}"]
    assert isinstance(found.storage.config, RedisSettings)
    assert found.storage.config.redis_broker.get_secret_value() == "redis://:p%40ss@redis:6379/0"
    shown = dump(found)
    assert "k3y" not in shown
    assert "p%40ss" not in shown


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "No such file or directory"),
        (b"s3cr3t\xff", "no text"),
        (b"\n", "nothing in it"),
        (b"s3cr3t" * 2**14, "more than 65536 bytes"),
    ],
)
def test_a_file_without_a_secret_is_a_fault(content: bytes | None, wrong: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    body = {"udp": {"private_key": ["a", "${file:key}"]}}
    expected = Fault("udptracker.udp.private_key.1", f"${{file:key}}: {wrong}", "a file with the secret")
    assert fault(body, CREDENTIALS_DIRECTORY=str(tmp_path)) == expected
    (told,) = faults({}, UDPTRACKER_UDP_PRIVATE_KEY_FILE=str(tmp_path / "key"))
    assert told.path == "UDPTRACKER_UDP_PRIVATE_KEY_FILE"
    assert told.found.endswith(f": {wrong}")


def test_a_file_of_no_directory_is_a_fault() -> None:
    told = fault({"udp": {"private_key": "${file:key}"}})
    assert (told.path, told.found) == ("udptracker.udp.private_key", "${file:key}")
    assert "CREDENTIALS_DIRECTORY" in told.expected


def test_what_anybody_may_see_is_in_no_file(tmp_path: Path) -> None:
    """It would be shown by `udptracker check`, and by a fault about it."""
    (tmp_path / "shadow").write_text("s3cr3t")
    for body in ({"log_level": f"${{file:{tmp_path}/shadow}}"}, {"udp": {"addr": [f"${{file:{tmp_path}/shadow}}"]}}):
        told = fault(body)
        assert told.found == "${file:...}"
        assert "s3cr3t" not in str(told)


def test_chihayas_example_works_and_says_what_is_not_served() -> None:
    loaded = parse(CHIHAYA, {})
    assert loaded.settings == Settings.model_validate(
        {
            "metrics_addr": "0.0.0.0:6880",
            "chihaya_metrics": True,
            "udp": {
                "addr": "0.0.0.0:6969",
                "max_scrape_infohashes": 50,
                "private_key": "paste a random string here that will be used to hmac connection IDs",
            },
            "storage": {"config": MemorySettings.model_validate({"peer_lifetime": "31m"})},
            "prehooks": tree({"prehooks": yaml.safe_load(CHIHAYA)["chihaya"]["prehooks"]}).settings.prehooks,
        }
    )
    about = [warning.partition(":")[0] for warning in loaded.warnings]
    assert about == ["chihaya.http", "chihaya.udp.private_key"]


@pytest.mark.parametrize(
    ("hooks", "path"), [([{"name": "jwtt"}], ".0.name"), (["jwt"], ".0.name"), ({"name": "jwt"}, ""), ("jwt", "")]
)
def test_other_hooks_are_refused(hooks: Any, path: str) -> None:
    assert fault({"prehooks": hooks}).path == f"udptracker.prehooks{path}"


def test_no_hooks_are_nothing_to_tell() -> None:
    assert tree({"prehooks": None, "posthooks": [], "http": None}) == Loaded(Settings(), ())


def test_peers_that_expire_before_they_come_back_are_told() -> None:
    expiring = {"storage": {"config": {"peer_lifetime": "16m"}}}
    (warning,) = tree(expiring).warnings
    assert warning.startswith("udptracker.storage.config.peer_lifetime")
    assert not tree(expiring | {"announce_interval": "15m"}).warnings
    assert tree(expiring | {"announce_interval": "16m"}).warnings
    assert tree(expiring | {"announce_interval": "15m", "interval_jitter": "1m"}).warnings
    assert tree(expiring | {"announce_interval": "15m", "interval_jitter": "2m"}).warnings


@pytest.mark.parametrize(
    ("lifetime", "told"), [("5m", "libtorrent"), ("301s", "rTorrent"), ("10m", "rTorrent"), ("601s", "")]
)
def test_peers_of_clients_that_never_come_back_so_soon_are_told_of(lifetime: str, told: str) -> None:
    body = {"announce_interval": "1m", "storage": {"config": {"peer_lifetime": lifetime}}}
    interval, *warnings = tree(body).warnings
    assert interval.startswith("udptracker.announce_interval: shorter than some clients follow")
    assert [told in warning for warning in warnings] == [True] * bool(told)


def test_an_interval_that_all_clients_follow_is_nothing_to_tell() -> None:
    assert tree({"announce_interval": "10m"}).warnings == ()


def test_the_defaults_keep_a_margin() -> None:
    for store in (MemorySettings(), RedisSettings()):
        assert store.peer_lifetime >= Settings().announce_interval + 60


def test_overrides_stand_in_place_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "udptracker.yaml"
    file.write_text("udptracker: {workers: 3, udp: {addr: ':1', max_numwant: 60}, storage: {name: redis}}")
    loaded = load(file, {"udp.addr": [":2"], "workers": 1, "log_level": "debug"}).settings
    assert loaded.udp == UdpSettings.model_validate({"addr": ":2", "max_numwant": 60})
    assert (loaded.workers, loaded.log_level, loaded.storage.name) == (1, "debug", "redis")


def test_overriding_the_store_keeps_what_both_know() -> None:
    memory = {"storage": {"config": {"gc_interval": "1m", "shard_count": 5}}}
    to_redis = {"storage.name": "redis", "storage.config.redis_broker": "redis://h"}
    config = from_tree(memory, "chihaya", {}, to_redis).settings.storage.config
    assert isinstance(config, RedisSettings)
    assert config.gc_interval == 60.0
    redis = {"storage": {"name": "redis", "config": {"redis_broker": "redis://h", "gc_interval": "1m"}}}
    to_memory = from_tree(redis, "chihaya", {}, {"storage.name": "memory"})
    assert to_memory.settings.storage.config == MemorySettings.model_validate({"gc_interval": "1m"})


@pytest.mark.parametrize("body", [{"storage": "redis"}, {"storage": {"config": ["x"]}}])
def test_overrides_hide_no_fault_of_the_file(body: Any) -> None:
    with pytest.raises(ConfigError):
        from_tree(body, "udptracker", {}, {"storage.name": "redis", "storage.config.redis_broker": "redis://h"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "found no mapping, expected one root key, udptracker or chihaya"),
        ("[]", "found no mapping"),
        ("{}", "found no key"),
        ("udptrackr: {}", "found 'udptrackr'"),
        ("udptracker: {}\nchihaya: {}", "found 'udptracker', 'chihaya'"),
        ("udptracker: 5", "udptracker: found no mapping"),
        ("udptracker:\n  udp: {}\n  udp: {}", "the key 'udp' a second time at line 3, column 3"),
        ("udptracker:\n  1: {}", "the key 1, which is no text at line 2, column 3"),
        ("udptracker: {", "expected YAML"),
        ("udptracker: !!timestamp x", "expected YAML"),
        ("udptracker: !!python/object:os.system {}", "expected YAML"),
        ("udptracker:\n  announce_interval: 0x" + "f" * 5000, "found a huge number"),
        ("udptracker: " + "[" * 5000, "expected YAML"),
        ("udptracker: {", "found expected the node content, but found '<stream end>' at line 1, column 14"),
        ("udptracker: [a", "found expected ',' or ']', but got '<stream end>' at line 1, column 15, expected YAML"),
        ("udptracker:\n\tworkers: 1", r"found character '\t' that cannot start any token at line 2, column 1"),
        ("udptracker: \x1b", "found a character that cannot be read at position 12, expected YAML"),
        ("udptracker:\n  workers: !!int x", "found what is no int at line 2, column 12, expected YAML"),
        ("udptracker: &a {x: *a}", "found an alias within what it stands for at line 1, column 13"),
        ("udptracker: {workers: " + "1:" * 10_000 + "1}", "found '1:1:1:"),
        ("#" * 2**18 + "\n", "found more than 262144 bytes"),
        (r'udptracker: {"\e[31m": 1}', r"udptracker.\x1b[31m: found an unknown key"),
        (r'udptracker: {workers: "\e[31m"}', r"found '\x1b[31m'"),
        (r'"\e[31m": 1', r"found '\x1b[31m'"),
    ],
)
def test_a_file_that_is_no_configuration(text: str, told: str) -> None:
    assert told in text_fault(text)


def test_a_merged_mapping_is_no_key_a_second_time() -> None:
    text = "udptracker: {storage: &s {name: memory}, udp: {<<: {max_numwant: 60}, max_numwant: 70}}"
    assert parse(text, {}).settings.udp.max_numwant == 70


@pytest.mark.parametrize("level", ["[{}]", "{{<<: [{}]}}", "{{{}}}"], ids=["lists", "merges", "mappings"])
def test_aliases_that_explode_are_refused(level: str) -> None:
    """Written out it is 9 ** 20 values: nothing may so much as walk over them."""
    text = "udptracker:\n  k0: &a0 {x: 1}\n"
    for n in range(1, 21):
        inner = [f"*a{n - 1}"] * 9
        items = [f"k{i}: {alias}" for i, alias in enumerate(inner)] if level == "{{{}}}" else inner
        text += f"  k{n}: &a{n} {level.format(', '.join(items))}\n"
    assert "aliases that repeat more than 10000 values" in text_fault(text)


def test_an_alias_may_be_used() -> None:
    assert parse(
        "udptracker: {announce_interval: &i 20m, min_announce_interval: *i}", {}
    ).settings == Settings.model_validate({"announce_interval": "20m", "min_announce_interval": "20m"})


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 262144 bytes"):
        load(Path("/dev/zero"))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary()
names = st.sampled_from([name for path, _ in KEYS for name in path.split(".")] + ["http", "prehooks"]) | st.text()
values = st.recursive(
    scalars | st.sampled_from(["1m", "redis", "memory", ":1", "redis://[", "${HOME}", "redis://h:x/", "\u2100@"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
)


@given(values | st.dictionaries(names, values))
def test_any_tree_loads_or_is_refused(body: Any) -> None:
    with contextlib.suppress(ConfigError):
        loaded = parse(yaml.safe_dump({"udptracker": body}), {})
        assert tree(yaml.safe_load(dump(loaded.settings))["udptracker"]).settings.udp.addr == loaded.settings.udp.addr


@given(st.text() | st.binary() | st.text("udptracker: {}[]&*!'\"\n-|>?%@`<0x9").map("udptracker: ".__add__))
def test_any_text_loads_or_is_refused(text: str | bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse(text, {})
