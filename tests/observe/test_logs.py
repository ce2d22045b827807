"""Logging as an operator reads it, in a process of its own, since it belongs to the whole process."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from datetime import datetime

import pytest

from udptracker.observe.logs import LEVELS, MOST_ALIKE, MOST_KINDS, WINDOW, Repeats

_PROGRAM = """
import logging, sys
from udptracker.observe import logs
logs.configure(*sys.argv[1:])
for level in logs.LEVELS:
    logging.getLogger("udptracker.part").log(getattr(logging, level.upper()), "%s line", level)
"""


def said(*arguments: str, journal: bool = False, program: str = _PROGRAM) -> list[str]:
    """The lines on standard error after `configure(*arguments)`; none go to standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    with tempfile.TemporaryFile() as file:
        if journal:
            status = os.fstat(file.fileno())
            environment["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        run = [sys.executable, "-c", program, *arguments]
        ended = subprocess.run(run, env=environment, stdout=subprocess.PIPE, stderr=file, timeout=30.0, check=True)
        assert ended.stdout == b""
        file.seek(0)
        return file.read().decode().splitlines()


@pytest.mark.parametrize("level", LEVELS)
def test_from_its_level_on_with_the_priority_for_the_journal(level: str) -> None:
    heard = LEVELS[LEVELS.index(level) :]
    priority = {"debug": 7, "info": 6, "warning": 4, "error": 3}
    assert said(level, journal=True) == [f"<{priority[each]}>{each.upper()} {each} line" for each in heard]


def test_the_time_comes_first_with_its_zone() -> None:
    (line,) = said("error")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d ERROR error line", line)


def test_a_prefix_tells_who_speaks() -> None:
    assert said("error", "worker 1: ", journal=True) == ["<3>ERROR worker 1: error line"]


def test_a_variable_that_names_another_stream_is_not_believed() -> None:
    """A shell in a unit hands it on to what it runs, whatever their standard error is."""
    environment = os.environ | {"JOURNAL_STREAM": "8:12345"}
    run = [sys.executable, "-c", _PROGRAM, "error"]
    ended = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=30.0, check=True)
    assert not ended.stderr.startswith("<")


@pytest.mark.parametrize("journal", [False, True])
def test_json(journal: bool) -> None:
    lines = said("info", "worker 1: ", "json", journal=journal)
    before = ["<6>", "<4>", "<3>"] if journal else [""] * 3
    objects = [json.loads(line.removeprefix(mark)) for mark, line in zip(before, lines, strict=True)]
    assert [(each["level"], each["message"]) for each in objects] == [
        (level.upper(), f"{level} line") for level in LEVELS[1:]
    ]
    assert {(each["logger"], each["process"]) for each in objects} == {("udptracker.part", "worker 1")}
    assert all(datetime.fromisoformat(each["timestamp"]).tzinfo for each in objects)


def test_the_library_for_json_is_loaded_only_for_it() -> None:
    program = _PROGRAM + "\nprint(*sys.modules, file=sys.stderr)"
    assert "pythonjsonlogger" not in said("error", program=program)[-1].split()


def test_every_line_of_a_traceback_has_the_priority() -> None:
    program = _PROGRAM + "\ntry: 1 / 0\nexcept ZeroDivisionError: logging.exception('failed')"
    lines = said("error", journal=True, program=program)
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


class Heard(logging.Handler):
    """What comes through `Repeats` at the times of a clock that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.lines: list[str] = []
        self.repeats = Repeats(self.emit, lambda: self.now)
        self.addFilter(self.repeats)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def say(self, text: str, line: int = 1, level: int = logging.WARNING) -> None:
        self.handle(logging.LogRecord("udptracker.part", level, "part.py", line, text, None, None))


def test_lines_of_a_kind_are_counted_beyond_a_few() -> None:
    heard = Heard()
    for _ in range(MOST_ALIKE + 10):
        heard.say("one flaps")
    heard.say("another flaps")
    heard.say("one flaps", line=2)
    few = MOST_ALIKE * ["one flaps"]
    assert heard.lines == [*few, "another flaps", "one flaps"]
    heard.now += WINDOW
    heard.say("later", line=3)
    summary = "10 more lines like this were left out: one flaps"
    assert heard.lines == [*few, "another flaps", "one flaps", summary, "later"]
    heard.say("one flaps")
    assert heard.lines[-1] == "one flaps"


def test_a_place_that_never_says_the_same_twice_is_bounded_as_well() -> None:
    heard = Heard()
    for n in range(1000):
        heard.say(f"flap {n}")
    few = [f"flap {n}" for n in range(MOST_KINDS + MOST_ALIKE)]
    assert heard.lines == few
    heard.now += WINDOW
    heard.say("later", line=3)
    summary = f"{1000 - len(few)} more lines like this were left out: flap 999"
    assert heard.lines == [*few, summary, "later"]


def test_a_bad_call_harms_nobody_and_is_told() -> None:
    program = _PROGRAM + "\nlogging.warning('%d of them', 'some'); logging.warning('and on')"
    lines = said("warning", program=program)
    assert "--- Logging error ---" in lines
    assert any("%d format" in line for line in lines)
    assert lines[-1].endswith("WARNING and on")


def test_what_was_left_out_is_told_at_the_end() -> None:
    program = _PROGRAM + "\nfor n in range(9): logging.warning('flap')"
    lines = said("warning", journal=True, program=program)
    assert lines[-1] == "<4>WARNING 4 more lines like this were left out: flap"


def test_few_lines_of_a_kind_are_told_as_they_are() -> None:
    heard = Heard()
    for n in range(3 * MOST_ALIKE):
        heard.say(f"now and then {n}")
        heard.now += WINDOW / MOST_ALIKE
    assert heard.lines == [f"now and then {n}" for n in range(3 * MOST_ALIKE)]


def test_debugging_lines_are_never_left_out() -> None:
    heard = Heard()
    for _ in range(100):
        heard.say("refused", level=logging.DEBUG)
    assert len(heard.lines) == 100


@pytest.mark.parametrize(
    ("log_peers", "line"),
    [(True, "DEBUG refused a request from 2001:db8::1: bad port"), (False, "DEBUG refused a request: bad port")],
)
def test_refusals_are_told_when_debugging(log_peers: bool, line: str) -> None:
    program = f"""if True:
        import sys
        from ipaddress import ip_address
        from udptracker.observe import logs
        logs.configure(sys.argv[1])
        tell = logs.refusals({log_peers})
        if tell is not None:
            tell("bad port", ip_address("2001:db8::1").packed)
    """
    assert said("debug", journal=True, program=program) == [f"<7>{line}"]
    assert said("info", journal=True, program=program) == []


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


def test_a_signals_handler_may_log_in_the_middle_of_a_line() -> None:
    """As those of a process that has just begun do; in a process of its own, which would else stand still for ever."""
    program = """
import logging, signal
from udptracker.observe import logs
logs.configure("info")
log = logging.getLogger("a test")
heard = 0
def hear(*_):
    global heard
    heard += 1
    log.warning("heard the signal %d", heard)
signal.signal(signal.SIGALRM, hear)
while heard < 1000:
    signal.setitimer(signal.ITIMER_REAL, 0.00001 * (1 + heard % 10))
    for _ in range(10):
        log.warning("a line")
"""
    assert not [line for line in said(program=program) if "a line" not in line and "heard the signal" not in line]
