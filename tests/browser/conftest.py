"""Chromium for these tests, which the README's test command does not run: `python -m pytest tests/browser`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, browser


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="where to save pictures of the status page")


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One tab for the whole run."""
    with browser(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def page(tab: Browser) -> Browser:
    """The tab, as it comes: empty, light, as wide as a desk."""
    tab.look()
    tab.open("about:blank")
    tab.events.clear()
    return tab


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go."""
    chosen: Path = request.config.getoption("--pictures") or tmp_path
    chosen.mkdir(exist_ok=True)
    return chosen
