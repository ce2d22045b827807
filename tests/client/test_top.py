"""`udptracker top`: what a node says, what is shown of it, and a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.daemon import Daemon
from tests.support.waiting import PATIENCE, eventually
from udptracker.client.nodes import Address, NoStats, Stats, ask, parse_address, read
from udptracker.client.top_view import SORTS, Row, keys_line, view
from udptracker.core.busiest import BusySwarm
from udptracker.core.counters import Counters
from udptracker.observe.http import Answer, HttpServer
from udptracker.observe.status import Status

TOP = [sys.executable, "-m", "udptracker", "top"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color"}
ESCAPE = "\x1b]0;gotcha\x07"


def stats(host: str = "one", *, word: str = "ready", **changes: Any) -> dict[str, Any]:
    """What a node of this name says, after a hundred announces in five seconds."""
    counters = Counters()
    clock = iter((0.0, 0.0, 5.0, 5.0, 5.0))
    status = Status(
        lambda: {"host": host, "version": "1.2.3", "build": "plain"},
        has_standby=True,
        snapshots=lambda: {"0": counters.snapshot()},
        kernel_drops=lambda: 0,
        ready=lambda: (word == "ready", word),
        busiest=lambda: [BusySwarm("ab" * 20, 12.0, 3, 4)],
        clock=lambda: next(clock),
    )
    status.sample()
    counters.requests[2] = 100
    counters.refused["bad connection ID"] = 10
    counters.totals[4] = (5, 6, 7)
    counters.store_up = 0 if word != "ready" else 1
    return {**status.stats(), **changes}


def seen(host: str = "one", **changes: Any) -> Stats:
    return read(json.dumps(stats(host, **changes)).encode())


@contextmanager
def node(answer: Answer) -> Iterator[Address]:
    """A server that says this at `/stats.json`."""
    server = HttpServer("127.0.0.1", 0, pages={"/stats.json": lambda _: answer})
    server.start()
    try:
        yield parse_address(f"127.0.0.1:{server.port}")
    finally:
        server.stop()


def shown(rows: list[Row], *, sort: str = "n", width: int = 160, height: int = 40) -> str:
    console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - rich keeps it
    with console.file:
        console.print(view(rows, sort, width, height))
        console.print(keys_line(sort))
    return console.export_text()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", Address("127.0.0.1:6880", "127.0.0.1", 6880, "/stats.json", False)),
        ("host:1", Address("host:1", "host", 1, "/stats.json", False)),
        ("http://[::1]:7/", Address("[::1]:7", "::1", 7, "/stats.json", False)),
        ("https://host/tracker/", Address("host:443", "host", 443, "/tracker/stats.json", True)),
        ("http://host:1/stats.json", Address("host:1", "host", 1, "/stats.json", False)),
        ("host:1/metrics", Address("host:1", "host", 1, "/stats.json", False)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "udp://host:1", "http://", "host:port", "http://user:word@host", "host\x1b"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


async def test_what_a_node_says() -> None:
    with node(Answer(HTTPStatus.OK, "application/json", json.dumps(stats()).encode())) as address:
        found = await ask(address)
    assert (found.host, found.version, found.serves, found.store_up) == ("one", "1.2.3 (plain)", True, True)
    assert (found.requests, found.announces, found.refused) == (20.0, 20.0, 2.0)
    assert (found.swarms, found.seeders, found.leechers) == (5, 6, 7)
    assert found.busiest == (BusySwarm("ab" * 20, 12.0, 3, 4),)
    assert found.reasons == (("bad connection ID", 2.0),)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (HTTPStatus.NOT_FOUND, b"", "HTTP status 404"),
        (HTTPStatus.OK, b"<html>", "no stats.json of ours"),
        (HTTPStatus.OK, b"[" * 100_000, "no stats.json of ours"),
        (HTTPStatus.OK, b'{"recent": 1}', "no stats.json of ours"),
        (HTTPStatus.OK, b"[]", "no stats.json of ours"),
        (HTTPStatus.OK, b" " * (2 << 20), "too much"),
    ],
)
async def test_whatever_else_answers_is_said_in_a_word(status: HTTPStatus, body: bytes, said: str) -> None:
    with node(Answer(status, "application/json", body)) as address, pytest.raises(NoStats, match=said):
        await ask(address)
    with pytest.raises(NoStats, match="refused"):
        await ask(address)


def test_a_node_is_a_row() -> None:
    text = shown([Row("one:6880", seen())], width=180)
    row = next(line for line in text.splitlines() if line.startswith("one:6880"))
    assert re.match(r"one:6880 +serving +20 +– +– +2\.0 +0 +6 +7 +5 +0 +1 +5 s", row)
    assert re.search(rf"{'ab' * 20} +12 +3 +4", text)
    assert re.search(r"bad connection ID +2\.0", text)


def test_rows_are_sorted_by_any_key() -> None:
    busy, calm = seen("busy"), seen("calm")
    rows = [Row("calm", calm), Row("gone", None, "Connection refused"), Row("busy", busy)]
    by_name = [line.split()[0] for line in shown(rows).splitlines()[2:5]]
    assert by_name == ["busy", "calm", "gone"]
    for key in SORTS:
        lines = shown(rows, sort=key).splitlines()
        assert {line.split()[0] for line in lines[2:5]} == {"busy", "calm", "gone"}
        if key != "n":
            assert lines[4].startswith("gone")


def test_trouble_is_told_below() -> None:
    text = shown(
        [
            Row("gone", seen(), "Connection refused"),
            Row("away", seen(word="LOADING the dataset")),
            Row("dead", seen(workers=[])),
            Row("new"),
        ]
    )
    assert re.search(r"gone +no answer +–", text)
    assert "gone: Connection refused" in text
    assert re.search(r"away +stand-in", text)
    assert "away: LOADING the dataset" in text
    assert re.search(r"dead +not serving", text)
    assert re.search(r"new +asking", text)


def test_no_line_is_wider_than_the_terminal_and_what_matters_most_stays() -> None:
    rows = [Row("a-host-with-a-name.example.net:6880", seen(word="x" * 500)), Row("b", seen())]
    for width in range(40, 200, 7):
        text = shown(rows, width=width)
        assert max(map(len, text.splitlines())) <= width
        assert "State" in text
    assert "Req/s" in shown(rows, width=64)


def test_no_text_of_a_node_reaches_the_terminal_as_it_is() -> None:
    row = Row("one", seen(host=ESCAPE, word=ESCAPE, busiest=[BusySwarm(ESCAPE, 1.0, 1, 1)._asdict()]))
    row.stats = read(json.dumps(stats(word=ESCAPE, busiest=[BusySwarm(ESCAPE, 1.0, 1, 1)._asdict()])).encode())
    for text in (shown([row]), shown([Row("one", None, ESCAPE)])):
        assert "\x1b]" not in text
        assert "\x07" not in text
        assert r"\x1b" in text


def test_once_is_for_scripts(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.start()
        there = f"http://127.0.0.1:{daemon.metrics_port}"
        found = subprocess.run([*TOP, there, "--once"], env=ENVIRONMENT, capture_output=True, text=True, check=True)
        assert "serving" in found.stdout
        daemon.stop()
    gone = subprocess.run([*TOP, there], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (gone.returncode, gone.stderr) == (1, "")
    assert "no answer" in gone.stdout


def test_without_an_address_it_is_that_of_the_environment(tmp_path: Path) -> None:
    def once(address: str) -> subprocess.CompletedProcess[str]:
        environment = ENVIRONMENT | {"UDPTRACKER_METRICS_ADDR": address}
        return subprocess.run([*TOP, "--once"], env=environment, capture_output=True, text=True, check=False)

    with Daemon(tmp_path) as daemon:
        daemon.start()
        assert "serving" in once(f"0.0.0.0:{daemon.metrics_port}").stdout
    for address, said in (("off", "metrics are off"), ("x", "expected an address")):
        found = once(address)
        assert found.returncode == 2
        assert said in found.stderr


@pytest.mark.parametrize("bad", [["--sort", "x"], ["--interval", "0"], ["udp://127.0.0.1:1"]])
def test_bad_usage(bad: list[str]) -> None:
    found = subprocess.run([*TOP, "--once", *bad], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "expected" in found.stderr


class Terminal:
    """A program on a pseudo terminal of a size."""

    def __init__(self, command: list[str], columns: int, lines: int) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        self._theirs = theirs
        self.screen = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def shows(self, pattern: str) -> bool:
        """Whether what it has written since the last question that was answered with yes matches."""
        while select.select([self._ours], [], [], 0.05)[0]:
            self.screen += os.read(self._ours, 65536).decode(errors="replace")
        found = re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.screen), re.DOTALL)
        if found:
            self.screen = ""
        return bool(found)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def settings(self) -> list[Any]:
        """The terminal's modes, as `before` has them from before the program."""
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)
        os.close(self._theirs)


@pytest.mark.parametrize("way_out", ["q", "\x1b", signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal_it_follows_sorts_resizes_and_leaves_it_as_it_was(tmp_path: Path, way_out: Any) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.start()
        node = f"127.0.0.1:{daemon.metrics_port}"
        terminal = Terminal([*TOP, node, "--interval", "0.2"], 120, 20)
        try:
            eventually(lambda: terminal.shows(rf"{node} +serving.*Leechers|Leechers.*{node} +serving"), "the node")
            terminal.press("\x1b[A")  # an arrow is not Escape
            terminal.press("r")
            eventually(lambda: terminal.shows("quit"), "another look")
            terminal.resize(60, 10)
            os.kill(terminal.process.pid, signal.SIGWINCH)
            eventually(lambda: terminal.shows("refus…|r req/s.*…"), "the smaller one")
            daemon.stop()
            eventually(lambda: terminal.shows("no answer"), "the outage")
            if isinstance(way_out, str):
                terminal.press(way_out)
            else:
                os.kill(terminal.process.pid, way_out)
            deadline = time.monotonic() + PATIENCE
            while terminal.process.poll() is None and time.monotonic() < deadline:
                terminal.shows("^$")
            assert terminal.process.returncode == 0
            assert terminal.settings() == terminal.before
            terminal.shows("^$")
            assert "Traceback" not in terminal.screen
        finally:
            terminal.close()
