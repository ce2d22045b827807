"""A flood of announces, each of a peer of its own, from loopback addresses, while honest clients go on.

By hand it starts a tracker on memory, floods it, and says what that took and what was given back; and then what
another flood takes, of as many peers as are kept:

    python -m tests.security.flood --announces 5000000 --max-peers 1000000 --max-swarms 200000
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.security.crowd import Crowd, address
from tests.support.daemon import Daemon
from tests.support.waiting import eventually
from udptracker.core import wire
from udptracker.core.wire import AnnounceRequest, Event

_GROUP: Final = 32
"""Addresses that flood at a time."""
_JOINED: Final = 50
_IN_FLIGHT: Final = 500
_HOT_SWARMS: Final = 8
_HONEST_SWARMS: Final = 4
_HONEST_IN_EACH: Final = 5
HONEST_PEERS: Final = _HONEST_SWARMS * _HONEST_IN_EACH
_TOTALS_SECONDS: Final = 0.1
_LONG_LIFE: Final = "peer_lifetime: 1h"
_SHORT_LIFE: Final = "peer_lifetime: 1s"

CONFIG: Final = """
udptracker:
  storage:
    name: memory
    config:
      {{max_peers: {max_peers}, max_swarms: {max_swarms}, peer_lifetime: 1h, gc_interval: 1s,
       prometheus_reporting_interval: 100ms}}
"""


_ALONE: Final = """
  access: {limits: {mode: off}}
  udp: {connection_id_lifetime: 10s}
"""


class Flooded(NamedTuple):
    """How many announces were sent, and how many of them answered."""

    sent: int
    answered: int


def flood(
    port: int, announces: int, *, for_each: int = 100, swarm_in: int = 5, meanwhile: Callable[[int], None]
) -> Flooded:
    """Announce as many different peers to a tracker on 127.0.0.1.

    Args:
        for_each: so many from one address, each with a port of its own.
        swarm_in: every so-manieth to a swarm of its own, the others to some few.
        meanwhile: is called again and again with the number sent so far.
    """
    sent = answered = 0
    with Crowd(port) as crowd:
        while sent < announces:
            first = sent // for_each
            sources = [address(first + number) for number in range(_GROUP)]
            ids = crowd.connect(sources)
            waiting = 0
            for source in sources:
                for begin in range(0, for_each, _JOINED):
                    numbers = range(sent, min(sent + _JOINED, sent + for_each - begin, announces))
                    if not numbers:
                        break
                    crowd.send(source, [_announce(ids[source], number, swarm_in, for_each) for number in numbers])
                    sent += len(numbers)
                    waiting += len(numbers)
                    while waiting > _IN_FLIGHT:
                        came = len(crowd.receive())
                        answered += came
                        waiting = waiting - came if came else 0
            while waiting > 0 and (came := len(crowd.receive())):
                answered += came
                waiting -= came
            meanwhile(sent)
    return Flooded(sent, answered)


def _announce(connection_id: bytes, number: int, swarm_in: int, for_each: int) -> bytes:
    own = number % swarm_in == 0
    swarm = number.to_bytes(8, "big") + b"flood-of-one" if own else b"hot %16d" % (number % _HOT_SWARMS)
    # Scrambled, as info hashes are: a tracker spreads swarms by their first bytes.
    info_hash = (number * 2654435761 & 0xFFFFFFFF).to_bytes(4, "big") + swarm[4:] if own else swarm
    request = AnnounceRequest(
        info_hash, b"-FL0001-000000000000", 0, 1, 0, Event.STARTED, bytes(4), 0, 30, 2 + number % for_each
    )
    return wire.encode_announce_request(connection_id, number & 0xFFFFFFFF, request)


class Honest:
    """Peers of a few swarms that announce all the time, and newcomers who want to find them.

    Attributes:
        served: announces that were answered with every other peer of the swarm.
        slowest: seconds that one of them took.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.served = 0
        self.slowest = 0.0
        for swarm in range(_HONEST_SWARMS):
            for peer in range(_HONEST_IN_EACH):
                daemon.announce(_hash(swarm), _port(swarm, peer), left=0)

    def announce(self) -> None:
        """Every peer once, and in each swarm somebody new, who must find them all, and leaves again."""
        assert self.are_found()

    def are_found(self) -> bool:
        """The same; whether the new ones found all."""
        missing = 0
        with self._daemon.client() as client:
            for swarm in range(_HONEST_SWARMS):
                everyone = {client.endpoint(_port(swarm, peer)) for peer in range(_HONEST_IN_EACH)}
                for peer in range(_HONEST_IN_EACH):
                    client.announce(_hash(swarm), _port(swarm, peer), left=0, event=Event.NONE)
                started = time.monotonic()
                found = set(client.peers(client.announce(_hash(swarm), 999, left=1)))
                self.slowest = max(self.slowest, time.monotonic() - started)
                missing += found != everyone
                self.served += found == everyone
                client.announce(_hash(swarm), 999, event=Event.STOPPED)
        return not missing


def _hash(swarm: int) -> bytes:
    return b"honest %13d" % swarm


def _port(swarm: int, peer: int) -> int:
    return 1000 + 10 * swarm + peer


def figures(daemon: Daemon) -> dict[str, int]:
    """Peers and swarms that a tracker keeps, and announces that it did not, by the bound."""
    found: dict[str, int] = {"peers": 0, "swarms": 0}
    for family in text_string_to_metric_families(daemon.get("/metrics")[1]):
        for sample in family.samples:
            name = sample.name.removeprefix("udptracker_")
            if name in ("seeders", "leechers"):
                found["peers"] += int(sample.value)
            elif name == "swarms":
                found["swarms"] += int(sample.value)
            elif name == "unkept_announces_total":
                found[sample.labels["bound"]] = int(sample.value)
    return found


def resident(daemon: Daemon) -> int:
    """Bytes that the tracker has in use."""
    return int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def let_expire(daemon: Daemon, config: Path, honest: Honest) -> None:
    """Have a flood expire, by reloads that shorten the lifetime of peers for as long as it is there. The honest ones
    expire with it, and are back after it."""
    text = config.read_text()

    def is_gone() -> bool:
        _reload(daemon, config, text.replace(_LONG_LIFE, _SHORT_LIFE))
        eventually(lambda: not figures(daemon)["peers"], "everybody to expire", timeout=300.0)
        _reload(daemon, config, text)
        eventually(honest.are_found, "the honest peers to be found again")
        time.sleep(4 * _TOTALS_SECONDS)
        return figures(daemon)["peers"] == HONEST_PEERS  # figures may have been those of a moment before the flood

    eventually(lambda: figures(daemon)["peers"] > HONEST_PEERS, "the figures to be those of the flood")
    eventually(is_gone, "the flood to expire", timeout=300.0)


def _reload(daemon: Daemon, config: Path, text: str) -> None:
    config.write_text(text)
    before = daemon.log.count("configuration reloaded")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.log.count("configuration reloaded") > before, "the configuration to be read again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--announces", type=int, default=5_000_000)
    parser.add_argument("--max-peers", type=int, default=1_000_000)
    parser.add_argument("--max-swarms", type=int, default=200_000)
    parser.add_argument("--store-alone", action="store_true", help="remember no sources, and no connection id for long")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        text = CONFIG.format(max_peers=given.max_peers, max_swarms=given.max_swarms)
        text += _ALONE if given.store_alone else ""
        with Daemon(Path(scratch), None, config=text) as daemon:
            daemon.start()
            honest, peak, began = Honest(daemon), 0, time.monotonic()
            print(f"before: {resident(daemon) / 1e6:.0f} MB", flush=True)

            def meanwhile(sent: int) -> None:
                nonlocal peak
                peak = max(peak, resident(daemon))
                if sent % (given.announces // 50) < 3_200:
                    honest.announce()
                    print(f"{sent:,}: {resident(daemon) / 1e6:.0f} MB, {figures(daemon)}", flush=True)

            flooded = flood(daemon.port, given.announces, meanwhile=meanwhile)
            seconds = time.monotonic() - began
            print(f"{flooded} in {seconds:.0f} s, at most {peak / 1e6:.0f} MB, {figures(daemon)}", flush=True)
            let_expire(daemon, next(Path(scratch).glob("*.yaml")), honest)
            if given.store_alone:
                time.sleep(20)  # twice the lifetime of an id
                honest.announce()
            print(f"expired: {resident(daemon) / 1e6:.0f} MB, {figures(daemon)}", flush=True)
            first, peak = peak, 0
            flood(daemon.port, given.max_peers, meanwhile=meanwhile)
            print(f"once more: at most {peak / 1e6:.0f} MB, {peak / first:.2f} of the first, {figures(daemon)}")
            print(f"honest newcomers served: {honest.served}, the slowest in {honest.slowest * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
