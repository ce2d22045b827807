"""What is served over HTTP: `/` for people, `/stats.json` behind it, `/metrics` for Prometheus, `/healthz` for whether
the process lives, `/readyz` for whether it can serve.

The status page is one file: its style and script are put into it, and its Content-Security-Policy allows these two by
their hashes and nothing else, and only this server to be asked.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from udptracker.core.text import printable
from udptracker.observe.http import TEXT, Answer, Page

STATS: Final = "/stats.json"


def pages(
    *,
    metrics: Callable[[str], tuple[bytes, str]],
    stats: Callable[[], Mapping[str, Any]],
    alive: Callable[[], bool],
    ready: Callable[[], tuple[bool, str]],
) -> Mapping[str, Page]:
    """Pages by path, for an `HttpServer`.

    Args:
        metrics: from an Accept header to the body of `/metrics` and its content type.
        stats: what `/stats.json` says.
        alive: whether `/healthz` says 200 or 503.
        ready: whether `/readyz` says 200 or 503, and the text it says it with.
    """
    return {
        "/": lambda _: status_page(),
        STATS: lambda _: _ok(json.dumps(stats(), separators=(",", ":")).encode(), "application/json"),
        "/metrics": lambda accept: _ok(*metrics(accept)),
        "/healthz": lambda _: _verdict(*((True, "alive") if alive() else (False, "not alive"))),
        "/readyz": lambda _: _verdict(*ready()),
    }


@cache
def status_page() -> Answer:
    """The page with its style and script in it."""
    from importlib.resources import files  # not loaded for who never looks

    folder = files(__package__) / "page"
    page, style, script = ((folder / name).read_text("utf-8") for name in ("index.html", "style.css", "script.js"))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Answer(
        HTTPStatus.OK,
        "text/html; charset=utf-8",
        page.replace("{{style}}", style).replace("{{script}}", script).encode(),
        (("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer")),
    )


def _hash(text: str) -> str:
    """How a Content-Security-Policy names an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _ok(body: bytes, content_type: str) -> Answer:
    return Answer(HTTPStatus.OK, content_type, body)


def _verdict(good: bool, text: str) -> Answer:
    return Answer(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{printable(text)}\n".encode())
