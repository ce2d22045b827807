"""The HTTP server over real connections."""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.observe.serving import (
    PATIENCE,
    REQUEST,
    ask,
    connect,
    read_to_end,
    server_of,
    serving,
    started,
)
from tests.support.waiting import eventually
from udptracker.core.counters import Counters
from udptracker.observe.http import Answer, Chore, HttpServer
from udptracker.observe.metrics import exposition


@pytest.mark.parametrize(("bound", "asked"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")])
def test_metrics_are_what_a_prometheus_server_reads(bound: str, asked: str) -> None:
    with serving(bound) as server:
        status, headers, body = ask(server, "/metrics", host=asked)
    assert status == HTTPStatus.OK
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body)
    families = {family.name for family in text_string_to_metric_families(body.decode())}
    assert "udptracker_requests" in families


def test_each_scrape_is_rendered_anew() -> None:
    counters = Counters()
    with serving(metrics=lambda _: exposition({"0": counters.snapshot()}, 0)) as server:
        assert b"udptracker_sent_bytes_total 0.0" in ask(server, "/metrics")[2]
        counters.bytes_out = 5
        assert b"udptracker_sent_bytes_total 5.0" in ask(server, "/metrics?again")[2]


@pytest.mark.parametrize(
    ("path", "options", "status", "body"),
    [
        ("/healthz", {}, 200, b"alive\n"),
        ("/healthz", {"alive": lambda: False}, 503, b"not alive\n"),
        ("/readyz", {}, 200, b"ready\n"),
        (
            "/readyz",
            {"ready": lambda: (False, "the store does not answer")},
            503,
            b"the store does not answer\n",
        ),
        ("/stats.json", {"stats": lambda: {"requests": 1}}, 200, b'{"requests":1}'),
        ("/status", {}, 404, b"not found\n"),
        ("/metrics/", {}, 404, b"not found\n"),
        ("/metrics/../etc/passwd", {}, 404, b"not found\n"),
    ],
)
def test_health_and_what_is_not_there(path: str, options: dict[str, Any], status: int, body: bytes) -> None:
    with serving(**options) as server:
        assert ask(server, path)[::2] == (status, body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused_by_name(method: str) -> None:
    with serving() as server:
        status, headers, _ = ask(server, "/metrics", method)
    assert status == HTTPStatus.METHOD_NOT_ALLOWED
    assert headers["Allow"] == "GET, HEAD"


def test_head_is_the_answer_to_get_without_its_body() -> None:
    with serving(metrics=lambda _: (b"x 1\n", "text/plain")) as server, connect(server) as sock:
        sock.sendall(REQUEST.replace(b"GET", b"HEAD") + b"\r\n")
        head, end, body = read_to_end(sock).partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    assert b"Content-Length: 4" in head.splitlines()
    assert (end, body) == (b"\r\n\r\n", b"")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_a_failure_is_for_the_log_and_not_for_the_client(
    path: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("secret")

    with serving(metrics=fail, alive=fail, ready=fail) as server:
        status, _, body = ask(server, path)
        assert (status, body) == (500, b"internal server error\n")
        assert ask(server, "/nothing")[0] == HTTPStatus.NOT_FOUND
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [f"{path} failed"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("host", ["", "::"])
def test_all_addresses_are_those_of_both_families(host: str) -> None:
    with serving(host) as server:
        for asked in ("127.0.0.1", "[::1]"):
            assert ask(server, "/healthz", host=asked)[0] == HTTPStatus.OK


def test_openmetrics_and_gzip_for_whoever_accepts_them() -> None:
    with serving() as server:
        _, headers, body = ask(
            server,
            "/metrics",
            Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1",
            **{"Accept-Encoding": "gzip"},
        )
        assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert headers["Content-Encoding"] == "gzip"
        text = gzip.decompress(body).decode()
        read: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families
        assert "udptracker_requests" in {family.name for family in read(text)}
        for refusal in ("identity", "gzip;q=0, identity", "br", "gzip; q=0.00"):
            _, headers, body = ask(server, "/metrics", **{"Accept-Encoding": refusal})
            assert "Content-Encoding" not in headers
            assert b"udptracker_requests_total" in body


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=abc", "text/plain;version=x", ";;=,", "é"])
def test_an_accept_header_of_nonsense_is_answered_in_plain_text(accept: str) -> None:
    with serving() as server:
        status, headers, _ = ask(server, "/metrics", Accept=accept)
    assert (status, headers["Content-Type"]) == (HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8")


def test_a_page_that_waits_holds_up_no_other_and_is_made_once_for_all_who_wait() -> None:
    made, go_on = [], threading.Event()

    def slow(_: str) -> tuple[bytes, str]:
        made.append(1)
        go_on.wait(PATIENCE)
        return b"x 1\n", "text/plain"

    with serving(metrics=slow) as server, ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in range(10)]
        for sock in waiting:
            sock.sendall(REQUEST + b"\r\n")
        eventually(lambda: made, "the page to be asked for")
        assert ask(server, "/healthz")[0] == HTTPStatus.OK
        go_on.set()
        assert all(read_to_end(sock).endswith(b"x 1\n") for sock in waiting)
    assert len(made) <= 2


def test_a_page_that_hangs_does_not_keep_the_server_from_stopping() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hang(_: str) -> tuple[bytes, str]:
        asked.set()
        go_on.wait(PATIENCE)
        return b"", ""

    with serving(metrics=hang) as server, connect(server) as sock:
        sock.sendall(REQUEST + b"\r\n")
        assert asked.wait(PATIENCE)
        server.stop()
        assert read_to_end(sock) == b""
        go_on.set()


def test_chores_are_done_again_and_again_whatever_becomes_of_them(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Semaphore(0)

    def chore() -> None:
        done.release()
        raise RuntimeError

    page = {"/page": lambda _: Answer(HTTPStatus.OK, "text/plain", b"")}
    with started(HttpServer("127.0.0.1", 0, pages=page, chores=(Chore("/page", 0.01, chore),))) as server:
        assert all(done.acquire(timeout=PATIENCE) for _ in range(3))
        assert ask(server, "/page")[0] == HTTPStatus.OK
    assert {record.getMessage() for record in caplog.records} == {"/page failed"}


def test_a_scrape_does_not_wait_for_another() -> None:
    with serving() as server, connect(server) as silent:
        silent.sendall(REQUEST)
        started = time.monotonic()
        assert ask(server, "/metrics")[0] == HTTPStatus.OK
        assert time.monotonic() - started < PATIENCE / 2


def test_stop_waits_for_no_client_and_frees_the_port() -> None:
    with serving(request_timeout=60.0) as server, connect(server) as silent:
        silent.sendall(REQUEST)
        ask(server, "/healthz")
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 2.0
        assert read_to_end(silent) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        server.stop()


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    server = server_of()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_taken_port_is_an_error_to_the_caller(host: str) -> None:
    with serving(host) as server, pytest.raises(OSError, match="in use"):
        server_of(host, server.port)


def test_an_address_that_is_not_ours_is_an_error_to_the_caller() -> None:
    with pytest.raises(OSError):
        server_of("192.0.2.1")
