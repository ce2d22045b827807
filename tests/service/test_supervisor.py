"""Several workers behind one parent, as processes that are killed one by one."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Daemons
from tests.support.daemon import HOSTS, Daemon
from tests.support.servers import StoreServer
from tests.support.udp import NoAnswer, TrackerClient
from tests.support.waiting import eventually
from udptracker.config import Settings
from udptracker.core.counters import Counters
from udptracker.core.wire import SwarmStats
from udptracker.cores import usable_cores
from udptracker.observe.sums import merged
from udptracker.service.supervisor import Worker

INFO_HASH = bytes(range(20))
WORKERS = 2
SOURCES = [f"127.0.0.{number}" for number in range(2, 26)]
"""Enough senders that each worker is given some by the kernel: none for one of two has a chance of 2**-23."""


def workers_of(daemon: Daemon) -> list[int]:
    """The process ids of its workers: its children."""
    threads = Path(f"/proc/{daemon.pid}/task").iterdir()
    listed = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    return sorted(int(pid) for pid in listed if "udptracker.service.worker" in Path(f"/proc/{pid}/cmdline").read_text())


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def metric(daemon: Daemon, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels."""
    status, text = daemon.get("/metrics")
    assert status == 200
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"udptracker_{name}" and labels.items() <= sample.labels.items()
    )


@pytest.fixture
def daemon(daemons: Daemons, valkey: StoreServer) -> Daemon:
    """A tracker of two workers on the Valkey of the run."""
    started = daemons(valkey.url, arguments=["--workers", str(WORKERS)])
    assert len(workers_of(started)) == WORKERS
    return started


def announce_from_everywhere(daemon: Daemon, first_port: int = 6881) -> None:
    for source in SOURCES:
        daemon.announce(INFO_HASH, first_port, source=source)


class TestServing:
    def test_every_sender_sees_one_swarm(self, daemon: Daemon) -> None:
        announce_from_everywhere(daemon)
        assert daemon.scrape(INFO_HASH) == (SwarmStats(0, 0, len(SOURCES)),)

    @pytest.mark.parametrize("family", HOSTS)
    def test_any_workers_id_holds_at_the_other(self, daemon: Daemon, family: int) -> None:
        """A new socket for each announce, so that the kernel may choose another worker than issued the id."""
        with daemon.client(family) as client:
            issued = client.connect()
        for port in range(6881, 6901):
            with daemon.client(family) as client:
                client.connection_id = issued
                client.announce(INFO_HASH, port)

    def test_metrics_are_the_sum_of_all(self, daemon: Daemon) -> None:
        announce_from_everywhere(daemon)
        assert metric(daemon, "requests_total", action="announce", family="ipv4") == len(SOURCES)
        assert metric(daemon, "requests_total", action="connect", family="ipv4") == len(SOURCES)
        eventually(lambda: metric(daemon, "leechers", family="ipv4") == len(SOURCES), "the leechers, counted once")

    def test_health(self, daemon: Daemon) -> None:
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/readyz")[0] == 200


class TestADeadWorker:
    def test_is_started_again_and_said_so(self, daemon: Daemon) -> None:
        before = workers_of(daemon)
        announce_from_everywhere(daemon)
        metric(daemon, "requests_total")
        os.kill(before[0], signal.SIGKILL)
        announce_from_everywhere(daemon, 6882)  # also those whose worker has died: its successor answers
        daemon.wait_until_ready()
        after = workers_of(daemon)
        assert len(after) == WORKERS
        assert len(set(before) & set(after)) == WORKERS - 1
        died = re.findall(r"WARNING .*worker \d died \(signal SIGKILL\), starting it again", daemon.log)
        assert len(died) == 1
        assert daemon.scrape(INFO_HASH) == (SwarmStats(0, 0, 2 * len(SOURCES)),)
        assert "Traceback" not in daemon.log

    def test_is_tried_again_when_the_system_has_no_room_for_it(self, daemon: Daemon) -> None:
        before = workers_of(daemon)
        _, most = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, most))
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: "cannot be started, and is tried again" in daemon.log, "the start to fail")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        daemon.wait_until_ready()
        assert len(workers_of(daemon)) == WORKERS
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log

    def test_no_sum_falls(self, daemon: Daemon) -> None:
        announce_from_everywhere(daemon)
        assert metric(daemon, "requests_total", action="announce") == len(SOURCES)
        for pid in workers_of(daemon):
            os.kill(pid, signal.SIGKILL)
        assert metric(daemon, "requests_total", action="announce") == len(SOURCES)
        eventually(lambda: daemon.log.count("died") == WORKERS, "both deaths to be said")
        daemon.wait_until_ready()
        assert metric(daemon, "requests_total", action="announce") == len(SOURCES)
        announce_from_everywhere(daemon)
        assert metric(daemon, "requests_total", action="announce") >= 2 * len(SOURCES)

    def test_one_that_stands_still_shows(self, daemon: Daemon) -> None:
        announce_from_everywhere(daemon)
        metric(daemon, "requests_total")  # what it knows of the worker before it falls silent
        stuck = workers_of(daemon)[0]
        os.kill(stuck, signal.SIGSTOP)
        try:
            eventually(lambda: daemon.get("/readyz")[0] == 503, "it to be not ready")
            assert daemon.get("/healthz")[0] == 503
            assert metric(daemon, "requests_total", action="announce") == len(SOURCES), "a sum fell"
            assert metric(daemon, "workers") == WORKERS - 1
            status, text = daemon.get("/stats.json")  # in time for whoever asks, of which 2 s are the worker's
            assert status == 200
            assert len(json.loads(text)["workers"]) == WORKERS - 1
        finally:
            os.kill(stuck, signal.SIGCONT)
        daemon.wait_until_ready()


class TestTheEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_all_in_order(self, daemon: Daemon, number: signal.Signals) -> None:
        pids = workers_of(daemon)
        announce_from_everywhere(daemon)
        daemon.signal(number)
        assert daemon.wait() == 0
        assert not any(map(runs, pids))
        assert "Traceback" not in daemon.log
        assert "died" not in daemon.log
        with pytest.raises(NoAnswer), TrackerClient(HOSTS[4], daemon.port, timeout=0.2, attempts=1) as client:
            client.connect()

    def test_a_terminals_ctrl_c_is_for_the_parent(self, daemon: Daemon) -> None:
        """The terminal sends it to a whole process group: no worker is in the parent's."""
        groups = {os.getpgid(pid) for pid in workers_of(daemon)}
        assert os.getpgid(daemon.pid) not in groups

    @pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3])
    def test_ctrl_c_on_a_terminal_while_it_starts(self, delay: float, tmp_path: Path, valkey: StoreServer) -> None:
        """It goes to the parent's whole group, so many seconds after the first worker was born."""
        with Daemon(tmp_path, valkey.url, arguments=["--workers", str(WORKERS)]) as daemon:
            daemon.start(wait=False)
            eventually(lambda: workers_of(daemon), "the first worker", every=0.001)
            time.sleep(delay)
            pids = workers_of(daemon)
            group = os.getpgid(daemon.pid)
            for pid in (daemon.pid, *(pid for pid in pids if os.getpgid(pid) == group)):
                os.kill(pid, signal.SIGINT)
            assert daemon.wait() == 0
            assert not any(map(runs, pids))
            assert "Traceback" not in daemon.log

    @pytest.mark.slow
    def test_one_that_stands_still_is_killed_within_a_bound(self, daemon: Daemon) -> None:
        pids = workers_of(daemon)
        os.kill(pids[0], signal.SIGSTOP)
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(30.0) == 0
        assert time.monotonic() - began < 20.0
        assert not any(map(runs, pids))
        assert "did not end in time and is killed" in daemon.log

    def test_a_second_signal_ends_all_at_once(self, daemon: Daemon) -> None:
        pids = workers_of(daemon)
        os.kill(pids[0], signal.SIGSTOP)
        daemon.signal(signal.SIGTERM)
        eventually(lambda: not runs(pids[1]), "the other worker to end")
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == -signal.SIGTERM
        assert time.monotonic() - began < 2.0
        eventually(lambda: not any(map(runs, pids)), "every worker to be gone")

    def test_workers_do_not_outlive_a_killed_parent(self, daemon: Daemon) -> None:
        pids = workers_of(daemon)
        daemon.kill()
        eventually(lambda: not any(map(runs, pids)), "every worker to end by itself")


class TestStart:
    def test_a_port_in_use_is_one_clear_line(self, daemon: Daemon, valkey: StoreServer, tmp_path: Path) -> None:
        """A tracker of several workers shares its ports with nobody but them."""
        with Daemon(tmp_path / "second", valkey.url, arguments=["--workers", "2"], port=daemon.port) as second:
            second.start(wait=False)
            assert second.wait() == 1
            assert second.log.count("in use") == 1
            assert "Traceback" not in second.log

    def test_one_worker_is_one_process(self, daemons: Daemons, valkey: StoreServer) -> None:
        assert workers_of(daemons(valkey.url, arguments=["--workers", "1"])) == []

    def test_the_default_is_the_number_of_cores(self, daemons: Daemons, valkey: StoreServer) -> None:
        cores = usable_cores()
        started = daemons(valkey.url)
        assert len(workers_of(started)) == (cores if cores > 1 else 0)


async def test_the_dead_do_not_tell_when_lists_were_read() -> None:
    """However many of a worker there were: the one that lives does."""
    worker, living = Worker(0, Settings(), [b"a key"], [], None), Counters()
    living.access_refreshed, living.bytes_in = 1_700_000_000.5, 7
    for _ in range(3):
        worker._last = living.snapshot()
        worker.bury()
    assert worker._of_the_dead is not None
    together = merged([living.snapshot(), worker._of_the_dead])
    assert (together["access_refreshed"], together["bytes_in"]) == (1_700_000_000.5, 28)
