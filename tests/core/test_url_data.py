"""The options behind an announce (BEP 41), which carry the path and query of the URL announced to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udptracker.core import wire


@pytest.mark.parametrize(
    ("options", "path", "query"),
    [
        (b"", "", ""),
        (b"\x00", "", ""),
        (b"\x02\x09/announce\x00", "/announce", ""),
        (b"\x02\x09/announce", "/announce", ""),
        (b"\x02\x0d/announce?a=b\x00", "/announce", "a=b"),
        (b"\x02\x04/a?b\x02\x02=c\x00", "/a", "b=c"),
        (b"\x01\x01\x02\x02/a\x01\x02\x01b\x01\x00", "/ab", ""),
        (b"\x02\x02/a\x00\x02\x02/b", "/a", ""),
        (b"\x02\x00\x02\x02/a\x00", "/a", ""),
        (b"\x02\x04/a??\x00", "/a", "?"),
    ],
    ids=[
        "none",
        "end only",
        "one chunk",
        "no end",
        "with query",
        "chunks joined",
        "NOPs between",
        "nothing after the end",
        "an empty chunk",
        "a question mark in the query",
    ],
)
def test_url_data(options: bytes, path: str, query: str) -> None:
    url = wire.url_data(options)
    assert (url.path, url.query) == (path, query)


@pytest.mark.parametrize("kind", [3, 0x7F, 0xFF])
def test_an_unknown_option_is_skipped_by_its_length(kind: int) -> None:
    unknown = bytes((kind, 3)) + b"\x02\x01x"
    assert wire.url_data(b"\x02\x02/a" + unknown + b"\x02\x02/b\x00").path == "/a/b"


@pytest.mark.parametrize("tail", [b"\x02", b"\x02\x01", b"\x02\x05abcd", b"\x7f", b"\x7f\x02x"])
def test_a_truncated_option_ends_the_options(tail: bytes) -> None:
    assert wire.url_data(b"\x02\x02/a" + tail).path == "/a"


@given(
    st.text("abcXYZ019-._~%/=&+", max_size=700).map(lambda path: "/" + path.lstrip("/")),
    st.text("abcXYZ019-._~%/=&+?", max_size=700),
)
def test_round_trip_in_chunks_of_at_most_255_bytes(path: str, query: str) -> None:
    options = wire.encode_url_data(f"udp://tracker.example:6969{path}?{query}")
    url = wire.url_data(options)
    assert (url.path, url.query) == (path, query)
    at = 0
    while options[at]:
        assert options[at] == 2
        at += 2 + options[at + 1]
    assert at == len(options) - 1


def test_every_cut_of_a_long_option_list_gives_a_prefix() -> None:
    options = wire.encode_url_data("udp://tracker.example:6969/" + "x" * 600)
    whole = wire.url_data(options).path
    for size in range(len(options)):
        assert whole.startswith(wire.url_data(options[:size]).path)
