"""The README as a reader sees it: rendered, with all of its pictures. `--pictures docs` makes docs/readme.png anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from markdown import markdown
from PIL import Image

from tests.support.browser import Browser
from tests.support.documents import REPOSITORY

_OURS: Final = r"https://raw\.githubusercontent\.com/udptracker/udptracker/main/"
_MOST_BYTES: Final = 400_000
_WIDTH: Final = 1000
_HEIGHT: Final = 1000
_COLOURS: Final = 200

_STYLE: Final = """
body { max-width: 880px; margin: 24px auto; padding: 0 24px; font: 16px/1.5 'DejaVu Sans', sans-serif; color: #1f2328; }
h1, h2 { border-bottom: 1px solid #d1d9e0; padding-bottom: 6px; }
a { color: #0969da; text-decoration: none; }
code { font: 85% 'DejaVu Sans Mono', monospace; background: #eff1f3; padding: 2px 5px; border-radius: 5px; }
pre { background: #f6f8fa; padding: 14px; border-radius: 6px; overflow: auto; }
pre code { background: none; padding: 0; }
img { max-width: 100%; }
table { border-collapse: collapse; }
td, th { border: 1px solid #d1d9e0; padding: 6px 12px; text-align: left; }
"""
"""Much as the sites look on which it is read."""


def test_the_readme_is_whole(page: Browser, tmp_path: Path, pictures: Path) -> None:
    """Its first screen says what it is and shows the chart; all of its pictures are there, and no link is left raw."""
    text = (REPOSITORY / "README.md").read_text()
    html = re.sub(_OURS, f"{REPOSITORY.as_uri()}/", markdown(text, extensions=["tables", "fenced_code", "sane_lists"]))
    file = tmp_path / "readme.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><title>README</title><style>{_STYLE}</style>{html}")
    page.look(width=_WIDTH, height=_HEIGHT)
    page.open(file.as_uri())
    assert page.evaluate("document.images.length") == len(re.findall(r"!\[", text))
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.querySelector('img').getBoundingClientRect().bottom") < _HEIGHT
    assert page.evaluate("document.documentElement.scrollWidth") <= _WIDTH
    assert "](" not in (said := page.text("body"))
    assert "][" not in said
    picture = pictures / "readme.png"
    page.picture(picture)
    with Image.open(picture) as taken:
        taken.quantize(_COLOURS).save(picture, optimize=True)
    assert picture.stat().st_size < _MOST_BYTES
