"""The files of configs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.config.support import settings
from udptracker.config import (
    Loaded,
    MemorySettings,
    RedisSettings,
    Settings,
    UdpSettings,
    load,
)

CONFIGS = Path(__file__).parents[2] / "configs"


def body_of(name: str) -> Any:
    ((_, body),) = yaml.safe_load((CONFIGS / name).read_text()).items()
    return body


def test_the_full_file_is_the_defaults_and_holds_every_key() -> None:
    assert load(CONFIGS / "full.yaml") == Loaded(Settings(), ())
    body = body_of("full.yaml")
    assert set(body) == set(Settings.model_fields)
    assert set(body["udp"]) == set(UdpSettings.model_fields)
    assert set(body["storage"]["config"]) == set(MemorySettings.model_fields)


def test_the_full_redis_file_is_the_defaults_and_holds_every_key() -> None:
    assert load(CONFIGS / "full-redis.yaml") == Loaded(settings(storage={"name": "redis"}), ())
    assert set(body_of("full-redis.yaml")["storage"]["config"]) == set(RedisSettings.model_fields)


def test_the_minimal_file_loads_and_warns_of_nothing() -> None:
    assert load(CONFIGS / "minimal.yaml").warnings == ()


def test_the_redis_file_is_chihayas_example() -> None:
    assert yaml.safe_load((CONFIGS / "redis.yaml").read_text()) == {
        "chihaya": {
            "storage": {
                "name": "redis",
                "config": {
                    "gc_interval": "14m",
                    "prometheus_reporting_interval": "1s",
                    "peer_lifetime": "16m",
                    "redis_broker": "redis://pwd@127.0.0.1:6379/0",
                    "redis_read_timeout": "15s",
                    "redis_write_timeout": "15s",
                    "redis_connect_timeout": "15s",
                },
            }
        }
    }
    assert load(CONFIGS / "redis.yaml").settings.storage.describe() == "Redis at 127.0.0.1:6379, database 0"


def test_prometheus_scrapes_the_default_address() -> None:
    (job,) = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [Settings().metrics_addr]}]
