"""What is packed, and how: the parts of compose.yaml fit together, and versions and targets are written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from udptracker import __version__, config

REPOSITORY: Final = Path(__file__).parents[1]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]


def test_the_deb_is_of_this_version() -> None:
    first = (REPOSITORY / "packaging" / "debian" / "changelog").read_text().splitlines()[0]
    assert first.startswith(f"udptracker ({__version__}-")


def test_contributors_are_told_of_targets_that_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    (checks,) = re.findall(r"^CHECKS = (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    told = (REPOSITORY / "CONTRIBUTING.md").read_text()
    rows = set(re.findall(r"^\| `([a-z]+)` \|", told, re.MULTILINE))
    (ci,) = re.findall(r"^ci: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(ci.split()) <= rows <= targets
    assert set(checks.split()) <= targets
    assert all(f"`{check}`" in told for check in checks.split())
    hooks = re.findall(r"entry: make -s ([a-z-]+)", (REPOSITORY / ".pre-commit-config.yaml").read_text())
    assert set(hooks) <= targets


def test_every_image_of_compose_has_a_version_and_every_mount_a_source() -> None:
    for name, service in SERVICES.items():
        assert "build" in service or re.fullmatch(r"docker\.io/[a-z/]+:v?\d[\d.]+", service["image"]), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (REPOSITORY / source).exists(), volume
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"]), name
        assert set(service.get("depends_on", [])) <= set(SERVICES), name


def test_no_two_services_publish_one_port() -> None:
    published = [port.rpartition(":")[0] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(set(published)) == len(published)


def test_the_nodes_configuration_is_accepted_and_names_the_sentinels() -> None:
    loaded = config.load(REPOSITORY / mounted("tracker-1", "/etc/udptracker/udptracker.yaml"))
    assert loaded.warnings == ()
    broker = str(yaml.safe_load((REPOSITORY / "packaging/compose/udptracker.yaml").read_text()))
    assert set(re.findall(r"sentinel-\d", broker)) == {name for name in SERVICES if name.startswith("sentinel-")}


def test_prometheus_asks_every_node_and_has_our_alerts() -> None:
    said = yaml.safe_load((REPOSITORY / mounted("prometheus", "/etc/prometheus/prometheus.yml")).read_text())
    (job,) = said["scrape_configs"]
    (targets,) = job["static_configs"]
    assert set(targets["targets"]) == {f"{name}:6880" for name in SERVICES if name.startswith("tracker-")}
    rules = REPOSITORY / mounted("prometheus", "/etc/prometheus/prometheus")
    assert [(rules.parent / name).exists() for name in said["rule_files"]] == [True]


def test_grafana_has_our_dashboard() -> None:
    said = yaml.safe_load((REPOSITORY / "packaging/compose/grafana/dashboards.yaml").read_text())
    (provider,) = said["providers"]
    dashboards = REPOSITORY / mounted("grafana", provider["options"]["path"])
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (dashboards / Path(home).name).exists()


def mounted(service: str, place: str) -> str:
    """What is mounted at a place of a service, by its path in the repository."""
    (source,) = [
        volume.split(":")[0] for volume in SERVICES[service]["volumes"] if volume.split(":")[1].rstrip("/") == place
    ]
    assert isinstance(source, str)
    return source
