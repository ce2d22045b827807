"""How long to soak, and the curves at the end. By hand: `python -m pytest tests/soak --soak-seconds 3600`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.soak import Outcome

OUTCOMES = pytest.StashKey[list[Outcome]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-seconds", type=float, default=60.0, help="how long each store is under load")
    parser.addoption("--soak-rate", type=int, default=5000, help="requests a second")
    parser.addoption("--soak-report", type=Path, help="where to write the curves, as JSON, a file for each store")


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    """Where each test puts what came of it."""
    return request.config.stash.setdefault(OUTCOMES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.stash.get(OUTCOMES, [])
    if not outcomes:
        return
    terminalreporter.section("soak")
    terminalreporter.line("| store | seconds | requests/s | lost | | MiB | files | threads | tasks | p99 |")
    terminalreporter.line("| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for outcome in outcomes:
        load = f"{outcome.store} | {outcome.seconds:.0f} | {outcome.rate:,.0f} | {outcome.lost:,}"
        for name, state in (("at the mark", outcome.mark), ("at the end", outcome.end)):
            held = f"{state.resident / 2**20:.1f} | {state.files:.0f} | {state.threads:.0f} | {state.tasks:.0f}"
            terminalreporter.line(f"| {load} | {name} | {held} | {state.p99 * 1000:.1f} ms |")
