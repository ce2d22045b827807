"""Each swarm has one worker: several of them under one parent, on Redis."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from tests.conftest import Daemons, StoreServers
from tests.service.test_supervisor import metric, workers_of
from tests.support import seccomp
from tests.support.daemon import HOSTS, Daemon
from tests.support.servers import StoreServer
from tests.support.waiting import eventually
from udptracker.net.steering import place_of

WORKERS = 4
FIRST_PORT = 7000
INFO_HASHES = [Random(number).randbytes(20) for number in range(16)]
"""At least one for each worker."""


class UnderAnOldKernel(Daemon):
    """A tracker in a kernel that does not steer."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, seccomp.__file__, "steering", *super().command]


def test_every_worker_has_one_of_them() -> None:
    assert {place_of(each, WORKERS) for each in INFO_HASHES} == set(range(WORKERS))


def announce_each(daemon: Daemon, ports: Sequence[int]) -> dict[tuple[int, bytes], set[int]]:
    """Every port joins every swarm of both families, each by a socket of its own; the ports, by swarm."""
    swarms: dict[tuple[int, bytes], set[int]] = {}
    for family in HOSTS:
        for info_hash in INFO_HASHES:
            for port in ports:
                daemon.announce(info_hash, port, family=family)
                swarms.setdefault((family, info_hash), set()).add(port)
    return swarms


def assert_whole(daemon: Daemon, swarms: Mapping[tuple[int, bytes], set[int]]) -> None:
    """Whoever asks is told of all peers of each swarm, from any socket."""
    for (family, info_hash), ports in swarms.items():
        with daemon.client(family) as client:
            answer = client.announce(info_hash, FIRST_PORT, num_want=100)
            found = {int.from_bytes(endpoint[-2:], "big") for endpoint in client.peers(answer)}
        assert found == ports - {FIRST_PORT}
        assert answer.leechers == len(ports)
        with daemon.client(family) as client:
            assert client.scrape(info_hash)[0].leechers == len(ports)


def by_worker(daemon: Daemon) -> list[int]:
    return [int(metric(daemon, "worker_requests_total", worker=str(number))) for number in range(WORKERS)]


class TestOnRedis:
    def test_a_swarm_is_its_workers(self, daemons: Daemons, valkey: StoreServer) -> None:
        daemon = daemons(valkey.url, arguments=["--workers", str(WORKERS)])
        issued = {}
        for family in HOSTS:
            with daemon.client(family) as client:
                issued[family] = client.connect()
        for info_hash in INFO_HASHES:
            before = by_worker(daemon)
            for family, connection_id in issued.items():
                for port in range(FIRST_PORT, FIRST_PORT + 5):
                    with daemon.client(family) as client:
                        client.connection_id = connection_id
                        client.announce(info_hash, port)
                        client.scrape(info_hash)
            gained = [after - before for after, before in zip(by_worker(daemon), before, strict=True)]
            assert gained == [20 * (number == place_of(info_hash, WORKERS)) for number in range(WORKERS)]

    def test_without_the_store_every_swarm_is_whole(self, daemons: Daemons, store_servers: StoreServers) -> None:
        server = store_servers()
        config = "udptracker: {storage: {name: redis, config: {redis_read_timeout: 1s}}}"
        daemon = daemons(server.url, config=config, arguments=["--workers", str(WORKERS)])
        announce_each(daemon, range(FIRST_PORT, FIRST_PORT + 4))
        server.kill()
        eventually(lambda: daemon.get("/readyz")[0] == 503, "the loss to be noticed")
        announce_each(daemon, range(FIRST_PORT + 4, FIRST_PORT + 6))
        swarms = {(family, each): set(range(FIRST_PORT, FIRST_PORT + 6)) for family in HOSTS for each in INFO_HASHES}
        assert_whole(daemon, swarms)

    def test_a_kernel_that_does_not_steer_is_done_without(self, tmp_path: Path, valkey: StoreServer) -> None:
        with UnderAnOldKernel(tmp_path, valkey.url, arguments=["--workers", "2"]) as daemon:
            daemon.start()
            assert len(workers_of(daemon)) == 2
            for port in range(FIRST_PORT, FIRST_PORT + 10):
                daemon.announce(INFO_HASHES[0], port)
            assert daemon.scrape(INFO_HASHES[0])[0].leechers == 10
            said = "each worker is given a part of every swarm, as the kernel does not steer: Protocol not available"
            assert daemon.log.count(said) == 1

    @pytest.mark.parametrize("hosts", [["0.0.0.0"], ["::"], ["127.0.0.1", "127.0.0.2", "::1"]], ids=str)
    def test_on_any_addresses(self, daemons: Daemons, valkey: StoreServer, hosts: list[str]) -> None:
        daemon = daemons(valkey.url, hosts=hosts, arguments=["--workers", "3"])
        before = by_worker(daemon)
        with daemon.client() as client:
            issued = client.connect()
        info_hash = INFO_HASHES[0]
        for port in range(FIRST_PORT, FIRST_PORT + 12):
            with daemon.client() as client:
                client.connection_id = issued
                client.announce(info_hash, port)
        gained = [after - before for after, before in zip(by_worker(daemon), before, strict=True)]
        assert gained[place_of(info_hash, 3)] >= 12
        assert sum(gained) == 13
