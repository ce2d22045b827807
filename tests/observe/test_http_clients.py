"""Clients of the HTTP server that mean no good, or cannot do better."""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.observe.serving import (
    PATIENCE,
    REQUEST,
    ask,
    connect,
    read_to_end,
    serving,
)
from tests.support.waiting import eventually, free_port
from udptracker.observe.http import MAX_CONNECTIONS, HttpServer

REPOSITORY = Path(__file__).parents[2]


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
