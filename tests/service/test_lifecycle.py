"""The daemon started, told, disturbed and ended, on real stores, by itself and with workers."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from tests.conftest import Daemons, StoreServers
from tests.service.test_supervisor import runs, workers_of
from tests.support import seccomp
from tests.support.daemon import HOSTS, Daemon
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer
from tests.support.udp import TrackerClient
from tests.support.waiting import PATIENCE, eventually, free_port
from udptracker.core import wire
from udptracker.core.swarm import IPV4, Role, StoreError
from udptracker.core.wire import Event
from udptracker.service import lifecycle
from udptracker.service.lifecycle import STOP_SECONDS
from udptracker.storage.redis.layout import REAPER_LEASE, group, swarm_key

INFO_HASH = bytes(range(20))
BOUND = 4 * STOP_SECONDS
"""Several times what is stated: a busy machine is no failure, and what is not bounded takes for ever."""

with_and_without_workers = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "workers"])


def ends_within_the_bound(daemon: Daemon) -> None:
    began = time.monotonic()
    assert daemon.stop(timeout=2 * PATIENCE) == 0
    assert time.monotonic() - began < BOUND
    assert "Traceback" not in daemon.log


class TestTheBound:
    @with_and_without_workers
    def test_a_store_that_stands_still_in_the_middle_of_a_walk(
        self, daemons: Daemons, store_servers: StoreServers, workers: str
    ) -> None:
        """Many swarms, so that the reaper is on its way all the time; its lease is to be given back then."""
        server = store_servers()
        swarms = [number.to_bytes(20, "big") for number in range(4_000)]
        stamp = str(time.time_ns())
        with server.client() as client, client.pipeline() as pipe:
            for info_hash in swarms:
                key = swarm_key(IPV4, Role.SEEDER, info_hash)
                pipe.hset(group(IPV4), key, stamp)
                pipe.hset(key, bytes(26), stamp)
            pipe.execute()
        config = "udptracker: {storage: {name: redis, config: {gc_interval: 100ms}}}"
        daemon = daemons(server.url, config=config, arguments=["--workers", workers])
        with server.client() as client:
            eventually(lambda: client.exists(REAPER_LEASE), "the reaper to be on its way", every=0.001)
        server.pause()
        try:
            ends_within_the_bound(daemon)
        finally:
            server.resume()

    def test_as_many_requests_as_may_wait(self, daemons: Daemons, store_servers: StoreServers) -> None:
        server = store_servers()
        daemon = daemons(server.url, arguments=["--workers", "1"])
        with daemon.client() as client:
            connection_id = client.connect()
            server.pause()
            try:
                for number in range(20_000):
                    request = wire.AnnounceRequest(
                        INFO_HASH, number.to_bytes(20, "big"), 0, 1, 0, Event.STARTED, bytes(4), 0, -1, 6881
                    )
                    client.send(wire.encode_announce_request(connection_id, number, request))
                    if number % 100 == 0:
                        client.connect()  # no faster than they are read
                ends_within_the_bound(daemon)
            finally:
                server.resume()

    def test_a_worker_that_stands_still(self, daemons: Daemons, valkey: StoreServer) -> None:
        daemon = daemons(valkey.url, arguments=["--workers", "2"])
        pids = workers_of(daemon)
        os.kill(pids[0], signal.SIGSTOP)
        ends_within_the_bound(daemon)
        assert not any(map(runs, pids))

    def test_a_store_that_hung_when_the_parent_died(self, daemons: Daemons, store_servers: StoreServers) -> None:
        server = store_servers()
        daemon = daemons(server.url, arguments=["--workers", "2"])
        pids = workers_of(daemon)
        server.pause()
        try:
            began = time.monotonic()
            daemon.kill()
            eventually(lambda: not any(map(runs, pids)), "every worker to end by itself", timeout=2 * PATIENCE)
            assert time.monotonic() - began < BOUND
        finally:
            server.resume()


class TestOtherSignals:
    @with_and_without_workers
    def test_none_of_them_ends_it(self, daemons: Daemons, valkey: StoreServer, workers: str) -> None:
        daemon = daemons(valkey.url, arguments=["--workers", workers])
        pids = [daemon.pid, *workers_of(daemon)]
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            for pid in pids:
                os.kill(pid, number)
        ignored = 3 * len(workers_of(daemon))  # a worker is told by its parent
        eventually(lambda: daemon.log.count("is ignored") == ignored, f"each signal to be said in {daemon.log}")
        assert daemon.announce(INFO_HASH, 6881).leechers == 1
        assert "died" not in daemon.log

    @pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
    def test_nor_while_workers_are_born(self, tmp_path: Path, valkey: StoreServer, number: signal.Signals) -> None:
        with Daemon(tmp_path, valkey.url, arguments=["--workers", "2"]) as daemon:
            daemon.start(wait=False)
            born = eventually(lambda: workers_of(daemon), "the first worker", every=0.001)
            for pid in (daemon.pid, *born):
                os.kill(pid, number)
            daemon.wait_until_ready()
            assert set(born) <= set(workers_of(daemon))


class TestAServerThatIsTooOld:
    """A real one behind a proxy that changes the version it gives."""

    @with_and_without_workers
    def test_refuses_the_start(self, tmp_path: Path, valkey: StoreServer, workers: str) -> None:
        with Proxy(valkey.port, lambda data: data.replace(b"redis_version:7", b"redis_version:5")) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}/0"
            with Daemon(tmp_path, url, arguments=["--workers", workers]) as daemon:
                daemon.start(wait=False)
                assert daemon.wait(2 * PATIENCE) == 1
                errors = [line for line in daemon.log.splitlines() if "ERROR" in line]
                assert len(errors) == 1
                assert "6.2 or later is needed" in errors[0]
                assert "listening" not in daemon.log
                assert "Traceback" not in daemon.log

    def test_a_worker_that_meets_one_later_is_tried_again(self, tmp_path: Path, valkey: StoreServer) -> None:
        old = False

        def version(data: bytes) -> bytes:
            return data.replace(b"redis_version:7", b"redis_version:5") if old else data

        with (
            Proxy(valkey.port, version) as proxy,
            Daemon(tmp_path, f"redis://127.0.0.1:{proxy.port}/0", arguments=["--workers", "2"]) as daemon,
        ):
            daemon.start()
            old = True
            os.kill(workers_of(daemon)[0], signal.SIGKILL)
            eventually(lambda: "6.2 or later is needed" in daemon.log, "the refusal to be said")
            old = False
            daemon.wait_until_ready()
            assert len(workers_of(daemon)) == 2


class FailsWhenGivenUp:
    """A service whose start is on its way when it is told to stop, and then fails: the store's refusal came in."""

    def __init__(self) -> None:
        self.stopped = False

    async def start(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise StoreError("6.2 or later is needed") from None

    async def stop(self) -> None:
        self.stopped = True


class TestAStartThatIsGivenUp:
    def test_is_told_in_a_word_if_it_would_have_failed(self, caplog: pytest.LogCaptureFixture) -> None:
        service = FailsWhenGivenUp()
        complaints = []

        async def life() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            told = asyncio.Event()
            told.set()
            await lifecycle.live(cast(lifecycle.Service, service), told, lambda: pytest.fail("it serves"))

        with caplog.at_level("INFO"):
            lifecycle.run(life())
        gc.collect()
        assert service.stopped
        assert "6.2 or later is needed" in caplog.text
        assert complaints == []


class TestListening:
    @with_and_without_workers
    def test_is_said_once_and_then_every_worker_serves(
        self, daemons: Daemons, valkey: StoreServer, workers: str
    ) -> None:
        daemon = daemons(valkey.url, arguments=["--workers", workers], hosts=["127.0.0.1"])
        eventually(lambda: "listening on udp" in daemon.log, "it to be said")
        assert daemon.log.count("listening on udp") == 1

    @pytest.mark.parametrize("root", ["udptracker", "chihaya"])
    @pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.9", "::1"])
    def test_the_ipv6_wildcard_serves_ipv4_too(self, daemons: Daemons, root: str, asked: str) -> None:
        """From the address that was asked: the client's socket takes no answer from elsewhere."""
        daemon = daemons("memory", config=f"{root}:\n  udp: {{read_pace: 0s}}", hosts=["::"])
        with TrackerClient(asked, daemon.port) as client:
            client.announce(INFO_HASH, 6881)
            second = client.announce(INFO_HASH, 6882)
            assert client.peers(second) == [client.endpoint(6881)], "a peer of its own family"


class WithoutIpv6(Daemon):
    """A tracker in a kernel that has none."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, seccomp.__file__, "ipv6", *super().command]


class TestAKernelWithoutIpv6:
    def test_what_nobody_asked_for_is_left_out(self, tmp_path: Path) -> None:
        port = free_port()
        config = f"udptracker: {{udp: {{addr: ':{port}'}}}}"
        with WithoutIpv6(tmp_path, "memory", hosts=[], port=port, config=config) as daemon:
            daemon.start()
            assert daemon.announce(INFO_HASH, 6881).leechers == 1
            assert f"not listening on [::]:{port}" in daemon.log
            eventually(lambda: "listening on udp" in daemon.log, "it to be said")
        assert daemon.log.count("listening on udp") == 1

    @pytest.mark.parametrize("host", ["::", "::1"])
    def test_what_was_named_ends_it(self, tmp_path: Path, host: str) -> None:
        with WithoutIpv6(tmp_path, "memory", hosts=[HOSTS[4], host]) as daemon:
            daemon.start(wait=False)
            assert daemon.wait() == 1
            assert f"cannot listen on {host}" in daemon.log

    def test_metrics_on_all_addresses_are_served(self, tmp_path: Path) -> None:
        port = free_port()
        with WithoutIpv6(tmp_path, "memory", hosts=[HOSTS[4]], arguments=["--metrics", f":{port}"]) as daemon:
            daemon.metrics_port = port
            daemon.start()


def test_the_last_resort_is_for_the_run_alone() -> None:
    """Whoever goes on living after it, as these tests do, is not ended by what was left of it."""
    program = """if True:
        import asyncio, time
        from udptracker.service import lifecycle

        class Idle:
            async def start(self): pass
            async def stop(self): pass

        async def life():
            told = asyncio.Event()
            await lifecycle.live(Idle(), told, told.set)

        lifecycle._LAST_RESORT_SECONDS = 4.0
        lifecycle.run(life())
        time.sleep(4.5)
        print("lives")
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.stderr) == ("lives\n", "")
