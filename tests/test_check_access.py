"""`udptracker check FILE --access`: what lists and hooks would refuse a start for, told before one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE

HASH = "aa" * 20


def check(directory: Path, *flags: str, **body: Any) -> tuple[int, list[str]]:
    """The exit status and the lines on standard error."""
    file = directory / "udptracker.yaml"
    file.write_text(json.dumps({"udptracker": body}))
    run = [sys.executable, "-m", "udptracker", "check", str(file), *flags]
    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.splitlines()


def test_what_can_decide(tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.write_text(f"{HASH}\n")
    prehooks = [{"name": "tests.access.some_hooks:AtOnce"}]
    access = {"torrents": {"deny_from": str(listed)}}
    status, lines = check(tmp_path, "--access", access=access, prehooks=prehooks)
    assert (status, lines) == (0, ["access: lists are read and hooks open"])


def test_every_fault_of_both_is_named(tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.write_text(f"{HASH}\nno hash\n")
    prehooks = [{"name": "tests.access.some_hooks:Nowhere"}]
    body = {"access": {"torrents": {"deny_from": str(listed)}}, "prehooks": prehooks}
    status, lines = check(tmp_path, "--access", **body)
    assert status == 1
    assert [line.split(": ")[:2] for line in lines] == [["access", f"{listed}, line 2"], ["access", "prehooks.0.name"]]
    assert check(tmp_path, **body) == (0, []), "without it no code is loaded and no list is read"


def test_with_the_store_the_worse_of_both_is_the_status(tmp_path: Path) -> None:
    status, lines = check(tmp_path, "--access", "--store", prehooks=[{"name": "tests.access.some_hooks:Nowhere"}])
    assert status == 1
    assert lines[-1] == "store: memory needs nothing"
