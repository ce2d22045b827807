"""Sockets and the metrics server as `app` puts them together; the whole of it runs in `test_end_to_end`."""

from __future__ import annotations

import logging
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.waiting import free_port
from udptracker import config
from udptracker.config import Settings
from udptracker.core.counters import Counters
from udptracker.service.app import bind_all, metrics_server, report, serve


def settings(**tree: Any) -> Settings:
    return config.from_tree(tree, "udptracker", {}).settings


def names(sockets: list[socket.socket]) -> list[tuple[str, int]]:
    return [sock.getsockname()[:2] for sock in sockets]


class TestBindAll:
    @pytest.mark.parametrize("workers", [1, 3])
    def test_every_worker_has_a_socket_on_each_address(self, workers: int) -> None:
        port = free_port()
        bound = bind_all(settings(udp={"addr": [f"127.0.0.1:{port}", f"[::1]:{port}"]}), workers)
        assert list(map(names, bound)) == [[("127.0.0.1", port), ("::1", port)]] * workers
        self.close(bound)

    def test_a_host_left_out_is_both_families(self) -> None:
        port = free_port()
        bound = bind_all(settings(udp={"addr": f":{port}"}), 1)
        assert names(bound[0]) == [("0.0.0.0", port), ("::", port)]
        self.close(bound)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_one_that_fails_is_named_and_none_stays_bound(self, workers: int) -> None:
        free, taken = free_port(), free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", taken))
            both = settings(udp={"addr": [f"127.0.0.1:{free}", f"127.0.0.1:{taken}"]})
            with pytest.raises(OSError, match=rf"^cannot listen on 127\.0\.0\.1 port {taken}: Address already in use$"):
                bind_all(both, workers)
        self.close(bind_all(both, workers))

    @pytest.mark.parametrize("workers", [1, 2])
    def test_beside_one_that_shares_its_port(self, workers: int) -> None:
        port = free_port()
        one = settings(udp={"addr": f"127.0.0.1:{port}"})
        bound = bind_all(one, 2)
        with pytest.raises(OSError, match="in use"):
            bind_all(one, workers)
        self.close(bound)

    @staticmethod
    def close(bound: list[list[socket.socket]]) -> None:
        for sockets in bound:
            for sock in sockets:
                sock.close()


class TestServe:
    def test_a_bind_failure_is_one_error_and_a_status(self, caplog: pytest.LogCaptureFixture) -> None:
        status = serve(settings(udp={"addr": "192.0.2.1:6969", "private_key": "secret"}))
        assert status == 1
        assert [record.message for record in caplog.records] == [
            "cannot listen on 192.0.2.1 port 6969: Cannot assign requested address"
        ]

    def test_a_made_key_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        assert serve(settings(udp={"addr": "192.0.2.1:6969"})) == 1
        warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert "no udp.private_key" in warnings[0]


class TestReport:
    def test_a_line_each(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        report(settings(udp={"addr": ["127.0.0.1:6969", "[::1]:6970"]}))
        assert [record.message for record in caplog.records] == [
            "listening on udp 127.0.0.1:6969",
            "listening on udp [::1]:6970",
            "storing peers in memory: gone when this process is",
        ]

    def test_no_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        broker = {"redis_broker": "redis://swordfish@127.0.0.1:6379/3"}
        report(settings(udp={"private_key": "hunter2"}, storage={"name": "redis", "config": broker}))
        assert "Redis at 127.0.0.1:6379, database 3" in caplog.text
        assert "swordfish" not in caplog.text
        assert "hunter2" not in caplog.text


class TestMetricsServer:
    def test_off_is_none(self) -> None:
        nothing = metrics_server(
            settings(metrics_addr="off"), snapshots=dict, alive=lambda: True, ready=lambda: (True, "")
        )
        assert nothing is None

    def test_sums_what_the_kernel_dropped(self) -> None:
        port = free_port()
        snapshots = {
            str(worker): {**Counters().snapshot(), "kernel_drops": drops} for worker, drops in [(0, 3), (1, 4)]
        }
        server = metrics_server(
            settings(metrics_addr=f"127.0.0.1:{port}"),
            snapshots=lambda: snapshots,
            alive=lambda: True,
            ready=lambda: (False, "the store does not answer"),
        )
        assert server is not None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as response:
                lines = response.read().decode().splitlines()
            samples = [line for line in lines if "kernel" in line and not line.startswith("#")]
            assert [sample.rpartition(" ")[2] for sample in samples] == ["7.0"]
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5.0)
            with refused.value as error:
                assert error.code == 503
                assert "the store does not answer" in error.read().decode()
        finally:
            server.stop()

    def test_an_address_in_use_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match=rf"^cannot serve metrics on 127\.0\.0\.1 port {port}: "):
                metrics_server(
                    settings(metrics_addr=f"127.0.0.1:{port}"),
                    snapshots=dict,
                    alive=lambda: True,
                    ready=lambda: (True, ""),
                )
