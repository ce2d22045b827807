"""The table of faults, printed at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.ordeal import CONFIG, Row
from tests.conftest import Daemons
from tests.support.daemon import Daemon

Node = Callable[..., Daemon]

ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Where each test puts its row of the table."""
    return request.config.stash.setdefault(ROWS, [])


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """How long to load before and after a fault."""
    return float(request.config.getoption("--chaos-seconds"))


@pytest.fixture
def node(daemons: Daemons) -> Node:
    """Starts a tracker on a store's URL."""

    def start(url: str, *arguments: str) -> Daemon:
        return daemons(
            None, config=CONFIG.format(url=url), hosts=["127.0.0.1"], arguments=arguments or ("--workers", "1")
        )

    return start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.line("| fault | requests | longest silence | slowest answer | errors | peers lost |")
    terminalreporter.line("| --- | ---: | ---: | ---: | --- | ---: |")
    for row in rows:
        terminalreporter.line(
            f"| {row.fault} | {row.requests:,} | {row.longest_silence:.2f} s | {row.slowest_answer:.2f} s "
            f"| {row.errors} | {row.lost} |"
        )
