"""A tracker under steady load while what happens in a long life happens in a short one: peers go stale and are reaped,
workers die, the store is restarted. What it holds is recorded all the while."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.support.daemon import Daemon
from tests.support.waiting import PATIENCE

CONFIG: Final = """
udptracker:
  announce_interval: 10s
  storage:
    config: {peer_lifetime: 20s, gc_interval: 2s}
"""
"""Every peer is heard again within ten seconds or so, or is stale."""

MARK_SECONDS: Final = 300.0
"""After which everything has settled, and from which on nothing may grow."""

_SAMPLE_SECONDS: Final = 1.0
_MINUTE: Final = 60
"""Seconds."""
_PEERS_A_SECOND: Final = 8
"""Peers of the world for each request a second: each announces every eight seconds on average."""


@dataclass(frozen=True)
class State:
    """Of all processes of a tracker together, `seconds` after the load began: bytes resident, open files, threads,
    tasks on the event loops, and the 99th percentile of the latency, in seconds."""

    seconds: float
    resident: float
    files: float
    threads: float
    tasks: float
    p99: float


@dataclass(frozen=True)
class Minute:
    """A minute of a soak, or what is left of it at the end.

    Attributes:
        minute: its number, from 1.
        state: the medians of what was seen in it; None if the tracker never answered.
        answered, failed, lost: requests, as the generator counted them.
        client_p99: the median of the 99th percentiles of its seconds, in seconds, as the generator measured them from
            when a request was due.
        incidents: what happened in it, by name.
    """

    minute: int
    state: State | None
    answered: int
    failed: int
    lost: int
    client_p99: float
    incidents: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a soak: `mark` and `end` are medians of the states around them, `unsent` what the generator had no
    time to send."""

    store: str
    seconds: float
    rate: float
    requests: int
    lost: int
    unsent: int
    mark: State
    end: State
    minutes: tuple[Minute, ...]

    def write(self, folder: Path) -> None:
        """Write the curves into a file of the folder."""
        folder.mkdir(exist_ok=True)
        (folder / f"soak-{self.store}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


def processes(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            threads = list(Path(f"/proc/{parent}/task").iterdir())
            found += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            continue  # it has ended
    return found


def soak(
    daemon: Daemon, store: str, *, seconds: float, rate: int, incidents: Mapping[str, Callable[[], None]], folder: Path
) -> Outcome:
    """Load a tracker for so long, with these incidents one after the other, over and over, but none at the end.

    Args:
        store: names the outcome.
        incidents: what happens, by name: six times in all, or once a minute if that is more.
        folder: for the load's report.
    """
    report = folder / "load.json"
    command = [sys.executable, "-m", "udptracker", "load", f"udp://127.0.0.1:{daemon.port}", "--rate", str(rate)]
    command += ["--duration", str(seconds), "--warmup", "0.1", "--json", str(report)]
    command += ["--peers", str(rate * _PEERS_A_SECOND), "--torrents", "2000", "--sources", "16"]
    mark = min(MARK_SECONDS, seconds / 4)
    between = min(seconds / 7, 60.0)
    states: list[State] = []
    happened: list[tuple[float, str]] = []
    with (folder / "load.log").open("wb") as log:
        load = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        began = time.monotonic()
        names = itertools.cycle(incidents)
        while load.poll() is None:
            elapsed = time.monotonic() - began
            assert elapsed < seconds + 6 * PATIENCE, (folder / "load.log").read_text()
            if (len(happened) + 1) * between < elapsed < seconds - mark:
                happened.append((elapsed, next(names)))
                incidents[happened[-1][1]]()
            if elapsed < seconds and (state := _state(daemon, elapsed)):
                states.append(state)
            time.sleep(_SAMPLE_SECONDS)
    finally:
        load.kill()
        load.wait(PATIENCE)
    assert load.returncode == 0, (folder / "load.log").read_text()
    outcome = json.loads(report.read_text())
    requests = outcome["requests"]
    width = mark / 3
    return Outcome(
        store=store,
        seconds=seconds,
        rate=outcome["requests_per_second"],
        requests=requests["sent"],
        lost=requests["lost"],
        unsent=requests["unsent"],
        mark=_around(mark, width, states),
        end=_around(seconds - width, width, states),
        minutes=tuple(_minutes(outcome["intervals"], states, happened)),
    )


def _minutes(
    intervals: Sequence[dict[str, Any]], states: Sequence[State], happened: Sequence[tuple[float, str]]
) -> Iterator[Minute]:
    """The minutes of a run, from its seconds as the generator counted them, the states and the incidents."""
    for place, start in enumerate(range(0, len(intervals), _MINUTE)):
        seconds = intervals[start : start + _MINUTE]
        end = start + _MINUTE
        within = [state for state in states if start <= state.seconds < end]
        yield Minute(
            minute=place + 1,
            state=_median(within) if within else None,
            answered=sum(second["answered"] for second in seconds),
            failed=sum(second["failed"] for second in seconds),
            lost=sum(second["lost"] for second in seconds),
            client_p99=median(second["latency"]["p99"] for second in seconds) / 1e6,
            incidents=tuple(name for at, name in happened if start <= at < end),
        )


def _state(daemon: Daemon, elapsed: float) -> State | None:
    """What it holds now; None while it does not answer, or in the middle of a change."""
    status, text = daemon.get("/stats.json")
    if status != 200:
        return None
    stats = json.loads(text)
    p99 = stats["recent"]["latency"]["all"]["p99"]
    tasks = sum(worker["tasks"] for worker in stats["workers"])
    resident = files = threads = 0
    try:
        for pid in processes(daemon.pid):
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            resident += 1024 * int(fields["VmRSS"].split()[0])
            threads += int(fields["Threads"])
            files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (OSError, KeyError):  # a process has ended just now
        return None
    return State(elapsed, resident, files, threads, tasks, p99 or 0.0)


def _around(seconds: float, width: float, states: Sequence[State]) -> State:
    """The median of each figure, of the states from so many seconds before to as many after, and of three at least."""
    assert states, "the tracker never answered"
    nearest = sorted(states, key=lambda state: abs(state.seconds - seconds))
    within = [state for state in nearest if abs(state.seconds - seconds) <= width]
    return _median(within if len(within) >= 3 else nearest[:3])


def _median(states: Sequence[State]) -> State:
    return State(*(median(column) for column in zip(*map(astuple, states), strict=True)))
