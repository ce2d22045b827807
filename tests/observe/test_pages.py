"""The status page as a file: complete in itself, and tied to its policy."""

from __future__ import annotations

import base64
import hashlib
import re

from udptracker.observe.pages import pages, status_page


def test_the_page_asks_no_other_host_and_its_policy_knows_its_texts() -> None:
    page = status_page()
    html = page.body.decode()
    policy = dict(page.headers)["Content-Security-Policy"]
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "{{" not in html
    assert set(re.findall(r"https?://[^\s'\"/]+", html)) == {"http://www.w3.org"}, "the name of SVG, which nobody asks"


def test_nothing_that_was_heard_can_become_markup() -> None:
    html = status_page().body.decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", html)
    assert not re.search(r"\son[a-z]+=|\sstyle=", html), "which the policy would refuse"


def test_a_stores_words_reach_no_terminal_raw() -> None:
    """An operator asks with curl."""
    words = "it says \x1b]0;owned\x07\nand \x9b2J"
    site = pages(
        metrics=lambda _: (b"", ""), stats=lambda: {"word": words}, alive=lambda: True, ready=lambda: (False, words)
    )
    assert site["/readyz"]("").body == rb"it says \x1b]0;owned\x07\nand \x9b2J" + b"\n"
    assert site["/stats.json"]("").body.decode().isprintable()
