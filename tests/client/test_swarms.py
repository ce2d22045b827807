"""`udptracker swarm` and `udptracker swarms` on a store that trackers and others have written to."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemons
from tests.storage.contract import SEEDER, STARTED, announce, ask_all
from tests.support import servers
from tests.support.cluster import StoreCluster
from tests.support.servers import StoreServer
from tests.support.stores import redis_store
from tests.support.waiting import PATIENCE
from udptracker.client import swarms
from udptracker.client.reaching import reached
from udptracker.config import RedisSettings, from_tree
from udptracker.core.wire import Event
from udptracker.storage.redis.needs import Lacks, lacks

BROKER = "storage.config.redis_broker"


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    swarms.register(parser.add_subparsers(required=True))
    args = parser.parse_args(arguments)
    status = args.run(args)
    assert isinstance(status, int)
    return status


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert command(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def info_hash(number: int) -> bytes:
    return number.to_bytes(20, "big")


def test_a_swarm_on_redis(daemons: Daemons, valkey: StoreServer, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = daemons(valkey.url)
    with daemon.client() as client:
        client.announce(info_hash(1), 1001)
        client.announce(info_hash(1), 1001, left=0, event=Event.COMPLETED)
    daemon.announce(info_hash(1), 1002)
    daemon.announce(info_hash(1), 1003, family=6)
    answer = told(capsys, "swarm", info_hash(1).hex(), "--storage", valkey.url, "--peers")
    counts = [(each["family"], each["seeders"], each["leechers"], each["downloads"]) for each in answer["swarms"]]
    assert counts == [("ipv4", 1, 1, 1), ("ipv6", 0, 1, 0)]
    peers = {(peer["endpoint"], peer["role"]) for peer in answer["peers"]}
    assert peers == {("127.0.0.1:1001", "seeder"), ("127.0.0.1:1002", "leecher"), ("[::1]:1003", "leecher")}
    assert all(0 <= peer["seconds"] < 600 for peer in answer["peers"])
    assert command("swarm", info_hash(1).hex(), "--storage", valkey.url, "--peers") == 0
    shown = capsys.readouterr().out
    assert "[::1]:1003" in shown
    assert "downloads" in shown


def test_the_largest_swarms_on_redis(valkey: StoreServer, capsys: pytest.CaptureFixture[str]) -> None:
    """More names than a slice holds; what is no name of a swarm, and one without peers, are passed over."""
    with valkey.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(1, 1201):
            for role, size in (("S", number % 7), ("L", number)):
                name = f"IPv4_{role}_{info_hash(number).hex()}"
                if size:
                    pipe.hset(name, mapping={f"{peer:026d}": "1" for peer in range(min(size, 5))})
                    pipe.hset("IPv4", name, "1")
        pipe.hset(f"IPv4_L_{info_hash(700).hex()}", mapping={f"{peer:026d}": "1" for peer in range(300)})
        pipe.hset(f"IPv6_S_{info_hash(9).hex()}", mapping={f"{peer:038d}": "1" for peer in range(200)})
        pipe.hset(
            "IPv6", mapping={f"IPv6_S_{info_hash(9).hex()}": "1", "no name": "1", f"IPv6_L_{info_hash(8).hex()}": "1"}
        )
        pipe.execute()
    answer = told(capsys, "swarms", "--top", "3", "--storage", valkey.url)["swarms"]
    assert [(each["info_hash"], each["family"], each["seeders"], each["leechers"]) for each in answer[:2]] == [
        (info_hash(700).hex(), "ipv4", 0, 300),
        (info_hash(9).hex(), "ipv6", 200, 0),
    ]
    assert (answer[2]["seeders"] + answer[2]["leechers"], len(answer)) == (10, 3)
    every = told(capsys, "swarms", "--top", "5000", "--storage", valkey.url)["swarms"]
    assert len(every) == len({(each["family"], each["info_hash"]) for each in every}) == 1202
    assert command("swarms", "--storage", valkey.url) == 0
    assert info_hash(700).hex() in capsys.readouterr().out


def test_memory_is_asked_through_the_daemon(daemons: Daemons, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = daemons("memory")
    daemon.announce(info_hash(1), 1001, left=0)
    daemon.announce(info_hash(1), 1002, family=6)
    config = daemon.log_path.with_suffix(".of-its-own.yaml")
    addresses = [f"127.0.0.1:{daemon.port}", f"[::1]:{daemon.port}"]
    config.write_text(
        json.dumps({"udptracker": {"udp": {"addr": addresses}, "metrics_addr": f"127.0.0.1:{daemon.metrics_port}"}})
    )
    answer = told(capsys, "swarm", info_hash(1).hex(), "--config", str(config))["swarms"]
    assert [(each["family"], each["seeders"], each["leechers"]) for each in answer] == [("ipv4", 1, 0), ("ipv6", 0, 1)]
    busiest = told(capsys, "swarms", "--config", str(config))["swarms"]
    assert [(each["info_hash"], each["seeders"], each["leechers"]) for each in busiest] == [(info_hash(1).hex(), 1, 1)]
    assert command("swarm", info_hash(1).hex(), "--config", str(config), "--peers") == 2
    assert "within the daemon" in capsys.readouterr().err


def test_peer_ids_are_plain_ascii(valkey: StoreServer, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"IPv4_L_{info_hash(5).hex()}"
    with valkey.client() as client:
        client.hset(name, b"-qB4500-%\x00\xe9 ~\x1b\xffabcde" + bytes(6), b"1")
    assert command("swarm", info_hash(5).hex(), "--storage", valkey.url, "--peers") == 0
    assert "-qB4500-%25%00%E9 ~%1B%FFabcd" in capsys.readouterr().out


def test_a_daemon_that_does_not_run_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "udptracker.yaml"
    config.write_text("udptracker: {metrics_addr: '127.0.0.1:1', udp: {addr: '127.0.0.1:1'}}")
    for asked in (("swarms",), ("swarm", info_hash(1).hex())):
        assert command(*asked, "--config", str(config)) == 1
        assert capsys.readouterr().err.startswith("udptracker: no daemon answers at 127.0.0.1")


def test_memory_needs_nothing_of_redis(tmp_path: Path) -> None:
    config = tmp_path / "udptracker.yaml"
    config.write_text("udptracker: {udp: {addr: '127.0.0.1:1'}}")
    program = f"""if True:
        import sys
        from udptracker.cli import main
        try:
            main(("swarm", "{"00" * 20}", "--config", {str(config)!r}))
        finally:
            print(*sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "udptracker.client.swarms" in done.stdout.split()
    assert not {"hiredis", "redis"} & {*done.stdout.split()}


def test_what_cannot_be_asked_is_one_line(capsys: pytest.CaptureFixture[str], valkey: StoreServer) -> None:
    nobody = ("--storage", "redis://s3cr3t@127.0.0.1:1/0?x", "--json")
    assert command("swarms", *nobody) == 2
    assert command("swarm", "x", "--storage", valkey.url) == 2
    assert command("swarms", "--config", "/no/such/file") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "s3cr3t" not in err


def test_a_store_that_refuses_is_heard(capsys: pytest.CaptureFixture[str], valkey: StoreServer) -> None:
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "meek", "on", ">pw", "~*", "+@all", "-hlen")
        try:
            url = valkey.url.replace("redis://", "redis://meek:pw@")
            assert command("swarms", "--storage", url) == 1
        finally:
            client.execute_command("ACL", "DELUSER", "meek")
    assert "hlen" in capsys.readouterr().err


def test_a_cluster_is_asked_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Swarms, and what is needed of the servers, on three masters."""
    with ExitStack() as stack:

        def start(arguments: tuple[str, ...]) -> StoreServer:
            server = stack.enter_context(StoreServer(servers.valkey(), arguments))
            server.start()
            return server

        cluster = StoreCluster(start)

        async def fill() -> None:
            async with redis_store(cluster.url) as store:
                await ask_all(store, [announce(n, SEEDER, STARTED, info_hash=n % 40) for n in range(200)])

        asyncio.run(fill())
        every = told(capsys, "swarms", "--top", "100", "--storage", cluster.url)["swarms"]
        assert len(every) == 40
        assert {each["seeders"] for each in every} == {5}
        answer = told(capsys, "swarm", every[0]["info_hash"], "--storage", cluster.url, "--peers")
        assert len(answer["peers"]) == 5

        async def ask() -> Lacks:
            settings = from_tree({}, "udptracker", {}, {"storage.name": "redis", BROKER: cluster.url}).settings
            assert isinstance(settings.storage.config, RedisSettings)
            async with reached(settings.storage.config) as topology:
                return await lacks(topology)

        assert asyncio.run(ask()) == ([], [])
