"""What a load run is asked to do, and the refusal of what it must not do."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from math import isfinite
from typing import Final

MAX_SCRAPE_HASHES: Final = 74
"""Info hashes in a scrape request that fit an Ethernet frame (BEP 15 says "up to about 74")."""

MAX_BURST: Final = 64
"""Datagrams in one system call (UDP_MAX_SEGMENTS of the kernel)."""

MAX_ID_AGE: Final = 60.0
"""Seconds a client may use a connection id (BEP 15: "until one minute after it has received it")."""


class LoadError(Exception):
    """The run cannot be done as asked; `str()` is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """A load run. Times are in seconds.

    Attributes:
        host, port, family: where the tracker listens, `host` a name or an address; `family` (4 or 6) chooses
            where a name has both.
        mix: weights of connects, announces and scrapes.
        torrents, peers: what the world holds; `skew` is the Zipf exponent of the torrents' popularity, 0 = all alike.
        seeders: the share of peers that start as seeders. `churn`: the share of announces that complete or stop a
            peer; a stopped peer is back, started anew, when its turn comes again.
        num_want: peers asked for by an announce, -1 for the tracker's choice.
        scrape_hashes: info hashes in a scrape.
        seed: the same seed makes the same peers and the same sequence of requests.
        processes: of the generator. `sources`: its sockets, each on a loopback address of its own (IPv4).
        in_flight: requests of one process that wait for an answer at any time (closed loop).
        burst: requests that one system call may hand to the kernel joined together, of 64 at most. To whoever receives
            them they cost less than as many that were sent one by one (`burst` 1), as those of many clients are.
        rest: for how long the generator looks away once the tracker has enough to do, so that answers come in numbers;
            0 to be woken for each.
        rate: requests a second, sent on schedule (open loop); None for closed loop.
        duration, warmup: seconds that count, after seconds that do not.
        timeout: after which a request is lost.
        prefill: announce every peer once before the warm-up.
        check_every: of how many announce answers one has each of its peers checked.
        reconnect_after: age of a connection id at which it is renewed, under a minute (BEP 15).
        pids: processes of the tracker; empty to find them by the port.
        own_tracker: the user's word that an address that is not loopback may be loaded.
    """

    host: str
    port: int
    family: int | None = None
    mix: tuple[int, int, int] = (0, 99, 1)
    torrents: int = 100_000
    peers: int = 200_000
    skew: float = 1.0
    seeders: float = 0.4
    churn: float = 0.05
    num_want: int = 30
    scrape_hashes: int = 10
    seed: int = 1
    processes: int = 1
    sources: int = 4
    in_flight: int = 128
    burst: int = MAX_BURST
    rest: float = 100e-6
    rate: float | None = None
    duration: float = 10.0
    warmup: float = 1.0
    timeout: float = 2.0
    prefill: bool = False
    check_every: int = 16
    reconnect_after: float = 50.0
    pids: tuple[int, ...] = ()
    own_tracker: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            LoadError: naming the option.
        """
        for name in ("duration", "timeout", "skew", "warmup", "seeders", "churn", "rate", "rest", "reconnect_after"):
            value = getattr(self, name)
            if value is not None and not isfinite(value):
                raise LoadError(f"--{name.replace('_', '-')}: expected a finite number")
        for good, fault in (
            (min(self.mix) >= 0 and sum(self.mix) > 0, "--mix: expected three weights, one above 0"),
            (self.torrents > 0, "--torrents: expected at least 1"),
            (self.skew >= 0, "--skew: expected 0 or more"),
            (0 <= self.seeders <= 1, "--seeders: expected a share from 0 to 1"),
            (0 <= self.churn <= 1, "--churn: expected a share from 0 to 1"),
            (-1 <= self.num_want < 2**31, "--num-want: expected -1 or more"),
            (
                1 <= self.scrape_hashes <= MAX_SCRAPE_HASHES,
                f"--scrape-hashes: expected 1 to {MAX_SCRAPE_HASHES}",
            ),
            (self.processes > 0, "--processes: expected at least 1"),
            (self.processes <= self.sources <= 200, "--sources: expected a number from --processes to 200"),
            (self.peers >= self.sources, "--peers: expected at least one for each source"),
            (
                self.in_flight * self.processes >= self.sources,
                "--in-flight: expected at least one for each source",
            ),
            (1 <= self.burst <= MAX_BURST, f"--burst: expected 1 to {MAX_BURST}"),
            (self.rest >= 0, "--rest: expected 0 or more"),
            (self.rate is None or self.rate > 0, "--rate: expected more than 0"),
            (self.duration > 0, "--duration: expected more than 0"),
            (self.warmup >= 0, "--warmup: expected 0 or more"),
            (self.timeout > 0, "--timeout: expected more than 0"),
            (self.check_every > 0, "--check-every: expected at least 1"),
            (0 < self.reconnect_after < MAX_ID_AGE, f"--reconnect-after: expected under {MAX_ID_AGE:.0f}"),
        ):
            if not good:
                raise LoadError(fault)


def parse_mix(text: str) -> tuple[int, int, int]:
    """Weights of connects, announces and scrapes, as in `0:99:1`.

    Raises:
        ValueError: not three whole numbers.
    """
    connects, announces, scrapes = map(int, text.split(":"))
    return connects, announces, scrapes


def source_addresses(address: str, sources: int) -> list[str]:
    """The addresses to send from: 127.0.0.2 and up towards IPv4 loopback, elsewhere the kernel's choice for all."""
    target = ip_address(address)
    if target.version == 4 and target.is_loopback:
        return [f"127.0.0.{2 + i}" for i in range(sources)]
    return [""]


def refuse_strangers(address: str, own_tracker: bool) -> None:
    """Let a run aim at loopback, or at what the user vouches for.

    Raises:
        LoadError: neither.
    """
    if not (own_tracker or ip_address(address.partition("%")[0]).is_loopback):
        raise LoadError(
            f"{address} is not a loopback address; a load run takes a tracker's whole capacity, "
            "so it needs --i-own-this-tracker"
        )
