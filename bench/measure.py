"""One run: a tracker under a load, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from bench.cores import pinned
from bench.running import Running
from udptracker.client.conversation import NoAnswer, TrackerClient, TrackerRefused
from udptracker.core.wire import AnnounceRequest, Event
from udptracker.load import InfoHashes, Interval, LoadError, LoadOptions, cpu, run

MIN_SECONDS: Final = 2.0
"""CPU is read at the end of each second of a run, the first of which is the reading to start from."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """CPU is in microseconds a request, latencies are in microseconds, `rate` is good answers a second.

    `bad` is the share of requests that were refused, answered wrongly, late or never. `generator_busy` is the share of
    one core that the generator took: near 1, it was what limited the rate. `unsent` is the share of an open loop's
    schedule that it gave up, since it could not keep up. `peers` is how many an answer to an announce held on average.
    """

    tracker: str
    load: str
    round: int
    rate: float
    tracker_us: float
    store_us: float
    peers: float
    p50: int
    p99: int
    p99_9: int
    bad: float
    unsent: float
    generator_us: float
    generator_busy: float
    errors: dict[str, int]

    @property
    def together_us(self) -> float:
        """CPU of tracker and store."""
        return self.tracker_us + self.store_us


class _Meter:
    """Reads the CPU of tracker and store after each second of a run."""

    def __init__(self, running: Running, on_start: Callable[[], None]) -> None:
        self._on_start = on_start
        self._pids = (running.pids, running.store_pids)
        self._first: list[dict[int, float]] = []
        self._late = 0.0
        self._since: list[Interval] = []
        self._requests = 0.0
        self.spent = [0.0, 0.0]

    def __call__(self, interval: Interval) -> None:
        readings = [cpu.cpu_seconds(pids) for pids in self._pids]
        if not self._first:
            self._first, self._late = readings, monotonic() - interval.ended
            self._on_start()
            return
        self._since.append(interval)
        self._requests = requests_read(self._since, self._late)
        self.spent = [cpu.spent(before, now) for before, now in zip(self._first, readings, strict=True)]

    @property
    def per_request(self) -> tuple[float, float]:
        """Microseconds of the tracker and of the store."""
        tracker, store = (1e6 * seconds / max(1.0, self._requests) for seconds in self.spent)
        return tracker, store


def requests_read(intervals: Sequence[Interval], late: float) -> float:
    """The requests that go with the CPU between two readings, the first so many seconds after the intervals began.

    What was spent before the first reading is missing from the difference, so what was answered before it must be.
    After the last interval nothing is spent, so that a late second reading does no harm.
    """
    whole = sum(interval.seconds for interval in intervals)
    return sum(interval.answered + interval.failed for interval in intervals) * max(0.0, 1 - late / whole)


def measure(
    tracker: str,
    load: str,
    number: int,
    running: Running,
    options: LoadOptions,
    on_start: Callable[[], None] = lambda: None,
) -> Measurement:
    """Drive a running tracker from the generator's cores; `on_start` is called once CPU is being counted.

    Raises:
        LoadError: it does not answer, or its answers hold no peers.
    """
    meter = _Meter(running, on_start)
    with pinned(running.cores.generator):
        report = run(options, meter)
    _require_peers(options)
    tracker_us, store_us = meter.per_request
    return Measurement(
        tracker=tracker,
        load=load,
        round=number,
        rate=report.rate,
        tracker_us=tracker_us,
        store_us=store_us,
        peers=report.peers_per_answer,
        p50=report.latency.p50,
        p99=report.latency.p99,
        p99_9=report.latency.p99_9,
        bad=1 - report.answered / max(1, report.requests),
        unsent=report.unsent / max(1, report.requests + report.unsent),
        generator_us=report.generator_cpu_per_request or 0.0,
        generator_busy=report.generator_cpu / report.seconds,
        errors=report.errors,
    )


def _require_peers(options: LoadOptions) -> None:
    """A tracker that knows nobody would be fast.

    Raises:
        LoadError: an announce in the most popular torrent is not answered with peers.
    """
    announce = AnnounceRequest(
        info_hash=InfoHashes(options)[0],
        peer_id=b"-UB0000-a-late-comer",
        downloaded=0,
        left=1,
        uploaded=0,
        event=Event.STARTED,
        ip=bytes(4),
        key=0,
        num_want=options.num_want,
        port=1,
    )
    try:
        with TrackerClient(4, (options.host, options.port)) as client:
            peers = client.announce(announce).peers
            client.announce(announce._replace(event=Event.STOPPED))
    except (NoAnswer, TrackerRefused) as error:
        raise LoadError(f"an announce after the run: {error}") from error
    if not peers:
        raise LoadError("an announce after the run was answered without peers")
