"""Each swarm has one worker: several of them under one parent, on Redis and on memory."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.conftest import Daemons, StoreServers
from tests.service.test_supervisor import metric, workers_of
from tests.support import seccomp
from tests.support.daemon import HOSTS, Daemon
from tests.support.servers import StoreServer
from tests.support.udp import NoAnswer, TrackerClient
from tests.support.waiting import eventually
from udptracker.core.swarm import place_of
from udptracker.core.wire import SwarmStats

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
            said = "each worker is given a part of every swarm, since the kernel does not steer: Protocol not available"
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


def share(number: int) -> list[bytes]:
    """The info hashes of a worker."""
    return [each for each in INFO_HASHES if place_of(each, WORKERS) == number]


def own_first(number: int) -> list[bytes]:
    """All info hashes in an order in which a scrape goes to this worker."""
    return sorted(INFO_HASHES, key=lambda each: place_of(each, WORKERS) != number)


def leechers(client: TrackerClient, info_hashes: Sequence[bytes]) -> list[int]:
    return [row.leechers for row in client.scrape(*info_hashes)]


def seeders(client: TrackerClient, info_hashes: Sequence[bytes]) -> list[int]:
    return [row.seeders for row in client.scrape(*info_hashes)]


def assert_soon(probe: Callable[[], list[int]], expected: list[int]) -> None:
    """A worker that the machine starves is waited for only so long: its rows are zeros then."""
    eventually(lambda: probe() == expected, f"{expected}")


def assert_all_seen(client: TrackerClient, info_hashes: Sequence[bytes]) -> None:
    assert_soon(partial(leechers, client, info_hashes), [1] * len(info_hashes))


class TestOnMemory:
    @pytest.fixture
    def daemon(self, daemons: Daemons) -> Daemon:
        started = daemons("memory", arguments=["--workers", str(WORKERS)])
        assert len(workers_of(started)) == WORKERS
        return started

    def test_every_swarm_is_whole(self, daemon: Daemon) -> None:
        swarms = announce_each(daemon, range(FIRST_PORT, FIRST_PORT + 3))
        assert_whole(daemon, swarms)
        assert metric(daemon, "scrape_rows_missing_total") == 0

    def test_a_scrape_is_of_the_swarms_of_all(self, daemon: Daemon) -> None:
        """In its order, whatever worker it goes to, repeats repeated and unknown ones zeros; families never mix."""
        expected = {bytes(20): 0}
        for count, info_hash in enumerate(INFO_HASHES, 1):
            for port in range(FIRST_PORT, FIRST_PORT + count):
                daemon.announce(info_hash, port, left=0)
            expected[info_hash] = count
        for number in range(WORKERS):
            asked = [*own_first(number), bytes(20), *INFO_HASHES[:3]]
            with daemon.client() as client:
                assert_soon(partial(seeders, client, asked), [expected[each] for each in asked])
            with daemon.client(6) as client:
                assert set(client.scrape(*asked)) == {SwarmStats(0, 0, 0)}

    def test_totals_and_metrics_are_sums(self, daemon: Daemon) -> None:
        for port in (1, 2):
            for info_hash in INFO_HASHES:
                daemon.announce(info_hash, port, left=port - 1)
        count = len(INFO_HASHES)
        eventually(lambda: metric(daemon, "swarms", family="ipv4") == count, "every swarm, counted once")
        eventually(lambda: metric(daemon, "seeders", family="ipv4") == count, "every seeder")
        eventually(lambda: metric(daemon, "leechers", family="ipv4") == count, "every leecher")
        assert metric(daemon, "requests_total", action="announce") == 2 * count
        assert sum(by_worker(daemon)) == 4 * count  # and a connect for each

    def test_each_expires_its_own_peers(self, daemons: Daemons) -> None:
        config = "{gc_interval: 100ms, peer_lifetime: 1s, prometheus_reporting_interval: 100ms}"
        daemon = daemons("memory", config=f"udptracker: {{workers: {WORKERS}, storage: {{config: {config}}}}}")
        for info_hash in INFO_HASHES:
            daemon.announce(info_hash, FIRST_PORT)
        eventually(lambda: metric(daemon, "reaper_removed_peers_total") == len(INFO_HASHES), "every peer to expire")
        eventually(lambda: metric(daemon, "swarms") == 0, "no swarm to be left")

    def test_one_that_dies_loses_its_share_and_nothing_else(self, daemon: Daemon) -> None:
        with daemon.client() as client:
            for info_hash in INFO_HASHES:
                client.announce(info_hash, FIRST_PORT)
            os.kill(workers_of(daemon)[-1], signal.SIGKILL)
            eventually(lambda: "died" in daemon.log, "the death to be noticed")
            daemon.wait_until_ready()
            lost = eventually(lambda: self._lost(client), "a scrape that has all the others")
            (number,) = {place_of(each, WORKERS) for each in lost}
            assert sorted(lost) == sorted(share(number))
            said = (
                f"worker {number} died (signal SIGKILL), starting it again; its share of the swarms, one of 4, is empty"
            )
            assert daemon.log.count(said) == 1
            for info_hash in lost:
                client.announce(info_hash, FIRST_PORT)
            for first in (number, (number + 1) % WORKERS):
                assert_all_seen(client, own_first(first))

    @staticmethod
    def _lost(client: TrackerClient) -> list[bytes]:
        """The swarms that a scrape of all shows without peers, if they are of one worker."""
        asked = own_first(0)
        found = [each for each, count in zip(asked, leechers(client, asked), strict=True) if count == 0]
        return found if len({place_of(each, WORKERS) for each in found}) == 1 else []

    def test_while_one_stands_still_its_rows_are_zeros(self, daemon: Daemon) -> None:
        """As while it is being restarted: it does not answer."""
        with daemon.client() as client:
            for info_hash in INFO_HASHES:
                client.announce(info_hash, FIRST_PORT)
            issued = client.connection_id
        stuck = workers_of(daemon)[1]
        os.kill(stuck, signal.SIGSTOP)
        try:
            (number,) = [number for number in range(WORKERS) if not self._answers(daemon, number, issued)]
            for other in {*range(WORKERS)} - {number}:
                asked = own_first(other)
                expected = [int(place_of(each, WORKERS) != number) for each in asked]
                with daemon.client() as client:
                    client.connection_id = issued
                    assert_soon(partial(leechers, client, asked), expected)
        finally:
            os.kill(stuck, signal.SIGCONT)
        daemon.wait_until_ready()
        assert metric(daemon, "scrape_rows_missing_total") >= (WORKERS - 1) * len(share(number))
        assert daemon.log.count(f"worker {number} does not answer: scrapes show its swarms without peers") >= 3
        with daemon.client() as client:
            for first in range(WORKERS):
                assert_all_seen(client, own_first(first))
        assert "Traceback" not in daemon.log

    @staticmethod
    def _answers(daemon: Daemon, number: int, connection_id: bytes | None) -> bool:
        with TrackerClient(HOSTS[4], daemon.port, timeout=3.0, attempts=1) as client:
            client.connection_id = connection_id
            try:
                client.scrape(share(number)[0])
            except NoAnswer:
                return False
            return True

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_all_in_order(self, daemon: Daemon, number: signal.Signals) -> None:
        daemon.scrape(*INFO_HASHES)
        daemon.signal(number)
        assert daemon.wait() == 0
        assert "Traceback" not in daemon.log
        assert "died" not in daemon.log

    def test_a_kernel_that_does_not_steer_is_refused(self, tmp_path: Path) -> None:
        with UnderAnOldKernel(tmp_path, "memory", arguments=["--workers", "2"]) as daemon:
            daemon.start(wait=False)
            assert daemon.wait() == 1
            reason = "the kernel does not steer: Protocol not available"
            assert f"ERROR several workers on memory need to be given whole swarms, but {reason}" in daemon.log
            assert "Traceback" not in daemon.log

    def test_one_worker_needs_no_steering(self, tmp_path: Path) -> None:
        with UnderAnOldKernel(tmp_path, "memory") as daemon:
            daemon.start()
            assert workers_of(daemon) == []
            assert daemon.announce(INFO_HASHES[0], FIRST_PORT).leechers == 1
