"""Fuzz by hand, with atheris, which follows what an input reaches: `python -m tests.fuzz TARGET [libFuzzer's flags]`.

    pip install atheris
    python -m tests.fuzz turn -runs=1000000 -seed=1

Each input is bounded: a second of time, 4 KB of itself, and 2 GB for the process. Of a compiled package only what is
left interpreted is followed. `--plain` does without atheris, with so many inputs of the tests' own mutator:

    python -m tests.fuzz turn --plain 1000000
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

_LIMITS = ("-timeout=1", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1")


def main() -> None:
    name, *flags = sys.argv[1:]
    if flags[:1] == ["--plain"]:
        _plain(name, *map(int, flags[1:]))
        return
    import atheris  # what only a fuzzer by hand needs

    with atheris.instrument_imports(include=["udptracker"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *_LIMITS, *flags, corpus], target.feed)
        atheris.Fuzz()


def _plain(name: str, count: int, seed: int = 1) -> None:
    from tests.fuzz.base import Mutator
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]()
    mutator = Mutator(target.seeds(), seed)
    started, longest, worst = time.monotonic(), 0.0, b""
    for _ in range(count):
        data = mutator.next()
        before = time.process_time()
        try:
            target.feed(data)
        except BaseException:
            print(f"found with {data!r}", file=sys.stderr)
            raise
        took = time.process_time() - before
        if took > longest:
            longest, worst = took, data
    seconds = time.monotonic() - started
    target.close()
    print(f"{name}: {count:,} inputs in {seconds:.0f} s, the longest {longest * 1e3:.1f} ms: {worst!r:.100}")


if __name__ == "__main__":
    main()
