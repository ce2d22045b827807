"""The files of configs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.config.support import settings
from udptracker.cli import main
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


@pytest.mark.parametrize("name", ["minimal.yaml", "redis.yaml"])
def test_the_files_to_begin_with_load_and_warn_of_nothing(name: str) -> None:
    assert load(CONFIGS / name).warnings == ()


def test_one_of_them_is_for_redis() -> None:
    assert load(CONFIGS / "redis.yaml").settings.storage.describe() == "Redis at 127.0.0.1:6379, database 0"


def test_chihayas_example_is_that() -> None:
    assert yaml.safe_load((CONFIGS / "chihaya.yaml").read_text()) == {
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
    assert load(CONFIGS / "chihaya.yaml").settings.storage.describe() == "Redis at 127.0.0.1:6379, database 0"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_check_accepts_each_of_them(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path)])
    assert ended.value.code == 0
    warned = "warning" in capsys.readouterr().err
    assert warned == (path.name == "chihaya.yaml")  # of its peer_lifetime, until its announce_interval is uncommented


def test_prometheus_scrapes_the_default_address() -> None:
    (job,) = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [Settings().metrics_addr]}]
