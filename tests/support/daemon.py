"""The tracker as its operator runs it: `udptracker serve` in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.process import ChildProcess
from tests.support.udp import TrackerClient
from tests.support.waiting import eventually, free_port
from udptracker.core.wire import AnnounceResponse, Event, SwarmStats

HOSTS: Final = {4: "127.0.0.1", 6: "::1"}
"""Where a daemon listens unless told otherwise, by IP version."""

_REPOSITORY: Final = Path(__file__).parents[2]


class Daemon(ChildProcess):
    """A tracker on one free port of each of `hosts`, its metrics on another of 127.0.0.1.

    Args:
        directory: for its configuration and log; made if it is not there.
        storage: what `--storage` is given; nothing if None, so that the configuration decides.
        config: the text of its configuration file, none if empty.
        arguments: more of its command line.
        hosts: addresses to listen on.
        port: the UDP port; a free one if 0.
        environment: variables to set on top of this process's.
    """

    def __init__(
        self,
        directory: Path,
        storage: str | None = "memory",
        *,
        config: str = "",
        arguments: Sequence[str] = (),
        hosts: Sequence[str] = tuple(HOSTS.values()),
        port: int = 0,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.metrics_port = free_port()
        directory.mkdir(exist_ok=True)
        super().__init__(directory / f"udptracker-{self.port}.log")
        self._hosts = tuple(hosts)
        self._storage = storage
        self._arguments = tuple(arguments)
        self._environment = os.environ | {"PYTHONPATH": str(_REPOSITORY)} | (environment or {})
        self._config_path = directory / f"udptracker-{self.port}.yaml" if config else None
        if self._config_path is not None:
            self._config_path.write_text(config)

    @property
    def command(self) -> list[str]:
        """What an operator would type."""
        command = [sys.executable, "-m", "udptracker", "serve"]
        for host in self._hosts:
            command += ["--listen", f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"]
        command += ["--metrics", f"127.0.0.1:{self.metrics_port}"]
        if self._config_path is not None:
            command += ["--config", str(self._config_path)]
        if self._storage is not None:
            command += ["--storage", self._storage]
        return command + list(self._arguments)

    def start(self, *, wait: bool = True) -> None:
        """Start it, and return when it is ready unless told not to `wait`."""
        self.launch(self.command, self._environment)
        if wait:
            self.wait_until_ready()

    def reconfigure(self, config: str, said: str = "configuration reloaded:") -> None:
        """Have it read another configuration file (SIGHUP); return when it has `said` so once more than before."""
        assert self._config_path is not None
        before = self.log.count(said)
        self._config_path.write_text(config)
        self.signal(signal.SIGHUP)
        eventually(lambda: self.log.count(said) > before, f"it to say {said!r}")

    def wait_until_ready(self) -> None:
        """Return when `/readyz` says that the store answers."""
        eventually(lambda: self.alive_and_answers("/readyz"), f"the tracker on port {self.port} to be ready")

    def alive_and_answers(self, path: str) -> bool:
        """Whether it answers an HTTP path with 200; that it has ended fails the test with its log."""
        assert self.running, f"the tracker ended with status {self.process.returncode}:\n{self.log}"
        return self.get(path)[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """The status and text of an HTTP path of the metrics server; status 0 when nobody answers."""
        url = f"http://127.0.0.1:{self.metrics_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5.0) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def announce_url(self, family: int = 4) -> str:
        """Its announce URL by IP version."""
        host = HOSTS[family]
        return f"udp://[{host}]:{self.port}/announce" if family == 6 else f"udp://{host}:{self.port}/announce"

    @contextmanager
    def client(self, family: int = 4, source: str = "") -> Iterator[TrackerClient]:
        """A client of this tracker by IP version, sending from `source`."""
        with TrackerClient(HOSTS[family], self.port, source=source) as client:
            yield client

    def announce(
        self,
        info_hash: bytes,
        port: int,
        *,
        family: int = 4,
        source: str = "",
        left: int = 1,
        event: int = Event.STARTED,
        num_want: int = -1,
    ) -> AnnounceResponse:
        """One announce by a client that connects anew."""
        with self.client(family, source) as client:
            return client.announce(info_hash, port, left=left, event=event, num_want=num_want)

    def scrape(self, *info_hashes: bytes, family: int = 4) -> tuple[SwarmStats, ...]:
        """One scrape by a client that connects anew."""
        with self.client(family) as client:
            return client.scrape(*info_hashes)
