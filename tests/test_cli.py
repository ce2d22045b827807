"""The command line in a process of its own, as an operator meets it."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.udp import Refused
from tests.support.waiting import PATIENCE, eventually, free_port
from udptracker import __version__, build

REPOSITORY: Final = Path(__file__).parents[1]


def udptracker(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a command that ends by itself prints, and its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "udptracker", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=REPOSITORY,
        env=os.environ | environment,
    )


def refused(*arguments: str | Path, **environment: str) -> list[str]:
    """The lines on standard error of a command that is refused; none is of a traceback."""
    done = udptracker(*arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def test_version_and_help() -> None:
    for flag in ("--version", "-V"):
        assert udptracker(flag).stdout == f"udptracker {__version__} ({build.kind()})\n"
    text = udptracker("--help").stdout
    for command in ("serve", "check", "announce", "scrape", "load"):
        assert f"\n    {command} " in text


@pytest.mark.parametrize(
    ("arguments", "needless"),
    [
        (("--version",), {"pydantic", "yaml", "rich", "uvloop", "redis", "prometheus_client"}),
        (("scrape", "--help"), {"pydantic", "yaml", "rich", "uvloop", "redis", "prometheus_client"}),
        (("check", "configs/minimal.yaml"), {"uvloop", "prometheus_client", "rich", "hiredis"}),
    ],
    ids=["version", "scrape", "check"],
)
def test_a_command_loads_what_it_runs(arguments: tuple[str, ...], needless: set[str]) -> None:
    program = f"""if True:
        import sys
        from udptracker.cli import main
        try:
            main({arguments!r})
        finally:
            print(*sys.modules, file=sys.stderr)
    """
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert set(done.stderr.split()) & needless == set()


def test_an_unknown_command_is_refused() -> None:
    assert "invalid choice: 'sevre'" in refused("sevre")[-1]


# ------------------------------------------------------------------------------------------------------- check


def test_check_prints_what_a_file_comes_to(tmp_path: Path) -> None:
    file = tmp_path / "udptracker.yaml"
    file.write_text(
        "chihaya: {http: {addr: ':80'}, udp: {private_key: s3cr3t, max_numwant: 60},"
        " storage: {name: redis, config: {redis_broker: 'redis://${PASSWORD}@localhost/1'}}}"
    )
    done = udptracker("check", file, PASSWORD="s3cr3t")
    assert done.returncode == 0
    assert done.stderr == "warning: chihaya.http: announces over HTTP are not served, only those over UDP\n"
    body = yaml.safe_load(done.stdout)["udptracker"]
    assert body["announce_interval"] == "30m"
    assert body["udp"]["max_numwant"] == 60
    assert body["udp"]["private_key"] == ["***"]
    assert body["storage"]["config"]["redis_broker"] == "redis://***@localhost/1"
    assert "s3cr3t" not in done.stdout


def test_check_prints_every_fault(tmp_path: Path) -> None:
    file = tmp_path / "udptracker.yaml"
    file.write_text("udptracker: {announce_intervall: 1m, udp: {max_numwant: ten, private_key: 5}}")
    assert sorted(refused("check", file)) == [
        "udptracker.announce_intervall: found an unknown key, expected 'announce_interval', or none",
        "udptracker.udp.max_numwant: found 'ten', expected an integer of 0 or more",
        "udptracker.udp.private_key: found (hidden), expected a text or a list of texts",
    ]


@pytest.mark.parametrize("command", [("check",), ("serve", "--config"), ("--config",)])
def test_a_file_that_cannot_be_read_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert refused(*command, missing) == [f"{missing}: No such file or directory"]
    assert refused(*command, tmp_path) == [f"{tmp_path}: Is a directory"]


def test_check_without_a_file_looks_at_the_environment() -> None:
    done = udptracker("check", UDPTRACKER_WORKERS="1", UDPTRACKER_UDP_PRIVATE_KEY="s3cr3t")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  workers: 1  # UDPTRACKER_WORKERS" in done.stdout.splitlines()
    assert "s3cr3t" not in done.stdout
    (line,) = refused("check", UDPTRACKER_WORKERS="many")
    assert line == "UDPTRACKER_WORKERS: found 'many', expected an integer from 1 to 1024"


# ------------------------------------------------------------------------------------------------------- serve


def test_the_environment_alone_configures_it(daemons: Daemons, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cr3t\n")
    environment = {
        "UDPTRACKER_ANNOUNCE_INTERVAL": "20m",
        "UDPTRACKER_UDP_PRIVATE_KEY_FILE": str(tmp_path / "key"),
        "UDPTRACKER_STORAGE_NAME": "memory",
        "UDPTRACKER_UDP_ADDR": "127.0.0.1:1",
    }
    daemon = daemons(None, environment=environment)
    assert daemon.announce(bytes(20), 6881).interval == 1200
    assert "private_key" not in daemon.log


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--listen", ":1", "--listen", "x"), "--listen: found 'x', expected an address such as"),
        (("--metrics", "on"), "--metrics: found 'on', expected an address such as 127.0.0.1:6880, or off"),
        (("--storage", "s3cr3t"), "--storage: found (hidden), expected memory or a URL of one of redis://"),
        (("--workers", "-1"), "--workers: found '-1', expected an integer from 1 to 1024"),
        (("--log-level", "loud"), "--log-level: found 'loud', expected 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_flag_is_refused_by_its_name(flags: tuple[str, ...], told: str) -> None:
    (line,) = refused("serve", *flags)
    assert line.startswith(told)


def test_a_fault_of_the_file_is_told_by_its_path_whatever_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "udptracker.yaml"
    file.write_text("udptracker: {udp: {max_numwant: ten}, log_level: loud}")
    assert sorted(refused("--config", file, "--listen", "x", "--log-level", "info")) == [
        "--listen: found 'x', expected an address such as 0.0.0.0:6969, [::]:6969 or :6969",
        "udptracker.udp.max_numwant: found 'ten', expected an integer of 0 or more",
    ]


def test_serve_says_where_it_listens_and_what_it_stores_in(daemons: Daemons) -> None:
    daemon = daemons(config="udptracker: {http: {}, udp: {private_key: s3cr3t, addr: '127.0.0.1:1'}}")
    daemon.stop()
    # Each line is time, level, message: the date and the time are two words.
    assert [line.split(" ", 2)[2] for line in daemon.log.splitlines()] == [
        f"INFO udptracker {__version__} ({build.kind()}) on Python {platform.python_version()}",
        "WARNING udptracker.http: announces over HTTP are not served, only those over UDP",
        f"INFO metrics on http://127.0.0.1:{daemon.metrics_port}/metrics",
        f"INFO listening on udp 127.0.0.1:{daemon.port}",
        f"INFO listening on udp [::1]:{daemon.port}",
        "INFO the store is memory: gone when this process is",
        "INFO stopped",
    ]


def test_the_journal_stamps_lines_itself(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / f"udptracker-{port}.log"
    log.touch()
    journal = f"{log.stat().st_dev}:{log.stat().st_ino}"
    arguments = ("--log-level", "warning")
    with Daemon(tmp_path, port=port, arguments=arguments, environment={"JOURNAL_STREAM": journal}) as daemon:
        daemon.start()
        (line,) = daemon.log.splitlines()
    assert line.startswith("<4>WARNING no udp.private_key: made a random one")


@pytest.mark.parametrize("log_peers", ["false", "true"])
def test_debugging_tells_each_refused_request(daemons: Daemons, log_peers: str) -> None:
    daemon = daemons(config=f"udptracker: {{log_level: debug, log_peers: {log_peers}}}")
    for _ in range(20):
        with daemon.client() as client, pytest.raises(Refused):
            client.announce(bytes(20), 0)
    daemon.stop()
    sender = " from 127.0.0.1" if log_peers == "true" else ""
    told = [line for line in daemon.log.splitlines() if line.endswith(f"DEBUG refused a request{sender}: invalid port")]
    assert len(told) == 20
    assert ("127.0.0.1: " in daemon.log) is (log_peers == "true")


def test_a_log_of_json(daemons: Daemons) -> None:
    daemon = daemons(config="udptracker: {log_format: json}")
    daemon.stop()
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert lines[0]["message"].startswith(f"udptracker {__version__}")
    assert lines[-1]["message"] == "stopped"
    assert {line["level"] for line in lines} == {"INFO", "WARNING"}


def test_flags_are_serves_when_no_command_is_given(tmp_path: Path) -> None:
    with PlainDaemon(tmp_path, hosts=("127.0.0.1",)) as daemon:
        daemon.start()
        assert daemon.running


class PlainDaemon(Daemon):
    """`udptracker FLAGS` without the word serve."""

    @property
    def command(self) -> list[str]:
        return [word for word in super().command if word != "serve"]


@pytest.mark.parametrize("flag", ["--listen", "--metrics"])
def test_an_address_in_use_is_one_line(flag: str, daemons: Daemons) -> None:
    taken = daemons(hosts=("127.0.0.1",))
    ports = {"--listen": free_port(), "--metrics": free_port()}
    ports[flag] = {"--listen": taken.port, "--metrics": taken.metrics_port}[flag]
    words = [word for name, port in ports.items() for word in (name, f"127.0.0.1:{port}")]
    done = udptracker("serve", "--log-level", "error", *words)
    what = {"--listen": "listen", "--metrics": "serve metrics"}[flag]
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"ERROR cannot {what} on 127.0.0.1 port {ports[flag]}: Address already in use")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals, daemons: Daemons) -> None:
    daemon = daemons(hosts=("127.0.0.1",))
    daemon.signal(number)
    assert daemon.wait() == 0
    eventually(lambda: daemon.log.endswith("INFO stopped\n"), "the last line of the log")
