"""Where the microseconds of an announce go: `python -m bench.profile TRACKER`, with perf under the mixed load.

A sample is charged to the innermost function of ours in its stack, with all that C does for it, or to the kernel if
that was at work. Compiled functions are known by the names that mypyc gives them; between two of the interpreter's,
Python 3.12 and later put a small piece of machine code that perf knows by name (PYTHONPERFSUPPORT). To run under perf
costs the tracker about a tenth more.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.builds import Builds
from bench.loads import MIXED, load_options
from bench.measure import Measurement, measure
from bench.running import Start
from bench.trackers import PLAIN, ours
from udptracker.load import LoadError

_SECONDS: Final = 10.0
_SAMPLED_SECONDS: Final = 6
_SAMPLES_PER_SECOND: Final = 700
_STACK_BYTES: Final = 16384
"""With less, what C does deep below a function of ours is charged to nobody."""
_PYTHON: Final = (3, 12)
_SUPPORT: Final = "PYTHONPERFSUPPORT"


def _modules(*names: str) -> str:
    """Functions of modules of ours, in a stack: of a file, or as mypyc names what it made of them."""
    return rf"(?:/udptracker/(?:\w+/)*|CPy(?:Def|Py)_(?:\w+___)?)(?:{'|'.join(names)})(?:\.py|___)"


_PARTS: Final = (
    (r" __(?:x64_)?sys_send", "kernel: sending"),
    (r" __(?:x64_)?sys_recv", "kernel: receiving"),
    (r"_sys_writev?\b|ksys_write", "kernel: writing to the store"),
    (r"_sys_read\b|ksys_read", "kernel: reading from the store"),
    (r"\[kernel", "kernel: waiting and the rest"),
    (_modules("burst", "endpoint", "pace", "sockets"), "net: turns"),
    (_modules("batcher", "sharing", "node", "lag"), "service: batches, counts of a turn"),
    (_modules("tracker", "policy", "reasons"), "tracker: decode, decide, encode"),
    (_modules("wire", "swarm"), "codec"),
    (_modules("connection_id", "recent"), "connection id"),
    (_modules("counters", "metrics"), "counters"),
    (_modules("guard", "rules", "tables", "door", "offenders", "peers", "table", "networks"), "access: lists, limits"),
    (_modules("memory", "swarms", "blocks"), "store: memory"),
    (_modules("circuit", "journal", "replayer"), "store: what the stand-in hears"),
    (_modules("link", "segment", "bounds", "topology", "server"), "store: link, hiredis"),
    (_modules("plan", "rounds", "samples", "answers", "context", "registry"), "store: plan of a batch, results"),
    (_modules("layout"), "store: keys, peers from replies"),
    (_modules("base"), "store: the rest"),
    (r"/udptracker/storage/", "store: the rest"),
    (r"", "event loop"),
)
"""The first pattern that is found in what a sample is charged to names its part."""


_OURS: Final = re.compile("py::|CPyDef_|CPyPy_")


def shares(samples: str) -> dict[str, float]:
    """The share of each part, the largest first, from the stacks that `perf script` writes, blank lines in between."""
    counts: Counter[str] = Counter()
    for sample in samples.split("\n\n"):
        frames = sample.strip().splitlines()[1:]
        if not frames:
            continue
        charged = next((frame for frame in frames if _OURS.search(frame)), "")
        if "[kernel" in frames[0]:
            charged = "\n".join(frame for frame in frames if "[kernel" in frame)
        counts[next(part for pattern, part in _PARTS if re.search(pattern, charged))] += 1
    return {part: count / counts.total() for part, count in counts.most_common()}


def profile(name: str, start: Start) -> tuple[Measurement, dict[str, float]]:
    """A tracker under the mixed load, and the share of its parts in its CPU.

    Raises:
        LoadError: the tracker does not answer, or perf cannot look at it.
    """
    with start(load_options(MIXED, 1, _SECONDS, 1.0)) as running, TemporaryDirectory() as directory:
        path = Path(directory, "samples")
        pids = ",".join(map(str, running.pids))
        record = ["perf", "record", "--quiet", "--freq", str(_SAMPLES_PER_SECOND), "--output", str(path), "--pid", pids]
        record += ["--call-graph", f"dwarf,{_STACK_BYTES}", "--", "sleep", str(_SAMPLED_SECONDS)]
        outcome: list[str] = []
        recorder = threading.Thread(target=lambda: outcome.append(_output(record)))
        options = load_options(MIXED, running.port, _SECONDS, 1.0)
        measured = measure(name, MIXED, 1, running, options, recorder.start)
        recorder.join()
        if not path.exists():
            raise LoadError(f"perf cannot look at the tracker: {outcome[0]}")
        samples = _output(["perf", "script", "--no-inline", "--input", str(path), "--fields", "comm,ip,sym,dso"])
        return measured, shares(samples)


def _output(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return ended.stdout or ended.stderr.strip()


def main() -> int:
    """The exit status: 1 if there is nothing to profile."""
    with TemporaryDirectory() as directory:
        known = ours(Builds(Path(directory)))
        parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Where an announce's CPU goes.")
        parser.add_argument(
            "tracker", nargs="?", choices=known, default=next(iter(known)), metavar="TRACKER", help=", ".join(known)
        )
        chosen = parser.parse_args()
        if sys.version_info < _PYTHON and chosen.tracker in PLAIN:
            parser.error("Python 3.12 or later is needed for what is not compiled")
        os.environ[_SUPPORT] = "1"
        try:
            measured, parts = profile(chosen.tracker, known[chosen.tracker])
        except (LoadError, FileNotFoundError) as error:
            print(error, file=sys.stderr)
            return 1
    print(f"{measured.tracker}: {measured.tracker_us:.1f} us a request, {measured.rate:,.0f} requests/s")
    for part, share in parts.items():
        print(f"{part:40} {share:6.1%} {share * measured.tracker_us:6.2f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
