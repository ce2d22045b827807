"""`udptracker torrent` and its kin: what they write, what they show, and that every node follows."""

from __future__ import annotations

import argparse
import io
import json
import signal
from functools import partial
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemons, StoreServers
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer
from tests.support.udp import NoAnswer, Refused, TrackerClient
from tests.support.waiting import eventually
from udptracker.client import lists
from udptracker.core.reasons import UNAPPROVED_TORRENT

PASSKEY = "0123456789abcdef"


def torrent(number: int) -> bytes:
    return sha1(b"%d" % number).digest()


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    lists.register(parser.add_subparsers(required=True))
    args = parser.parse_args(arguments)
    status = args.run(args)
    assert isinstance(status, int)
    return status


class Told:
    """Runs commands on a Redis, and reads what they say."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *where: str) -> None:
        self.capsys = capsys
        self.where = where

    def __call__(self, *arguments: str) -> list[Any]:
        """The JSON objects of a command that succeeds."""
        self.capsys.readouterr()
        assert command(*arguments, *self.where, "--json") == 0
        return [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]

    def text(self, *arguments: str) -> str:
        self.capsys.readouterr()
        assert command(*arguments, *self.where) == 0
        return self.capsys.readouterr().out

    def refused(self, *arguments: str) -> str:
        """The one line of a command that is refused as a whole."""
        self.capsys.readouterr()
        assert command(*arguments, *self.where) == 2
        said = self.capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        return said.err


@pytest.fixture
def told(valkey: StoreServer, capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(capsys, "--storage", valkey.url)


def test_a_torrent_from_denied_to_forgotten(told: Told) -> None:
    link = f"magnet:?xt=urn:btih:{torrent(2).hex()}"
    told("torrent", "deny", torrent(1).hex(), link, "--reason", "a notice", "--expires", "30d", "--by", "me")
    listed = {each["entry"]: each for each in told("torrent", "list")}
    assert set(listed) == {torrent(1).hex(), torrent(2).hex()}
    one = listed[torrent(1).hex()]
    assert (one["verdict"], one["reason"], one["by"]) == ("deny", "a notice", "me")
    assert one["until"] > one["at"] > "2026"
    (checked,) = told("torrent", "check", torrent(1).hex())
    assert (checked["verdict"], checked["because"][0]["source"]) == ("deny", "shared")
    assert "denied" in told.text("torrent", "deny", torrent(1).hex())
    assert "a notice" in told.text("torrent", "list")
    told("torrent", "remove", torrent(1).hex(), torrent(2).hex())
    assert told("torrent", "list") == []
    assert told("torrent", "check", torrent(1).hex()) == [
        {"entry": torrent(1).hex(), "verdict": "allow", "because": []}
    ]
    changes = [(each["change"], each["of"]) for each in told("torrent", "log")]
    assert changes == [("removed", 2), ("denied", 1), ("denied", 2)]
    assert told("network", "log") == []
    assert "a notice" in told.text("torrent", "log")


def test_a_script_is_told_one_line(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for entries, said in (
        ([torrent(1).hex()], "1 torrent denied"),
        ([torrent(2).hex(), torrent(3).hex()], "2 torrents denied"),
    ):
        assert command("torrent", "deny", *entries, *told.where) == 0
        assert tuple(capsys.readouterr()) == (f"{said}\n", "")
    assert command("torrent", "list", *told.where) == 0
    assert capsys.readouterr().err == ""


def test_a_node_that_shares_no_lists_is_asked_for_its_own(told: Told, tmp_path: Path) -> None:
    file, config = tmp_path / "denied", tmp_path / "config.yaml"
    file.write_text(f"{torrent(1).hex()}\n")
    torrents = {"deny_from": str(file), "deny": [torrent(2).hex()], "allow": [torrent(3).hex()], "unlisted": "deny"}
    config.write_text(json.dumps({"udptracker": {"access": {"torrents": torrents}}}))
    alone = Told(told.capsys, "--config", str(config))
    found = [alone("torrent", "check", torrent(number).hex())[0] for number in (1, 2, 3, 4)]
    assert [each["verdict"] for each in found] == ["deny", "deny", "allow", "deny"]
    sources = [[one["source"] for one in each["because"]] for each in found]
    assert sources == [[str(file)], ["configuration"], ["configuration"], []]
    assert "lists are shared through Redis" in alone.refused("torrent", "deny", torrent(4).hex())
    assert "lists are shared through Redis" in Told(told.capsys).refused("torrent", "check", torrent(4).hex())


def test_what_decides_over_a_client_and_an_address(told: Told, valkey: StoreServer, tmp_path: Path) -> None:
    file, config = tmp_path / "denied", tmp_path / "config.yaml"
    file.write_text("192.0.2.128/25\n")
    networks = {"deny_from": str(file), "allow": ["192.0.2.200"]}
    access = {"shared": valkey.url, "networks": networks, "clients": {"unlisted": "deny"}}
    config.write_text(json.dumps({"udptracker": {"access": access}}))
    told("client", "deny", "-XX")
    told("client", "allow", "-XX12")
    told("network", "deny", "192.0.2.0/24", "2001:db8::/32")
    told("network", "allow", "192.0.2.128/26")
    here = ("--config", str(config))
    verdicts = {
        entry: told(which, "check", entry, *here)[0]["verdict"]
        for which, entry in [
            ("client", "-XX1100"),
            ("client", "-XX1200"),
            ("client", "-YY"),
            ("network", "192.0.2.1"),
            ("network", "192.0.2.129"),
            ("network", "192.0.2.199"),
            ("network", "192.0.2.200"),
            ("network", "2001:db8::1"),
            ("network", "::1"),
        ]
    }
    assert " ".join(verdicts.values()) == "deny allow deny deny allow deny allow deny allow"
    (checked,) = told("network", "check", "192.0.2.199", *here)
    assert [each["source"] for each in checked["because"]] == [str(file), "shared"]


@pytest.mark.parametrize("hashed", [False, True])
def test_a_passkey_is_kept_as_it_is_or_as_its_hash(
    valkey: StoreServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, hashed: bool
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps({"udptracker": {"access": {"shared": valkey.url, "passkeys": {"hashed": hashed, "required": True}}}})
    )
    told = Told(capsys, "--config", str(config))
    told("passkey", "allow", PASSKEY, "--user", "somebody")
    told("passkey", "allow", "fedcba9876543210 somebody else")
    digest = f"sha256:{sha256(PASSKEY.encode()).hexdigest()}"
    entries = {each["entry"]: each["user"] for each in told("passkey", "list")}
    shown = digest if hashed else PASSKEY
    assert (entries[shown], sorted(entries.values())) == ("somebody", ["somebody", "somebody else"])
    with valkey.client() as client:
        kept = b"".join(client.dump(key) or b"" for key in client.scan_iter("*"))
        values = client.hvals("udptracker_{access}_passkeys")
    assert (PASSKEY.encode() in b"".join(values)) is not hashed
    assert kept
    assert PASSKEY not in json.dumps(told("passkey", "log"))
    for entry in (PASSKEY, digest):
        assert told("passkey", "check", entry)[0]["verdict"] == "allow"
    assert told("passkey", "check", "another-passkey")[0]["verdict"] == "deny"
    told("passkey", "remove", PASSKEY)
    assert len(told("passkey", "list")) == 1


def test_many_from_a_file_and_from_standard_input(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hashes"
    file.write_text("# taken down\n" + "".join(f"{torrent(number).hex()}  # {number}\n" for number in range(2_345)))
    (said,) = told("torrent", "deny", "--from", str(file))
    assert said["entries"] == 2_345
    assert len(told("torrent", "list", "--top", "10000")) == 2_345
    assert len(told("torrent", "list", "--top", "7")) == 7
    (log,) = told("torrent", "log")
    assert (log["of"], len(log["entries"])) == (2_345, 3)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    told("torrent", "remove", "--from", "-")
    assert told("torrent", "list") == []


def test_a_bad_line_changes_nothing(told: Told, tmp_path: Path) -> None:
    file = tmp_path / "hashes"
    file.write_text(f"{torrent(1).hex()}\n\nz\x1bz\n")
    said = told.refused("torrent", "deny", "--from", str(file))
    assert f"{file}, line 3: found" in said
    assert "expected 40 hexadecimal digits" in said
    assert "\x1b" not in said
    assert told("torrent", "list") == []


def test_what_makes_no_sense_is_one_line(told: Told, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nothing to deny" in told.refused("torrent", "deny")
    assert "s3cr3t!" not in told.refused("passkey", "allow", "s3cr3t!")
    assert "No such file" in told.refused("torrent", "deny", "--from", str(tmp_path / "nowhere"))
    assert command("torrent", "list", "--storage", "memory") == 2
    assert "through Redis" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("torrent", "deny", torrent(1).hex(), "--expires", "soon")


def test_a_redis_that_does_not_answer_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    broker = {"redis_broker": "redis://s3cr3t@127.0.0.1:1/0", "redis_connect_timeout": "100ms"}
    config.write_text(json.dumps({"udptracker": {"storage": {"name": "redis", "config": broker}}}))
    assert command("torrent", "list", "--config", str(config)) == 1
    said = capsys.readouterr().err
    assert "the shared lists" in said
    assert "s3cr3t" not in said


def is_refused(client: TrackerClient, info_hash: bytes) -> bool:
    """Whether the tracker does not serve a torrent; any other answer than that or an announce's fails the test."""
    try:
        client.announce(info_hash, 6881)
    except Refused as refused:
        if str(refused) != UNAPPROVED_TORRENT:
            raise
        return True
    return False


def serves(daemon: Daemon, info_hash: bytes) -> bool:
    with daemon.client() as client:
        return not is_refused(client, info_hash)


def answers(daemon: Daemon) -> bool:
    with daemon.client() as client:
        try:
            client.connect()
        except NoAnswer:
            return False
    return True


def test_a_command_on_one_node_is_in_force_on_another_within_a_second(
    daemons: Daemons, valkey: StoreServer, told: Told
) -> None:
    """Two nodes, one of them of two workers, both of which are asked: swarms are spread over them."""
    nodes = [daemons(valkey.url), daemons(valkey.url, arguments=["--workers", "2"])]
    hashes = [bytes((number,)) * 20 for number in (2, 3, 4, 5)]  # by their first four bytes two for each of the workers
    clients = [node.client() for node in nodes]
    with clients[0] as one, clients[1] as two:
        for client in (one, two):
            for info_hash in hashes:
                client.announce(info_hash, 6881)
        told("torrent", "deny", *(info_hash.hex() for info_hash in hashes))
        for client in (one, two):
            for info_hash in hashes:
                eventually(partial(is_refused, client, info_hash), "the torrent to be refused")
        assert [tuple(row) for row in two.scrape(*hashes)] == [(0, 0, 0)] * 4
    told("torrent", "remove", *(info_hash.hex() for info_hash in hashes))
    for node in nodes:
        eventually(partial(serves, node, hashes[0]), "the torrent to be served")
    assert 'udptracker_refusals_total{reason="unapproved torrent"}' in nodes[0].get("/metrics")[1]


def test_a_daemon_starts_with_what_its_file_has_while_redis_is_away(
    daemons: Daemons, store_servers: StoreServers, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server, cache = store_servers(), tmp_path / "cache"
    config = json.dumps({"udptracker": {"access": {"cache": str(cache)}}})
    node = daemons(server.url, config=config)
    Told(capsys, "--storage", server.url)("torrent", "deny", torrent(1).hex())
    eventually(lambda: not serves(node, torrent(1)), "the torrent to be refused")
    eventually(lambda: cache.exists() and torrent(1) in cache.read_bytes(), "the file to have it", timeout=40.0)
    node.stop()
    server.stop()
    again = Daemon(tmp_path, server.url, config=config)
    with again:
        again.start(wait=False)
        eventually(lambda: again.get("/metrics")[0] == 200, "the tracker to serve")
        eventually(lambda: answers(again), "the tracker to answer")
        assert not serves(again, torrent(1))
        assert serves(again, torrent(2))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_takes_in_lists_and_a_bad_one_leaves_them(workers: int, daemons: Daemons, tmp_path: Path) -> None:
    """In every process, those of several workers among them, whose settings come as a message."""
    file, config = tmp_path / "denied", {"torrents": {"deny": [torrent(1).hex()]}, "passkeys": {"allow": [PASSKEY]}}
    daemon = daemons("memory", config=_written(config), arguments=["--workers", str(workers)])
    path = daemon.log_path.with_suffix(".yaml")
    hashes = [bytes((number,)) * 20 for number in (2, 3)]  # of one worker and of the other
    assert [serves(daemon, each) for each in (torrent(1), *hashes)] == [False, True, True]
    file.write_text("\n".join(each.hex() for each in hashes))
    path.write_text(_written({"torrents": {"deny_from": str(file)}, "passkeys": {"required": False}}))
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: [serves(daemon, each) for each in (torrent(1), *hashes)] == [True, False, False], "the reload")
    path.write_text(_written({"torrents": {"deny": ["x"]}}))
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "access.torrents.deny.0: found 'x'" in daemon.log, "the refusal to be told")
    file.write_text("y")
    path.write_text(_written({"torrents": {"deny_from": str(file)}, "clients": {"deny": ["-UT"]}}))
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: f"{file}, line 1: found 'y'" in daemon.log, "the line to be named")
    assert [serves(daemon, each) for each in (torrent(1), *hashes)] == [True, False, False]


def _written(access: dict[str, Any]) -> str:
    return json.dumps({"udptracker": {"access": access}})


@pytest.mark.parametrize("storage", ["memory", "redis"])
def test_peers_of_a_denied_torrent_leave_the_store(
    storage: str, daemons: Daemons, valkey: StoreServer, told: Told
) -> None:
    kept = {"name": storage, "config": {"gc_interval": "300ms", "prometheus_reporting_interval": "100ms"}}
    config: Any = {"udptracker": {"storage": kept, "access": {"shared": valkey.url}}}
    if storage == "redis":
        config["udptracker"]["storage"]["config"]["redis_broker"] = valkey.url
    node = daemons(None, config=json.dumps(config), arguments=["--workers", "1"])
    for number in (1, 2):
        node.announce(torrent(number), 6881, left=0)
        node.announce(torrent(number), 6882)
    eventually(lambda: held(node) == (2, 2), "the peers to be counted")
    told("torrent", "deny", torrent(1).hex())
    eventually(lambda: held(node) == (1, 1), "the peers to be removed")
    assert serves(node, torrent(2))
    if storage == "redis":
        with valkey.client() as client:
            assert not client.exists(f"IPv4_S_{torrent(1).hex()}", f"IPv4_L_{torrent(1).hex()}")


def held(daemon: Daemon) -> tuple[int, int]:
    """Seeders and leechers in its store."""
    lines = dict(line.rsplit(" ", 1) for line in daemon.get("/metrics")[1].splitlines() if not line.startswith("#"))
    names = ('udptracker_seeders{family="ipv4"}', 'udptracker_leechers{family="ipv4"}')
    seeders, leechers = (int(float(lines.get(name, "0"))) for name in names)
    return seeders, leechers
