"""The HTTP server over real connections."""

from __future__ import annotations

import gzip
import logging
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import eventually, free_port
from udptracker.core.counters import Counters
from udptracker.observe.http import MAX_CONNECTIONS, Answer, Chore, HttpServer
from udptracker.observe.metrics import exposition
from udptracker.observe.pages import pages

REPOSITORY = Path(__file__).parents[2]

PATIENCE = 60.0
"""Seconds after which a test gives up on what should take a fraction of one."""


REQUEST = b"GET /metrics HTTP/1.1\r\nHost: tracker\r\n"
"""A request that wants its empty line."""


def render(accept: str = "") -> tuple[bytes, str]:
    return exposition({"0": Counters().snapshot()}, 0, accept)


def server_of(host: str = "127.0.0.1", port: int = 0, *, request_timeout: float = 10.0, **made: Any) -> HttpServer:
    """A server of the daemon's pages, some of them made otherwise."""
    sources: dict[str, Any] = {
        "metrics": render,
        "stats": dict,
        "alive": lambda: True,
        "ready": lambda: (True, "ready"),
    }
    return HttpServer(host, port, pages=pages(**(sources | made)), request_timeout=request_timeout)


@contextmanager
def serving(*given: Any, **options: Any) -> Iterator[HttpServer]:
    with started(server_of(*given, **options)) as server:
        yield server


@contextmanager
def started(server: HttpServer) -> Iterator[HttpServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(
    server: HttpServer, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"http://{host}:{server.port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def connect(server: HttpServer) -> socket.socket:
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
    with serving() as server:
        for sent in (b"", REQUEST, *[REQUEST.replace(b"metrics", b"healthz") + b"\r\n"] * 200):
            with connect(server) as sock:
                sock.sendall(sent)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        eventually(lambda: not open_connections(server), "the connections to be gone")
        assert ask(server, "/healthz")[0] == HTTPStatus.OK
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr().err == ""


def test_a_client_that_dribbles_its_request_is_cut_off() -> None:
    with serving(request_timeout=0.5) as server, connect(server) as sock:
        started = time.monotonic()
        sock.sendall(REQUEST)
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
    with serving(metrics=lambda _: (body, "text/plain"), request_timeout=0.5) as server, connect(server) as sock:
        sock.sendall(REQUEST + b"\r\n")
        deadline = time.monotonic() + PATIENCE
        while open_connections(server) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert open_connections(server) == 0
        assert len(read_to_end(sock)) < len(body)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr().err == ""


def open_connections(server: HttpServer) -> int:
    """Established connections to the server's port, as the kernel lists them on the server's side."""
    local = f":{server.port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    established = "01"
    return sum(row[1].endswith(local) and row[3] == established for row in rows)


def half_open(server: HttpServer) -> socket.socket:
    """A client that has sent all it will ever send, and half a request."""
    sock = connect(server)
    sock.sendall(REQUEST)
    sock.shutdown(socket.SHUT_WR)
    return sock


def slow_request(server: HttpServer) -> socket.socket:
    sock = connect(server)
    sock.sendall(REQUEST)
    return sock


def slow_reader(server: HttpServer) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(REQUEST + b"\r\n")
    return sock


@pytest.mark.parametrize("hold", [connect, slow_request, half_open, slow_reader])
def test_connections_that_are_held_keep_nobody_from_being_answered(hold: Any) -> None:
    body = bytes(1 << 20)
    with (
        serving(metrics=lambda _: (body, "text/plain"), request_timeout=600.0) as server,
        ExitStack() as stack,
    ):
        held = [stack.enter_context(hold(server)) for _ in range(3 * MAX_CONNECTIONS)]
        assert ask(server, "/healthz")[0] == HTTPStatus.OK, "long before any of them is cut"
        assert open_connections(server) <= MAX_CONNECTIONS
        assert read_to_end(held[0]) != body


def test_room_is_made_by_the_oldest_of_whoever_holds_most() -> None:
    with serving(request_timeout=600.0) as server, ExitStack() as stack:
        other = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE, ("127.0.0.2", 0)))
        crowd = [stack.enter_context(connect(server)) for _ in range(MAX_CONNECTIONS + 4)]
        assert [read_to_end(sock) for sock in crowd[:5]] == [b""] * 5
        for sock in (other, *crowd[5:]):
            sock.sendall(REQUEST.replace(b"metrics", b"healthz") + b"\r\n")
            assert read_to_end(sock).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_ends_its_side_after_the_request_is_answered() -> None:
    with serving() as server, connect(server) as sock:
        sock.sendall(REQUEST + b"\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock).startswith(b"HTTP/1.1 200 ")


def test_a_body_or_another_request_spoils_no_answer() -> None:
    with serving() as server:
        for surplus in (bytes(1 << 20), (REQUEST + b"\r\n") * 100):
            with connect(server) as sock:
                sock.sendall(REQUEST.replace(b"GET", b"POST") + b"Content-Length: 1048576\r\n\r\n" + surplus)
                answer = read_to_end(sock)
            assert answer.startswith(b"HTTP/1.1 405 ")
            assert answer.count(b"HTTP/1.1 ") == 1


def test_out_of_open_files_it_answers_and_rests(tmp_path: Path) -> None:
    """In a process that may open 40 files, of which others hold all but a few."""
    program = tmp_path / "few_files.py"
    program.write_text(
        "import os, resource, sys, time\n"
        "from udptracker.observe.http import HttpServer\n"
        "from udptracker.observe.pages import pages\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "metrics = lambda accept: (b'%f\\n' % time.process_time(), 'text/plain')\n"
        "site = pages(metrics=metrics, stats=dict, alive=lambda: True, ready=lambda: (True, 'ready'))\n"
        "server = HttpServer('127.0.0.1', int(sys.argv[1]), pages=site, request_timeout=600.0)\n"
        "server.start()\n"
        "held = [os.open('/dev/null', 0)]\n"
        "while held[-1] < 36: held.append(os.open('/dev/null', 0))\n"
        "print('listening', flush=True)\n"
        "sys.stdin.read()\n"
    )
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen(
        [sys.executable, program, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with child, ExitStack() as stack:
        stack.callback(child.kill)
        assert child.stdout is not None
        child.stdout.readline()

        def cpu() -> float:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as response:
                return float(response.read())

        cpu()
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
        before, started = cpu(), time.monotonic()
        time.sleep(2.0)
        # The kernel's listen queue may hold what is not accepted yet: the second question goes through all of it.
        assert cpu() - before < 0.25 * (time.monotonic() - started)


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
