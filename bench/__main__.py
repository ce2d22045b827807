"""`python -m bench`: every tracker under every load, in turn and several times, then one table."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import chart, results
from bench.builds import Builds
from bench.loads import LOADS, MIXED, OPEN_LOOP, load_options
from bench.measure import MIN_SECONDS, Measurement, measure
from bench.running import Start
from bench.trackers import SLOW, trackers
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

    def round(self, number: int, chosen: Mapping[str, Start], loads: Collection[str]) -> None:
        """Each load on each tracker, one after the other, each started anew; the open loop follows the mixed load.

        Raises:
            LoadError: one does not answer.
        """
        for load in LOADS:
            if load not in loads and not (load == MIXED and OPEN_LOOP in loads):
                continue
            for name, start in chosen.items():
                try:
                    self._measure(number, name, start, load, then_half=load == MIXED and OPEN_LOOP in loads)
                except LoadError as error:
                    raise LoadError(f"{name}, {load}: {error}") from error

    def _measure(self, number: int, name: str, start: Start, load: str, *, then_half: bool) -> None:
        with start(load_options(load, 1, self._seconds, self._scale)) as running:
            options = load_options(load, running.port, self._seconds, self._scale)
            self._take(measure(name, load, number, running, options))
            if then_half:
                half = self._reached(name) / 2
                options = load_options(OPEN_LOOP, running.port, self._seconds, self._scale, half)
                self._take(measure(name, OPEN_LOOP, number, running, options))

    def _reached(self, name: str) -> float:
        return median(one.rate for one in self.measured if (one.tracker, one.load) == (name, MIXED))

    def _take(self, one: Measurement) -> None:
        self.measured.append(one)
        figures = f"{one.rate:9,.0f} req/s {one.tracker_us:5.1f} + {one.store_us:4.1f} us, {one.peers:4.1f} peers"
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
    """The exit status: 1 if a tracker cannot be measured; then what was measured before it is shown and written."""
    with TemporaryDirectory() as directory:
        return _main(Builds(Path(directory)))


def _main(builds: Builds) -> int:
    chosen = _parser(trackers(builds, Path("chihaya"), Path("aquatic"))).parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    known = trackers(builds, chosen.chihaya, chosen.aquatic)
    names = chosen.trackers or [name for name in known if name not in SLOW]
    status, bench = 0, Bench(chosen.seconds, chosen.scale)
    try:
        if missing := set(names) - set(known):
            raise LoadError(f"not here: {', '.join(sorted(missing))}")
        for number in range(1, chosen.rounds + 1):
            bench.round(number, {name: known[name] for name in names}, chosen.loads)
    except LoadError as error:
        log.error("%s", error)
        status = 1
    rows = results.rows(bench.measured)
    print(results.table(rows))
    chosen.output.mkdir(parents=True, exist_ok=True)
    results.write_json(chosen.output / "benchmark.json", bench.measured, chosen.scale)
    chart.draw(chosen.output / "benchmark.svg", rows)
    chart.draw(chosen.output / "mixed.svg", [row for row in rows if row.load == MIXED])
    if chosen.readme and not status:
        results.write_into(chosen.readme, rows)
    return status


def _parser(known: Collection[str]) -> argparse.ArgumentParser:
    loads = (*LOADS, OPEN_LOOP)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Trackers side by side, in one run.")
    parser.add_argument("--rounds", type=int, default=3, help="of all loads on all trackers")
    parser.add_argument("--seconds", type=_seconds, default=5.0, help=f"that count in each run, from {MIN_SECONDS:.0f}")
    parser.add_argument("--trackers", nargs="+", choices=known, metavar="NAME", help="; ".join(known))
    parser.add_argument("--loads", nargs="+", choices=loads, default=loads, metavar="NAME", help="; ".join(loads))
    parser.add_argument("--chihaya", type=Path, metavar="PATH", help="a chihaya that you built")
    parser.add_argument("--aquatic", type=Path, metavar="PATH", help="an aquatic_udp that you built")
    parser.add_argument("--scale", type=float, default=1.0, help="of torrents and peers; below 1 to try it out")
    parser.add_argument("--output", type=Path, default=Path("build"), help="directory of benchmark.json and .svg")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the table in the place of the one in there")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= MIN_SECONDS:
        raise argparse.ArgumentTypeError(f"expected {MIN_SECONDS:.0f} or more")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
