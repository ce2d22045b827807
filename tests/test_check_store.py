"""`udptracker check FILE --store`: what the store lacks, told before it is used."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Daemons
from tests.support.servers import StoreServer
from tests.support.waiting import PATIENCE
from udptracker.storage.redis.needs import acl_rules


def check(directory: Path, url: str) -> tuple[int, list[str]]:
    """The exit status and the lines on standard error."""
    file = directory / "udptracker.yaml"
    config = {"redis_broker": url, "redis_connect_timeout": "10m"}
    file.write_text(json.dumps({"udptracker": {"storage": {"name": "redis", "config": config}}}))
    run = [sys.executable, "-m", "udptracker", "check", str(file), "--store"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)
    assert "Traceback" not in done.stderr
    assert "redis_broker: " in done.stdout
    return done.returncode, done.stderr.splitlines()


def test_a_user_who_may_do_all(tmp_path: Path, store_server: StoreServer) -> None:
    status, lines = check(tmp_path, store_server.url)
    assert status == 0
    assert len(lines) == 1
    assert lines[0].endswith("does all that is needed")


@pytest.mark.parametrize(
    ("rule", "status", "words"),
    [
        ("~* +@all -hset -zadd", 1, ["needed: NOPERM|hset", "needed: NOPERM|zadd"]),
        ("~IPv4* ~udptracker_* +@all", 1, ["needed: NOPERM|key"]),
        ("~* +@all -xadd", 0, ["done without: NOPERM|xadd"]),
        ("~* +@all -@dangerous -time +client|kill", 0, ["done without: NOPERM|info", "done without: NOPERM|time"]),
    ],
)
def test_what_a_user_may_not_do_is_named(
    tmp_path: Path, valkey: StoreServer, rule: str, status: int, words: list[str]
) -> None:
    with valkey.client() as client:
        client.execute_command(*f"ACL SETUSER meek reset on >password {rule}".split())
        try:
            done, lines = check(tmp_path, valkey.url.replace("redis://", "redis://meek:password@"))
            assert valkey.client().keys() == []
        finally:
            client.execute_command("ACL", "DELUSER", "meek")
    assert done == status
    for wanted in words:
        begin, _, end = wanted.partition("|")
        assert [line for line in lines if line.startswith(f"store: {begin}") and end in line], lines
    assert f"store: ACL rules of a user who may do all of it: {acl_rules()}" in lines
    assert len(lines) == len(words) + 1 + (status == 0)


def test_nobody_there(tmp_path: Path) -> None:
    status, lines = check(tmp_path, "redis://:s3cr3t@127.0.0.1:1/0")
    assert status == 1
    (line,) = lines
    assert line.startswith("store: Redis at 127.0.0.1:1")
    assert "s3cr3t" not in line


def test_a_password_that_is_wrong(tmp_path: Path, valkey: StoreServer) -> None:
    status, lines = check(tmp_path, valkey.url.replace("redis://", "redis://nobody:s3cr3t@"))
    assert status == 1
    (line,) = lines
    assert "WRONGPASS" in line
    assert "s3cr3t" not in line


def test_no_node_of_a_cluster_there(tmp_path: Path) -> None:
    status, lines = check(tmp_path, "redis+cluster://127.0.0.1:1,127.0.0.1:2")
    assert status == 1
    (line,) = lines
    assert "127.0.0.1:1: " in line
    assert "127.0.0.1:2: " in line


def test_somebody_who_says_nothing_is_not_waited_for_as_long_as_a_tracker_does(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        status, lines = check(tmp_path, f"redis://127.0.0.1:{silent.getsockname()[1]}")
    assert status == 1
    (line,) = lines
    assert "did not answer" in line or "not connected yet" in line


def test_the_documented_user_runs_a_tracker_and_its_commands(
    tmp_path: Path, valkey: StoreServer, daemons: Daemons
) -> None:
    """All of it, from the first announce to lists that nodes share, without one refusal by the server."""
    url = valkey.url.replace("redis://", "redis://udptracker:password@")
    hash_of = "ab" * 20
    with valkey.client() as client:
        client.execute_command(*f"ACL SETUSER udptracker reset on >password {acl_rules()}".split())
        client.execute_command("ACL", "LOG", "RESET")
        try:
            assert check(tmp_path, url)[0] == 0
            daemon = daemons(url)
            daemon.announce(bytes.fromhex(hash_of), 1111)
            commands = [["swarm", hash_of, "--peers"], ["swarms"], ["torrent", "log"], ["torrent", "list"]]
            for command in (["torrent", "deny", "cd" * 20], *commands, ["torrent", "remove", "cd" * 20]):
                run = [sys.executable, "-m", "udptracker", *command, "--storage", url]
                subprocess.run(run, check=True, capture_output=True, timeout=PATIENCE)
            assert daemon.stop() == 0
            denials = [f"{entry['reason']} {entry['object']}" for entry in client.acl_log()]
        finally:
            client.execute_command("ACL", "DELUSER", "udptracker")
    assert denials == []
