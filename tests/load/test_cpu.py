"""Whose port it is, and what CPU it used, checked on processes of the test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from tests.support.waiting import eventually
from udptracker.load import cpu

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])"


@pytest.mark.parametrize(
    ("bound", "asked"), [("127.0.0.3", "127.0.0.3"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1")]
)
def test_the_process_behind_a_port(bound: str, asked: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in bound else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((bound, 0))
        assert cpu.listeners(asked, sock.getsockname()[1]) == (os.getpid(),)


def test_another_address_is_another_process() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.3", 0))
        assert cpu.listeners("127.0.0.1", sock.getsockname()[1]) == ()


def test_children_count() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()  # the child is done burning
        seconds = cpu.cpu_seconds([parent.pid])
        assert len(seconds) == 2
        assert 0.3 <= sum(seconds.values()) < 3.0
        parent.communicate(b"\n")
        eventually(lambda: not cpu.cpu_seconds([parent.pid]), "the processes to be gone")


def test_spent_is_the_difference() -> None:
    before = cpu.cpu_seconds([os.getpid()])
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert 0.15 < cpu.spent(before, cpu.cpu_seconds([os.getpid()])) < 0.5
    assert cpu.spent({1: 5.0, 2: 1.0}, {1: 6.0, 3: 0.5}) == 1.5
