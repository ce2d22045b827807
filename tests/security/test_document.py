"""docs/security.md names tests that exist, and each threat and each bound has one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_REPOSITORY: Final = Path(__file__).parents[2]
_TEXT: Final = (_REPOSITORY / "docs" / "security.md").read_text()
_NAMED: Final = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def test_the_tests_that_it_names_exist() -> None:
    named = _NAMED.findall(_TEXT)
    assert len(named) > 40
    for path, name in named:
        assert re.search(rf"^ *(async )?def {name}\(", (_REPOSITORY / path).read_text(), re.MULTILINE), (path, name)


def test_each_threat_and_each_bound_names_one() -> None:
    for heading in ("| Threat |", "| What is kept |"):
        (rows,) = re.findall(rf"^{re.escape(heading)}.*\n\|[-|]+\n((?:\|.*\n)+)", _TEXT, re.MULTILINE)
        for row in rows.splitlines():
            assert _NAMED.search(row), row
