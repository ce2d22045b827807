"""`python -m bench`: every tracker under every load, in turn and several times, then one table."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Collection
from pathlib import Path
from statistics import median

from bench import chart, results
from bench.loads import LOADS, MIXED, OPEN_LOOP, load_options
from bench.measure import MIN_SECONDS, Measurement, measure
from bench.trackers import Start, trackers
from udptracker.load import LoadError

log = logging.getLogger("bench")


class Bench:
    """The runs so far.

    Args:
        seconds: that count in each.
        scale: of the number of torrents and peers.
    """

    def __init__(self, seconds: float, scale: float) -> None:
        self.measured: list[Measurement] = []
        self._seconds = seconds
        self._scale = scale

    def round(self, number: int, name: str, start: Start, loads: Collection[str]) -> None:
        """A tracker under each of the loads, started anew for each; the open loop follows the mixed load.

        Raises:
            LoadError: it does not answer.
        """
        for load in LOADS:
            if load not in loads and not (load == MIXED and OPEN_LOOP in loads):
                continue
            with start(load_options(load, 1, self._seconds, self._scale)) as running:
                options = load_options(load, running.port, self._seconds, self._scale)
                self._take(measure(name, load, number, running, options))
                if load == MIXED and OPEN_LOOP in loads:
                    half = self._reached(name) / 2
                    options = load_options(OPEN_LOOP, running.port, self._seconds, self._scale, half)
                    self._take(measure(name, OPEN_LOOP, number, running, options))

    def _reached(self, name: str) -> float:
        return median(one.rate for one in self.measured if (one.tracker, one.load) == (name, MIXED))

    def _take(self, one: Measurement) -> None:
        self.measured.append(one)
        figures = f"{one.rate:9,.0f} req/s {one.tracker_us:5.1f} + {one.store_us:4.1f} us, p99 {one.p99} us"
        log.info(
            "round %d  %-18s %-10s %s, bad %.2f%% %s",
            one.round,
            one.tracker,
            one.load,
            figures,
            100 * one.bad,
            one.errors or "",
        )


def main() -> int:
    """The exit status: 1 if a tracker did not answer."""
    found = trackers()
    names = (*LOADS, OPEN_LOOP)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Trackers side by side, in one run.")
    parser.add_argument("--rounds", type=int, default=3, help="of each tracker and load, in the order A B A B")
    parser.add_argument("--seconds", type=float, default=5.0, help="that count in each run, from 2")
    parser.add_argument(
        "--trackers", nargs="+", choices=found, default=list(found), metavar="NAME", help=", ".join(found)
    )
    parser.add_argument("--loads", nargs="+", choices=names, default=list(names), metavar="NAME", help=", ".join(names))
    parser.add_argument("--scale", type=float, default=1.0, help="of torrents and peers; below 1 to try it out")
    parser.add_argument("--output", type=Path, default=Path("build"), help="directory of benchmark.json and .svg")
    chosen = parser.parse_args()
    if chosen.seconds < MIN_SECONDS:
        parser.error(f"--seconds: expected {MIN_SECONDS:.0f} or more")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    bench = Bench(chosen.seconds, chosen.scale)
    try:
        for number in range(1, chosen.rounds + 1):
            for name in chosen.trackers:
                bench.round(number, name, found[name], chosen.loads)
    except LoadError as error:
        log.error("%s", error)
        return 1
    rows = results.rows(bench.measured)
    print(results.table(rows))
    chosen.output.mkdir(parents=True, exist_ok=True)
    results.write_json(chosen.output / "benchmark.json", bench.measured, chosen.scale)
    chart.draw(chosen.output / "benchmark.svg", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
