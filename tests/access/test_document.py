"""The example of docs/hooks.md: built, installed as somebody else's package, checked for types, and run."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.access.support import INFO_HASH
from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.udp import Refused
from tests.support.waiting import PATIENCE, eventually
from udptracker.core import wire

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = (REPOSITORY / "docs" / "hooks.md").read_text()


def block(kind: str, holding: str) -> str:
    """The only block of code of a kind in which this text is."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if holding in text)
    return str(found)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the package, as its author has it."""
    source = tmp_path_factory.mktemp("tracker-quota")
    (source / "pyproject.toml").write_text(block("toml", "[project]"))
    (source / "tracker_quota.py").write_text(block("python", "class Quota"))
    return source


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was installed, without a network."""
    target = tmp_path_factory.mktemp("installed")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(target), str(package)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def configured(tmp_path: Path) -> str:
    """Its configuration, with files of the test's."""
    with closing(sqlite3.connect(tmp_path / "users.db")) as database, database:
        database.execute("CREATE TABLE users (name TEXT PRIMARY KEY, bytes_left INTEGER)")
        database.executemany("INSERT INTO users VALUES (?, ?)", [("alice", 10**9), ("bob", 0)])
    text = block("yaml", "name: tracker_quota:Quota")
    for directory in ("/var/lib/quota", "/var/log"):
        assert directory in text
        text = text.replace(directory, str(tmp_path))
    return text.replace("timeout: 500ms", f"timeout: {PATIENCE}s")


def on_path(installed: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{REPOSITORY}:{installed}"}


def test_its_types_are_checked(package: Path) -> None:
    run = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", "tracker_quota.py"]
    done = subprocess.run(
        run, cwd=package, env={"MYPYPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n"), done.stderr


def by_entry_point(text: str) -> str:
    return text.replace("name: tracker_quota:Quota", "name: quota").replace(
        "name: tracker_quota:TransferLog", "name: transfer log"
    )


@pytest.mark.parametrize(
    ("named", "names", "workers"),
    [
        pytest.param(str, ("tracker_quota:Quota", "tracker_quota:TransferLog"), 1, id="by module"),
        pytest.param(by_entry_point, ("quota", "transfer log"), 2, id="by entry point, with workers"),
    ],
)
def test_it_runs_in_a_tracker(
    daemons: Daemons,
    installed: Path,
    configured: str,
    tmp_path: Path,
    named: Callable[[str], str],
    names: tuple[str, str],
    workers: int,
) -> None:
    configured = named(configured)
    arguments = ["--workers", str(workers)]
    daemon = daemons("memory", config=configured, environment=on_path(installed), arguments=arguments)
    log = tmp_path / "transfers.jsonl"
    with daemon.client() as client:

        def announce(passkey: str, port: int, left: int) -> wire.AnnounceResponse:
            return client.announce(INFO_HASH, port, left=left, options=wire.encode_url_data(f"/{passkey}/announce"))

        announce("alices-own-secret", 1, 5)
        announce("bobs-own-secret", 2, 0)
        with pytest.raises(Refused, match="^quota of bob used up$"):  # noqa: RUF043  # the whole of it
            announce("bobs-own-secret", 2, 5)
        with pytest.raises(Refused, match="unapproved passkey"):
            announce("nobodys-secret", 3, 5)
    eventually(lambda: log.exists() and log.read_text().count("\n") == 2, "two lines")
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(each["user"], each["torrent"]) for each in told] == [("alice", INFO_HASH.hex()), ("bob", INFO_HASH.hex())]
    figures = daemon.get("/metrics")[1]
    decides, sees = names
    assert f'udptracker_hook_refusals_total{{hook="{decides}"}} 1.0' in figures
    assert f'udptracker_refusals_total{{reason="{decides}"}} 1.0' in figures
    assert f'udptracker_hook_drops_total{{hook="{sees}"}} 0.0' in figures


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("database: ", "databse: "), "prehooks.0.options.database: found nothing, expected"),
        (lambda text: text.replace("users.db", "none.db"), "prehooks.0: quota does not open: OperationalError: "),
        (lambda text: text.replace("name: quota", "name: quoat"), "prehooks.0.name: found 'quoat', expected 'quota'"),
        (lambda text: text.replace("name: quota", "name: tracker_quota:TransferLog"), "makes a TransferLog, and no"),
    ],
    ids=["option", "open", "name", "kind"],
)
def test_what_is_wrong_with_it_refuses_the_start(
    installed: Path, configured: str, tmp_path: Path, change: Callable[[str], str], told: str
) -> None:
    changed = change(by_entry_point(configured)).replace("options: {database", "options: {file: x, database", 1)
    with Daemon(tmp_path, config=changed, environment=on_path(installed)) as daemon:
        daemon.start(wait=False)
        assert daemon.process.wait(PATIENCE) != 0
        assert told in daemon.log
        assert "Traceback" not in daemon.log


def test_a_reload_refuses_what_is_wrong_and_goes_on(daemons: Daemons, installed: Path, configured: str) -> None:
    daemon = daemons("memory", config=configured, environment=on_path(installed))
    broken = configured.replace("users.db", "none.db")
    daemon.reconfigure(broken, "the configuration is refused: what was read before still holds")
    with daemon.client() as client:
        options = wire.encode_url_data("/bobs-own-secret/announce")
        with pytest.raises(Refused, match="quota of bob"):
            client.announce(INFO_HASH, 2, left=5, options=options)
