"""The README and its companions say what the code does: tables, commands, links, the unit."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from bench import sizing
from bench.results import Row, table
from tests.support.documents import DOCUMENTS, blocks
from udptracker import __version__, config
from udptracker.cli import COMMANDS
from udptracker.config import MemorySettings, RedisSettings, Settings
from udptracker.observe.metrics import metrics_table
from udptracker.redis.url import parse_broker

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((REPOSITORY / "docs").glob("*.md"))}
CONFIGURATION, COMMAND_LINE, DEPLOYMENT = PAGES["configuration.md"], PAGES["commands.md"], PAGES["deployment.md"]
UNIT = (REPOSITORY / "systemd" / "udptracker.service").read_text()
STORAGE = "storage.config."
OUR_FILES = r"^https://(github.com/udptracker/udptracker/blob|raw.githubusercontent.com/udptracker/udptracker)/main/"
"""The beginning of a link to a file of ours."""


def rows_of(text: str, title: str) -> list[list[str]]:
    """The rows of the table whose first heading is `title`."""
    found = re.search(rf"^\| {re.escape(title)} \|.*\n\|[-:|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"no table of {title}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def dotted(part: BaseModel, above: str = "") -> dict[str, Any]:
    """Every key of some settings with its value, by its path in a file."""
    keys: dict[str, Any] = {}
    for name, value in part:
        keys |= dotted(value, f"{above}{name}.") if isinstance(value, BaseModel) else {f"{above}{name}": value}
    return keys


def documented_defaults() -> dict[str, Any]:
    """Defaults of the configuration table, as a file would have them, by path."""
    return {key.strip("`"): yaml.safe_load(default.strip("`")) for key, default, _ in rows_of(CONFIGURATION, "Key")}


@pytest.mark.parametrize(("name", "part"), [("memory", MemorySettings()), ("redis", RedisSettings())])
def test_the_configuration_table_has_every_key_with_its_default(name: str, part: BaseModel) -> None:
    expected = dotted(Settings()) | {"storage.name": name}
    expected = {path: value for path, value in expected.items() if not path.startswith(STORAGE)}
    expected |= dotted(part, STORAGE)
    tree: dict[str, Any] = {}
    for path, default in (documented_defaults() | {"storage.name": name}).items():
        if path in expected:
            *above, key = path.split(".")
            place = tree
            for step in above:
                place = place.setdefault(step, {})
            place[key] = default
    assert dotted(config.from_tree(tree, "udptracker", {}).settings) == expected
    assert set(documented_defaults()) >= set(expected)


def test_the_configuration_table_has_no_other_key() -> None:
    assert set(documented_defaults()) == {
        *dotted(Settings()),
        *dotted(MemorySettings(), STORAGE),
        *dotted(RedisSettings(), STORAGE),
    }


def test_the_metrics_table_is_that_of_the_code() -> None:
    assert metrics_table() in PAGES["watching.md"]


def test_the_broker_urls_are_understood() -> None:
    urls = [row[0].strip("`").partition("?ssl_ca_certs")[0] for row in rows_of(PAGES["redis.md"], "URL")]
    kinds = [parse_broker(url).kind for url in urls]
    assert kinds == ["single", "single", "single", "unix", "sentinel", "cluster"]


ACTIONS = {"key": [["rotate"]], **{key: [["allow"], ["list"]] for key in ("torrent", "client", "network", "passkey")}}
"""Of commands whose flags are those of an action."""


def help_of(*command: str) -> str:
    run = [sys.executable, "-m", "udptracker", *command, "--help"]
    return subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60).stdout


def test_commands_and_flags_exist() -> None:
    """Each command that is told of, and each flag in its row of the table; test_docs_commands.py has the examples."""
    told: dict[str, set[str]] = {}
    for name, meaning in rows_of(COMMAND_LINE, "Command"):
        command = [*shlex.split(name.strip("`")), "serve"][1]
        told.setdefault(command, set()).update(re.findall(r"--[a-z-]+", meaning))
    (generator,) = re.findall(r"^## The packet generator\n(.*?)(?=^## |\Z)", COMMAND_LINE, re.MULTILINE | re.DOTALL)
    told["load"].update(set(re.findall(r"--[a-z-]+", generator)) - {"--help"})
    assert set(told) == set(COMMANDS)
    for command, flags in told.items():
        helps = [help_of(command, *action) for action in ACTIONS.get(command, [[]])]
        known = set(re.findall(r"--[a-z-]+", "".join(helps)))
        assert flags <= known, f"{command} does not know {flags - known}"


def anchors(text: str) -> set[str]:
    """What GitHub makes of its headings, as the site does (mkdocs.yml)."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(text: str) -> list[str]:
    """Where its links and pictures lead, those by reference and in HTML among them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"\]\(([^)\s]+)\)|<(https?://[^>]+)>|(?:src|srcset|href)=\"([^\"]+)\"", text)
    return [one for found in inline for one in found if one] + re.findall(r"^\[[^]]+\]: (\S+)$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "document", [*sorted(path.name for path in REPOSITORY.glob("*.md")), *(f"docs/{name}" for name in PAGES)]
)
def test_links_lead_somewhere(document: str) -> None:
    """Relative ones, and those to this repository, to a file and a heading that are there; others to a host."""
    path = REPOSITORY / document
    for link in links(path.read_text()):
        place, _, anchor = link.partition("#")
        ours = re.sub(OUR_FILES, "", place)
        if ours == place and "://" in place:
            assert re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?(/\S*)?", place), link
            continue
        target = REPOSITORY / ours if ours != place else path.parent / place if place else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{name}" for name in PAGES)])
def test_references_are_used_and_defined(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    defined = set(re.findall(r"^\[([^]]+)\]: ", text, re.MULTILINE))
    assert set(re.findall(r"\]\[([^]]+)\]", text)) <= defined <= set(re.findall(r"\[([^]]+)\](?!:)", text))


def test_links_lead_to_where_the_project_is() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(REPOSITORY / "setup.cfg")
    assert re.match(OUR_FILES, f"{setup['metadata']['url']}/blob/main/README.md")


def test_links_of_the_readme_hold_wherever_it_is_shown() -> None:
    """On the package index there is nothing beside it."""
    assert [link for link in links(README) if "://" not in link and not link.startswith("#")] == []


@pytest.mark.parametrize("name", PAGES)
def test_pages_link_one_another_by_their_files(name: str) -> None:
    """So that it holds on GitHub and on the site, and what lies outside of docs is linked in full."""
    relative = [link for link in links(PAGES[name]) if "://" not in link]
    assert [link for link in relative if "/" in link] == []
    assert [link for link in links(PAGES[name]) if re.match(OUR_FILES + "docs/", link)] == []


def test_lines_of_the_readme_are_short() -> None:
    """But for tables, code and links."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    assert [line for line in text.splitlines() if len(line) > 120 and line[0] not in "|["] == []


def test_figures_of_the_readme_are_those_of_the_benchmark() -> None:
    rows = json.loads((REPOSITORY / "docs" / "benchmark.json").read_text())["rows"]
    cpu = {row["tracker"]: row["tracker_us"] for row in rows if row["load"] == "mixed"}
    (ours, theirs) = re.findall(
        r"([\d.]+) µs of CPU a request in the mixed\s+load, where opentracker took ([\d.]+)", README
    )[0]
    assert (ours, theirs) == (f"{cpu['memory']:.1f}", f"{cpu['opentracker']:.1f}")


def test_the_readme_counts_the_faults_of_the_chaos_suite() -> None:
    run = [sys.executable, "-m", "pytest", "tests/chaos", "--collect-only", "-q"]
    said = subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60).stdout
    assert re.findall(r"(\d+) faults under", README) == re.findall(r"^(\d+) tests collected", said, re.MULTILINE)


def test_a_peer_on_memory_takes_the_same_everywhere() -> None:
    told = f"{sizing.MEMORY_PEER_BYTES} bytes a peer"
    assert told in README
    assert told in (REPOSITORY / "bench" / "README.md").read_text()


def test_the_benchmark_has_the_rows_of_its_json() -> None:
    rows = json.loads((REPOSITORY / "docs" / "benchmark.json").read_text())["rows"]
    assert table([Row(**row) for row in rows]) in PAGES["benchmark.md"]


def test_the_comparison_has_the_ratios_of_the_benchmark() -> None:
    rows = json.loads((REPOSITORY / "docs" / "benchmark.json").read_text())["rows"]
    ratios = {(row["load"], row["tracker"]): f"{row['ratio']:.2f}" for row in rows}
    trackers = ("memory", "valkey, 1 worker", "aquatic", "chihaya", "opentracker")
    expected = [
        [load, *(ratios[load, tracker] for tracker in trackers)] for load in dict.fromkeys(load for load, _ in ratios)
    ]
    assert rows_of(PAGES["comparison.md"], "Load") == expected


def test_every_alert_is_explained() -> None:
    groups = yaml.safe_load((REPOSITORY / "configs" / "prometheus" / "alerts.yaml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    assert [name.strip("`") for name, _, _ in rows_of(PAGES["watching.md"], "Alert")] == alerts


CONFIGURATIONS = [
    pytest.param(block.code, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(blocks(path))
    if block.language == "yaml" and re.match(r"(udptracker|chihaya):", block.code)
]


@pytest.mark.parametrize("code", CONFIGURATIONS)
def test_every_configuration_that_is_shown_loads(code: str) -> None:
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", code), "secret")
    assert config.parse(code, environment).warnings == ()


def test_the_sizes_are_computed_from_what_was_measured() -> None:
    assert sizing.put_into(PAGES["sizing.md"], sizing.tables()) == PAGES["sizing.md"]
    assert PAGES["sizing.md"].count("<!-- table: ") == len(sizing.tables())


def test_the_site_has_no_page_twice() -> None:
    pages = re.findall(r": (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(set(pages)) == sorted(pages)
    assert set(pages) <= set(PAGES)


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## [{__version__}] - " in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_architecture_names_every_module() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    package = REPOSITORY / "udptracker"
    modules = {path.stem for path in [*package.glob("*.py"), *package.glob("storage/**/*.py")]}
    rooms = {name for row in rows_of(text, "Room") for name in re.findall(r"[a-z_]+", " ".join(row))}
    assert modules - {"__init__", "__main__"} <= rooms


def test_the_unit_starts_the_command_that_setup_installs() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(REPOSITORY / "setup.cfg")
    (script, _) = setup["options.entry_points"]["console_scripts"].strip().split(" = ")
    (start,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    command, *arguments = start.split()
    assert command == f"/opt/udptracker/bin/{script}"
    assert arguments[:2] == ["serve", "--config"]
    assert "sudo python3 -m venv /opt/udptracker" in DEPLOYMENT


def test_the_unit_loads_the_file_that_is_installed() -> None:
    (installed,) = re.findall(r"install -Dm600 configs/minimal.yaml (\S+)", DEPLOYMENT)
    assert f"LoadCredential={Path(installed).name}:{installed}" in UNIT
    name = Path(installed).name
    assert "install -m 0400 -t %t/udptracker %d/*" in UNIT
    assert f"--config %t/udptracker/{name}" in UNIT
