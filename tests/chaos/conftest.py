"""The table of faults, printed at the end of the run."""

from __future__ import annotations

import pytest

from tests.chaos.ordeal import Row

ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Where each test puts its row of the table."""
    return request.config.stash.setdefault(ROWS, [])


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """How long to load before and after a fault."""
    return float(request.config.getoption("--chaos-seconds"))


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
