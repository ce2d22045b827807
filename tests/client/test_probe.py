"""`udptracker probe` against a tracker that is well, one that refuses, and one that is silent."""

from __future__ import annotations

import argparse
import json
import socket
from threading import Thread

import pytest

from tests.conftest import Daemons
from udptracker.client import probe
from udptracker.client.targets import parse_info_hash

STEPS = ["connect", "announce", "scrape", "stop"]


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    probe.register(parser.add_subparsers(required=True))
    args = parser.parse_args(["probe", *arguments])
    status = args.run(args)
    assert isinstance(status, int)
    return status


@pytest.mark.parametrize("family", [4, 6])
def test_a_tracker_that_is_well(daemons: Daemons, family: int, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = daemons("memory")
    assert command(daemon.announce_url(family), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert list(told["milliseconds"]) == STEPS
    assert all(took > 0 for took in told["milliseconds"].values())
    (stats,) = daemon.scrape(parse_info_hash(probe.DEFAULT_INFO_HASH), family=family)
    assert tuple(stats) == (0, 0, 0), "it leaves nothing behind"
    assert command(daemon.announce_url(family)) == 0
    shown = capsys.readouterr().out
    assert all(step in shown for step in STEPS)


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{sock.getsockname()[1]}"
        assert command(url, "--timeout", "0.2", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {"ok": False, "failed": "connect", "reason": "no answer", "milliseconds": {}}
    assert err == f"udptracker: {url}: connect: no answer\n"


def test_a_tracker_that_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def refuse() -> None:
            data, source = sock.recvfrom(2000)
            sock.sendto(b"\0\0\0\3" + data[12:16] + b"go \x1b[1maway", source)

        thread = Thread(target=refuse)
        thread.start()
        assert command(f"udp://127.0.0.1:{sock.getsockname()[1]}") == 1
        thread.join()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("connect: the tracker refuses: go \\x1b[1maway\n")


@pytest.mark.parametrize("arguments", [("http://127.0.0.1:1",), ("udp://127.0.0.1:1", "--info-hash", "x")])
def test_what_names_nothing(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
