"""What a file may say and what it comes to."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.config.support import fault, settings
from udptracker.config import (
    Fault,
    Loaded,
    RedisSettings,
    Settings,
    from_tree,
    parse,
)


def test_an_empty_part_has_its_defaults() -> None:
    assert parse("udptracker:", {}) == Loaded(Settings(), ())
    assert parse("chihaya:\n  udp:\n  storage:\n    config:\n", {}).settings == Settings(chihaya_metrics=True)


def test_chihayas_metrics_come_with_its_root_key_unless_they_are_off() -> None:
    assert not parse("udptracker:", {}).settings.chihaya_metrics
    assert parse("udptracker: {chihaya_metrics: true}", {}).settings.chihaya_metrics
    assert not parse("chihaya: {chihaya_metrics: false}", {}).settings.chihaya_metrics


def test_an_empty_file_for_redis_has_the_defaults_of_redis() -> None:
    assert settings(storage={"name": "redis"}).storage.config == RedisSettings()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("14m", 840), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), ("90s", 90), ("1m0.5s", 60.5), ("8760h", 31536000)],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert settings(storage={"config": {"gc_interval": text}}).storage.config.gc_interval == seconds


@pytest.mark.parametrize("zero", [0, 0.0, "0", "0s"])
def test_only_zero_needs_no_unit(zero: Any) -> None:
    assert settings(interval_jitter=zero).interval_jitter == 0.0


@pytest.mark.parametrize(
    "value", [30, 1.5, "30", "", "5mm", "1d", "1h 30m", "1.2.3s", "-5s", "8761h", "m", True, "1e3s"]
)
def test_what_is_no_duration_of_gos_is_refused(value: Any) -> None:
    assert fault({"interval_jitter": value}) == Fault(
        "udptracker.interval_jitter", repr(value), "a duration from 0 to 8760h, such as 14m, 1h30m or 500ms"
    )


@pytest.mark.parametrize(
    ("addr", "endpoints"),
    [
        ("127.0.0.1:6969", [("127.0.0.1", 6969)]),
        (["127.0.0.1:1", "[::1]:2"], [("127.0.0.1", 1), ("::1", 2)]),
        (":6969", [("0.0.0.0", 6969), ("::", 6969)]),
        ("[::ffff:127.0.0.1]:6969", [("127.0.0.1", 6969)]),
    ],
)
def test_addresses(addr: Any, endpoints: list[tuple[str, int]]) -> None:
    assert [address[:2] for address in settings(udp={"addr": addr}).udp.addresses()] == endpoints


@pytest.mark.parametrize(
    ("udp", "both"),
    [
        ({"addr": "[::]:6969"}, [True]),
        ({"addr": "[0::0]:6969"}, [True]),
        ({"addr": "[::]:6969", "ipv6_only": True}, [False]),
        ({"addr": ["[::]:6969", "127.0.0.1:6969"]}, [False, False]),
        ({"addr": ["[::]:6969", "127.0.0.1:6970"]}, [True, False]),
        ({"addr": "[::1]:6969"}, [False]),
        ({"addr": ":6969"}, [False, False]),
        ({}, [False, False]),
    ],
)
@pytest.mark.parametrize("root", ["udptracker", "chihaya"])
def test_the_ipv6_wildcard_is_for_both_families_unless_told_otherwise(
    udp: dict[str, Any], both: list[bool], root: str
) -> None:
    addresses = from_tree({"udp": udp}, root, {}).settings.udp.addresses()
    assert [address.both_families for address in addresses] == both


@pytest.mark.parametrize(
    ("udp", "named"),
    [
        ({}, [False, False]),
        ({"addr": ":6969"}, [False, False]),
        ({"addr": ["0.0.0.0:6969", "[::]:6969"]}, [True, True]),
    ],
)
def test_named_is_what_stands_in_the_file(udp: dict[str, Any], named: list[bool]) -> None:
    assert [address.named for address in settings(udp=udp).udp.addresses()] == named


@pytest.mark.parametrize(
    "addr", ["6969", "127.0.0.1", "::1:6969", "1.2.3.4:65536", "1.2.3.4:", "[::1]", "[1.2.3.4]:1", "[:]:1", "a b:1", ""]
)
def test_what_is_no_address_is_refused(addr: str) -> None:
    assert fault({"udp": {"addr": addr}}).path == "udptracker.udp.addr"
    assert fault({"udp": {"addr": [":1", addr]}}).path == "udptracker.udp.addr.1"


def test_no_address_at_all_is_refused() -> None:
    assert str(fault({"udp": {"addr": []}})) == "udptracker.udp.addr: found a list, expected at least one"


def test_private_keys() -> None:
    def keys(value: Any) -> list[str]:
        return [key.get_secret_value() for key in settings(udp={"private_key": value}).udp.private_key]

    assert keys("one") == ["one"]
    assert keys(["new", "old"]) == ["new", "old"]
    assert keys("") == keys([]) == []
    assert fault({"udp": {"private_key": ["new", ""]}}).path == "udptracker.udp.private_key.1"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [("off", None), ("''", None), ("'off'", None), ("127.0.0.1:1", ("127.0.0.1", 1)), (":1", ("", 1))],
)
def test_metrics_address(text: str, endpoint: tuple[str, int] | None) -> None:
    assert parse(f"udptracker:\n  metrics_addr: {text}", {}).settings.metrics_endpoint() == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "redis://pwd@127.0.0.1:6379/0",
        "rediss://user:pwd@redis.example:6380/1",
        "unix:///run/redis/redis.sock",
        "redis-socket://pwd@/run/redis/redis.sock?db=0",
        "redis+sentinel://a:26379,b:26379/service/0",
        "rediss+sentinel://a/service",
        "redis+cluster://a:1,b:2",
        "rediss+cluster://[::1]:6379",
    ],
)
def test_every_way_to_redis(url: str) -> None:
    config = settings(storage={"name": "redis", "config": {"redis_broker": url}}).storage.config
    assert isinstance(config, RedisSettings)
    assert config.redis_broker.get_secret_value() == url


def test_workers_follow_the_store() -> None:
    assert settings().worker_count() == 1
    assert settings(storage={"name": "redis"}).worker_count() >= 1
    assert settings(storage={"name": "redis"}, workers=3).worker_count() == 3
    assert settings(workers=2).worker_count() == 2


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        settings().udp.max_numwant = 1
