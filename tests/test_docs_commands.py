"""Commands of README and docs do what is said, on real servers; those that cannot be run here are well-formed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Daemons, StoreServers
from tests.support.documents import DOCUMENTS, REPOSITORY, Stage, arguments_of, blocks, shell_blocks
from tests.support.waiting import eventually
from udptracker.cli import parser

README: Final = REPOSITORY / "README.md"
OTHER_SHELLS: Final = {"bash", "console", "shell"}
"""Languages under which commands would not be found."""

EXCUSES: Final = ("takes ", "installs ", "changes settings of ", "is what ")
"""How a reason not to run a block begins: it takes root, systemd or long; it installs; CI itself runs it."""


@pytest.fixture
def stage(tmp_path: Path, store_servers: StoreServers, daemons: Daemons) -> Iterator[Stage]:
    """One of a test's own."""
    with Stage(tmp_path, store_servers(), daemons("memory")) as stage:
        yield stage


def names(documents: list[Path]) -> list[str]:
    return [str(document.relative_to(REPOSITORY)) for document in documents]


RUN: Final = [document for document in DOCUMENTS if document != README and any(shell_blocks(document))]


@pytest.mark.parametrize("document", RUN, ids=names(RUN))
def test_commands_run(document: Path, stage: Stage) -> None:
    for block, configuration in shell_blocks(document):
        if configuration:
            stage.write_configuration(configuration)
        for line in block.lines:
            stage.run(line)


def test_the_readme_kills_redis_and_loses_nobody(stage: Stage) -> None:
    *demo, (earnest, configuration) = shell_blocks(README)
    (nodes, announces, again) = (block.lines for block, _ in demo)
    for line in nodes:
        stage.run(line)
    *_, seeder, leecher, kill, another = announces
    stage.run(announces[0])
    assert _row(stage.run(seeder)) == ["1800 s", "1", "0", "127.0.0.1:1111"]
    assert _row(stage.run(leecher)) == ["1800 s", "1", "1", "127.0.0.1:1111"]
    stage.run(kill)
    assert "127.0.0.1:1111" in stage.run(another)
    server, *scrapes, end = again
    stage.run(server)
    for scrape in scrapes:
        eventually(partial(_counts, stage, scrape, ["1", "2", "0"]), "all three to be known")
    stage.run(end)
    stage.write_configuration(configuration)
    for line in earnest.lines:
        stage.run(line)


def _counts(stage: Stage, scrape: str, expected: list[str]) -> bool:
    return _row(stage.run(scrape))[1:] == expected


def _row(said: str) -> list[str]:
    """The cells of the first row of the last table that was printed."""
    rows = [line for line in said.splitlines() if line.startswith("│")]
    assert rows, said
    return [cell.strip() for cell in rows[0].strip("│").split("│")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(list(DOCUMENTS)))
def test_what_is_not_run_has_a_reason_and_is_well_formed(document: Path) -> None:
    for block in blocks(document):
        assert block.language not in OTHER_SHELLS
        assert block.language == "sh" or not re.search(r"^(\$|sudo|udptracker|python3?|pip) ", block.code, re.MULTILINE)
        if not block.excuse:
            continue
        assert block.language == "sh"
        assert block.excuse.startswith(EXCUSES)
        for command in (part.strip() for line in block.lines for part in line.split("&&")):
            given = arguments_of(command.removeprefix("sudo "))
            if given is not None:
                parser().parse_args(given or ["serve"])
            if module := re.search(r"(?:^|/)python3? -m ([\w.]+)(.*)", command):
                assert importlib.util.find_spec(module[1])
                if module[1] == "bench":
                    assert set(re.findall(r"--[a-z]+", module[2])) <= _flags_of_the_benchmark()


def _flags_of_the_benchmark() -> set[str]:
    run = [sys.executable, "-m", "bench", "--help"]
    said = subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60).stdout
    return set(re.findall(r"--[a-z]+", said))
