"""What is served over HTTP: `/metrics` for Prometheus, `/healthz` for whether the process lives, `/readyz` for whether
it can serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from udptracker.observe.http import TEXT, Answer, Page


def pages(
    *,
    metrics: Callable[[str], tuple[bytes, str]],
    alive: Callable[[], bool],
    ready: Callable[[], tuple[bool, str]],
) -> Mapping[str, Page]:
    """Pages by path, for an `HttpServer`.

    Args:
        metrics: from an Accept header to the body of `/metrics` and its content type.
        alive: whether `/healthz` says 200 or 503.
        ready: whether `/readyz` says 200 or 503, and the text it says it with.
    """
    return {
        "/metrics": lambda accept: _ok(*metrics(accept)),
        "/healthz": lambda _: _verdict(*((True, "alive") if alive() else (False, "not alive"))),
        "/readyz": lambda _: _verdict(*ready()),
    }


def _ok(body: bytes, content_type: str) -> Answer:
    return Answer(HTTPStatus.OK, content_type, body)


def _verdict(good: bool, text: str) -> Answer:
    return Answer(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{text}\n".encode())
