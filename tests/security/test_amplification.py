"""Nobody who has not proven its address is sent more than it sent, and docs/security.md says what is sent to all."""

from __future__ import annotations

from pathlib import Path

from tests.security.amplification import KINDS, measure, table

_DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"


def test_who_is_not_proven_is_sent_no_more_than_it_sent(tmp_path: Path) -> None:
    """Also that the table of the document is what is measured: lengths do not depend on the machine."""
    rows = list(measure(tmp_path))
    assert {(row.name, row.family) for row in rows} == {(kind.name, family) for kind in KINDS for family in (4, 6)}
    assert [row for row in rows if not row.proven and row.received > row.sent] == []
    assert table(rows) in _DOCUMENT.read_text()
