"""The dashboard and the alerts name what a running daemon exports, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Daemons
from tests.support.servers import StoreServer

CONFIGS = Path(__file__).parents[2] / "configs"
RULES = CONFIGS / "prometheus" / "alerts.yaml"
RULE_TESTS = Path(__file__).parents[1] / "prometheus" / "alerts.yaml"
DASHBOARD = CONFIGS / "grafana" / "udptracker.json"

SELECTOR = re.compile(r"\b((?:udptracker|process|chihaya)_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)="([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds when it scrapes."""


def rules() -> list[dict[str, str]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, str]] = group["rules"]
    return found


def dashboard() -> dict[str, object]:
    found: dict[str, object] = json.loads(DASHBOARD.read_text())
    return found


def expressions() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    board = dashboard()
    panels = board["panels"]
    assert isinstance(panels, list)
    for panel in panels:
        for target in panel.get("targets", []):
            yield target["expr"]
    yield from (re.findall(r'"(?:expr|query)": "((?:label_values|changes)\(.*?)",?$', DASHBOARD.read_text(), re.M))


def test_every_metric_and_label_of_a_panel_or_a_rule_is_exported(daemons: Daemons, valkey: StoreServer) -> None:
    daemon = daemons(valkey.url, arguments=("--workers", "2"))
    daemon.announce(bytes(20), 6881)
    text = daemon.get("/metrics")[1]
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    labels: dict[str, set[str]] = {}
    values: set[tuple[str, str, str]] = set()
    for sample in samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
        values.update((sample.name, *pair) for pair in sample.labels.items())
    for expression in expressions():
        expression = expression.replace('\\"', '"')
        named = SELECTOR.findall(expression)
        for name, matchers in named:
            assert name in labels, f"{name} is not exported: {expression}"
            wanted = [pair for pair in MATCHER.findall(matchers) if pair[0] not in OF_PROMETHEUS]
            assert all((name, *pair) in values for pair in wanted), expression
        grouped = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")}
        known = OF_PROMETHEUS.union(*(labels[name] for name, _ in named))
        assert grouped <= known, expression


def test_the_panels_do_not_overlap_and_have_a_number_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert isinstance(panels, list)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows[1:] == [
        "Traffic",
        "Latency",
        "Refusals and drops",
        "Swarms",
        "Store and stand-in",
        "Reaper",
        "Workers",
        "Nodes",
    ]


def test_every_alert_is_tried_by_the_rule_tests() -> None:
    tried = re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text())
    assert sorted(set(tried)) == sorted(rule["alert"] for rule in rules())


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means(rule: dict[str, object]) -> None:
    assert rule["labels"] in ({"severity": "warning"}, {"severity": "critical"})
    annotations = rule["annotations"]
    assert isinstance(annotations, dict)
    assert set(annotations) == {"summary", "description"}


def test_chihayas_names_come_with_its_root_key(daemons: Daemons) -> None:
    daemon = daemons(config="chihaya: {}")
    text = daemon.get("/metrics")[1]
    names = {family.name for family in text_string_to_metric_families(text) if family.name.startswith("chihaya_")}
    assert names == {
        "chihaya_udp_response_duration_milliseconds",
        "chihaya_storage_infohashes_count",
        "chihaya_storage_seeders_count",
        "chihaya_storage_leechers_count",
        "chihaya_storage_gc_duration_milliseconds",
    }
