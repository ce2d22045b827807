"""The README and its companions say what the code does: tables, commands, links, the unit."""

from __future__ import annotations

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

from udptracker import __version__, config
from udptracker.cli import COMMANDS
from udptracker.config import MemorySettings, RedisSettings, Settings
from udptracker.observe.metrics import metrics_table
from udptracker.redis.url import parse_broker

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
UNIT = (REPOSITORY / "systemd" / "udptracker.service").read_text()
DOCUMENTS = ("README.md", "CHANGELOG.md", "docs/architecture.md")
STORAGE = "storage.config."


def table(text: str, title: str) -> list[list[str]]:
    """The rows of the table whose first heading is `title`."""
    found = re.search(rf"^\| {re.escape(title)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"no table of {title}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def code_lines() -> list[str]:
    """Every line of the README's shell blocks that runs our command, without the path to it."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line.removeprefix(".venv/bin/") for line in lines if line.startswith(".venv/bin/udptracker")]


def dotted(part: BaseModel, above: str = "") -> dict[str, Any]:
    """Every key of some settings with its value, by its path in a file."""
    keys: dict[str, Any] = {}
    for name, value in part:
        keys |= dotted(value, f"{above}{name}.") if isinstance(value, BaseModel) else {f"{above}{name}": value}
    return keys


def documented_defaults() -> dict[str, Any]:
    """Defaults of the README's configuration table, as a file would have them, by path."""
    return {key.strip("`"): yaml.safe_load(default.strip("`")) for key, default, _ in table(README, "Key")}


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
    assert metrics_table() in README


def test_the_broker_urls_are_understood() -> None:
    urls = [row[0].strip("`").partition("?ssl_ca_certs")[0] for row in table(README, "URL")]
    kinds = [parse_broker(url).kind for url in urls]
    assert kinds == ["single", "single", "single", "unix", "sentinel", "cluster"]


def test_the_example_configuration_loads() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    loaded = config.parse(text, {"TRACKER_KEY": "secret"})
    assert loaded.settings.storage.name == "redis"
    assert loaded.warnings == ()


def help_of(*command: str) -> str:
    run = [sys.executable, "-m", "udptracker", *command, "--help"]
    return subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60).stdout


def test_commands_and_flags_exist() -> None:
    """Each command that is told of, and each flag in its row of the table or in an example of it."""
    told: dict[str, set[str]] = {}
    for name, meaning in table(README, "Command"):
        command = [*shlex.split(name.strip("`")), "serve"][1]
        told.setdefault(command, set()).update(re.findall(r"--[a-z-]+", meaning))
    for line in code_lines():
        words = shlex.split(line, comments=True)[1:]
        command = "serve" if not words or words[0].startswith("-") else words[0]
        told[command].update(word for word in words if word.startswith("--"))
    (generator,) = re.findall(r"^### The packet generator\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    told["load"].update(set(re.findall(r"--[a-z-]+", generator)) - {"--help"})
    assert set(told) == set(COMMANDS)
    for command, flags in told.items():
        known = set(re.findall(r"--[a-z-]+", help_of(*(["key", "rotate"] if command == "key" else [command]))))
        assert flags <= known, f"{command} does not know {flags - known}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = REPOSITORY / document
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## [{__version__}] - " in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_architecture_names_every_module() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    package = REPOSITORY / "udptracker"
    modules = {path.stem for path in [*package.glob("*.py"), *package.glob("storage/**/*.py")]}
    rooms = {name for row in table(text, "Room") for name in re.findall(r"[a-z_]+", " ".join(row))}
    assert modules - {"__init__", "__main__"} <= rooms


def test_the_unit_starts_the_command_that_setup_installs() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(REPOSITORY / "setup.cfg")
    (script, _) = setup["options.entry_points"]["console_scripts"].strip().split(" = ")
    (start,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    command, *arguments = start.split()
    assert command == f"/opt/udptracker/bin/{script}"
    assert arguments[:2] == ["serve", "--config"]
    assert "sudo python3 -m venv /opt/udptracker" in README


def test_the_unit_loads_the_file_that_the_readme_installs() -> None:
    (installed,) = re.findall(r"install -Dm600 configs/minimal.yaml (\S+)", README)
    assert f"LoadCredential={Path(installed).name}:{installed}" in UNIT
    name = Path(installed).name
    assert f"${{CREDENTIALS_DIRECTORY}}/{name} ${{RUNTIME_DIRECTORY}}/{name}" in UNIT
    assert f"--config ${{RUNTIME_DIRECTORY}}/{name}" in UNIT
