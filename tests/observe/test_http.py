"""The metrics server over real connections."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import struct
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from udptracker.core.counters import Counters
from udptracker.observe.http import MAX_CONNECTIONS, MetricsServer
from udptracker.observe.metrics import exposition

PATIENCE = 10.0
"""Seconds after which a test gives up on what should take a fraction of one."""


def render() -> bytes:
    return exposition({"0": Counters().snapshot()}, 0)


@contextmanager
def serving(host: str = "127.0.0.1", **options: Any) -> Iterator[MetricsServer]:
    defaults: dict[str, Any] = {
        "metrics": render,
        "alive": lambda: True,
        "ready": lambda: (True, "ready"),
    }
    server = MetricsServer(host, 0, **(defaults | options))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(
    server: MetricsServer, path: str, method: str = "GET", host: str = "127.0.0.1"
) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"http://{host}:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def read_to_end(sock: socket.socket) -> bytes:
    """All that comes until the server ends the connection, however it does."""
    received = bytearray()
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionError:
        pass
    return bytes(received)


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
    with serving(metrics=lambda: exposition({"0": counters.snapshot()}, 0)) as server:
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
        ("/", {}, 404, b"not found\n"),
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
    with serving(metrics=lambda: b"x 1\n") as server, connect(server) as sock:
        sock.sendall(b"HEAD /metrics HTTP/1.1\r\n\r\n")
        head, end, body = read_to_end(sock).partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    assert b"Content-Length: 4" in head.splitlines()
    assert (end, body) == (b"\r\n\r\n", b"")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_a_failure_is_for_the_log_and_not_for_the_client(
    path: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Any:
        raise RuntimeError("secret")

    with serving(metrics=fail, alive=fail, ready=fail) as server:
        status, _, body = ask(server, path)
        assert (status, body) == (500, b"internal error\n")
        assert ask(server, "/nothing")[0] == HTTPStatus.NOT_FOUND
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [f"{path} failed"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"",
    ],
    ids=["empty", "no path", "TLS", "endless path", "nothing"],
)
def test_nonsense_ends_quietly(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        with connect(server) as sock:
            sock.sendall(request_bytes)
            sock.shutdown(socket.SHUT_WR)
            answer = read_to_end(sock)
        assert answer == b"" or re.search(rb"\b4\d\d\b", answer)
        assert ask(server, "/healthz")[0] == HTTPStatus.OK
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr().err == ""


def test_a_client_that_resets_is_no_trouble(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "udptracker.observe.http")
    with serving() as server:
        with connect(server) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\n")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        deadline = time.monotonic() + PATIENCE
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.02)
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert capfd.readouterr().err == ""


def test_a_client_that_dribbles_its_request_is_cut_off() -> None:
    with serving(request_timeout=0.5) as server, connect(server) as sock:
        started = time.monotonic()
        sock.sendall(b"GET /metrics HTTP/1.1\r\n")
        sock.settimeout(0.05)
        while time.monotonic() < started + PATIENCE:
            try:
                # Each header comes well before any limit on silence would.
                sock.sendall(b"X-Slow: yes\r\n")
                if sock.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert 0.3 < time.monotonic() - started < PATIENCE / 2


def test_a_client_that_does_not_read_is_cut_off(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    body = bytes(64 << 20)
    with serving(metrics=lambda: body, request_timeout=0.5) as server, connect(server) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + PATIENCE
        while open_connections(server) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert open_connections(server) == 0
        assert len(read_to_end(sock)) < len(body)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr().err == ""


def open_connections(server: MetricsServer) -> int:
    """Established connections to the server's port, as the kernel lists them on the server's side."""
    local = f":{server.port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    established = "01"
    return sum(row[1].endswith(local) and row[3] == established for row in rows)


def test_idle_connections_cannot_use_the_server_up() -> None:
    with serving(request_timeout=2.0) as server, ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(MAX_CONNECTIONS)]
        surplus = stack.enter_context(connect(server))
        assert read_to_end(surplus) == b""
        idle[0].setblocking(False)
        with pytest.raises(BlockingIOError):  # open yet: the surplus one was not cut by its deadline
            idle[0].recv(1)
        idle[0].settimeout(PATIENCE)
        assert all(read_to_end(sock) == b"" for sock in idle)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                assert ask(server, "/healthz")[0] == HTTPStatus.OK
                break
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline


def test_a_scrape_does_not_wait_for_another() -> None:
    with serving() as server, connect(server) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\n")
        started = time.monotonic()
        assert ask(server, "/metrics")[0] == HTTPStatus.OK
        assert time.monotonic() - started < PATIENCE / 2


def test_stop_waits_for_no_client_and_frees_the_port() -> None:
    with serving(request_timeout=60.0) as server, connect(server) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\n")
        ask(server, "/healthz")
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 2.0
        assert read_to_end(silent) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        server.stop()


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    server = MetricsServer("127.0.0.1", 0, metrics=render, alive=lambda: True, ready=lambda: (True, "ready"))
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_taken_port_is_an_error_to_the_caller(host: str) -> None:
    with serving(host) as server, pytest.raises(OSError, match="in use"):
        MetricsServer(host, server.port, metrics=render, alive=lambda: True, ready=lambda: (True, "ready"))


def test_an_address_that_is_not_ours_is_an_error_to_the_caller() -> None:
    with pytest.raises(OSError):
        MetricsServer("192.0.2.1", 0, metrics=render, alive=lambda: True, ready=lambda: (True, "ready"))
