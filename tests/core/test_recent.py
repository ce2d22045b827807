"""Keys that are remembered for a while, with time as an argument."""

from __future__ import annotations

from udptracker.core.recent import Recent


def test_a_key_is_news_again_after_one_span_or_two() -> None:
    recent = Recent(60, 1000)
    assert recent.is_news(b"other", 0.0)
    assert recent.is_news(b"key", 50.0)
    assert not recent.is_news(b"key", 119.0)
    assert not recent.has(b"new")
    assert recent.has(b"key")
    assert recent.is_news(b"key", 120.0)


def test_a_jump_back_forgets_nothing() -> None:
    recent = Recent(60, 1000)
    assert recent.is_news(b"key", 1000.0)
    assert not recent.is_news(b"key", 0.0)


def test_two_sets_are_all_that_is_kept() -> None:
    recent = Recent(60, 10)
    assert all(recent.is_news(b"%d" % number, 0.0) for number in range(25))
    assert not recent.is_news(b"24", 0.0)
    assert not recent.is_news(b"15", 0.0)
    assert recent.is_news(b"5", 0.0)
