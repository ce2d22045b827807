"""Logging as an operator reads it, in a process of its own, since it belongs to the whole process."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from udptracker.observe.logs import LEVELS

_PROGRAM = """
import logging, sys
from udptracker.observe import logs
logs.configure(*sys.argv[1:])
for level in logs.LEVELS:
    logging.getLogger("udptracker.part").log(getattr(logging, level.upper()), "%s line", level)
"""


def said(*arguments: str, journal: bool = False) -> list[str]:
    """The lines on standard error after `configure(*arguments)`; none go to standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    if journal:
        environment["JOURNAL_STREAM"] = "8:12345"
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30.0,
        check=True,
    )
    assert ended.stdout == ""
    return ended.stderr.splitlines()


@pytest.mark.parametrize("level", LEVELS)
def test_from_its_level_on(level: str) -> None:
    heard = LEVELS[LEVELS.index(level) :]
    assert said(level, journal=True) == [f"{each.upper()} {each} line" for each in heard]


def test_the_time_comes_first() -> None:
    (line,) = said("error")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR error line", line)


def test_a_strangers_words_are_one_printable_line() -> None:
    program = """if True:
        import logging
        from udptracker.observe import logs
        logs.configure("info")
        try:
            raise ValueError("\\x1b[31m\\x9b")
        except ValueError as error:
            logging.error("it says %s", "\\x1b]0;owned\\x07\\n")
            logging.exception("failed")
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30.0, check=True)
    first, *lines = ended.stderr.splitlines()
    assert first.endswith(r"ERROR it says \x1b]0;owned\x07\n")
    assert lines[-1] == r"ValueError: \x1b[31m\x9b"
    assert all(line.isprintable() for line in lines)


def test_a_prefix_tells_who_speaks() -> None:
    assert said("error", "worker 1: ", journal=True) == ["ERROR worker 1: error line"]
