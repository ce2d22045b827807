"""Limits of a running tracker, with real sources on loopback."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Daemons
from tests.support.daemon import Daemon
from tests.support.udp import Refused, TrackerClient
from tests.support.waiting import eventually
from udptracker.core import wire
from udptracker.core.reasons import ANNOUNCE_LIMIT
from udptracker.core.wire import AnnounceRequest

INFO_HASH: Final = bytes(range(20))
OFFENDER: Final = "127.0.0.66"
HONEST: Final = ("127.0.0.7", "127.0.0.8", "127.0.0.9")

LIMITS: Final = """
udptracker:
  workers: {workers}
  access:
    limits:
      mode: {mode}
      connects_per_minute: 60
      connect_burst: 20
      announces_per_minute: 1
      announce_burst: 50
      scrapes_per_minute: 1
      scrape_burst: 5
      max_peers_in_swarm: 2
"""


def limits(mode: str, workers: int = 1) -> str:
    return LIMITS.format(mode=mode, workers=workers)


def limited(daemon: Daemon, limit: str, mode: str) -> float:
    """How many requests were over a limit, by the metric."""
    pattern = rf'^udptracker_limited_total{{limit="{limit}",mode="{mode}"}} (\S+)$'
    (count,) = re.findall(pattern, daemon.get("/metrics")[1], re.MULTILINE)
    return float(count)


@contextmanager
def client_of(daemon: Daemon, source: str) -> Iterator[TrackerClient]:
    """One that asks once and waits long, so that what it asks is counted once."""
    with TrackerClient("127.0.0.1", daemon.port, source=source, timeout=30.0, attempts=1) as client:
        yield client


def ask_often(client: TrackerClient, count: int) -> None:
    """Announce so often, and read no answer."""
    connection_id = client.connection_id or client.connect()
    request = AnnounceRequest(INFO_HASH, bytes(20), 0, 1, 0, 0, bytes(4), 0, -1, 6881)
    for number in range(count):
        client.send(wire.encode_announce_request(connection_id, number, request))


def flood(daemon: Daemon, source: str, data: bytes, count: int) -> None:
    """Datagrams from an address whose answers nobody reads, a few at a time so that none is lost on the way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        for _ in range(count):
            sock.sendto(data, ("127.0.0.1", daemon.port))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_offender_is_met_with_silence_and_others_are_served(daemons: Daemons, workers: int) -> None:
    daemon = daemons("memory", config=limits("enforce", workers), hosts=("127.0.0.1",))
    with client_of(daemon, OFFENDER) as offender:
        ask_often(offender, 200)
        eventually(lambda: limited(daemon, "announces", "enforce") >= 90, "most to be dropped")
        assert f'udptracker_drops_total{{reason="{ANNOUNCE_LIMIT}"}}' in daemon.get("/metrics")[1]
    for number, source in enumerate(HONEST):
        assert daemon.announce(INFO_HASH, 6881, source=source).leechers == number + 2


def test_where_it_is_watched_it_is_served_and_counted(daemons: Daemons) -> None:
    daemon = daemons("memory", config=limits("watch"), hosts=("127.0.0.1",))
    with client_of(daemon, OFFENDER) as offender:
        for port in range(6881, 6888):
            assert offender.announce(INFO_HASH, port).leechers == port - 6880
        assert limited(daemon, "peers_in_swarm", "watch") == 5
        ask_often(offender, 200)
        eventually(lambda: limited(daemon, "announces", "watch") >= 100, "what would have been dropped to be counted")
        assert offender.receive(), "an answer"


@pytest.mark.parametrize("honest", ["proven before", "never seen"])
def test_honest_clients_are_served_while_connects_flood(daemons: Daemons, honest: str) -> None:
    """From addresses that may be forged: some of nobody, some of those that are honest, if they are known."""
    daemon = daemons("memory", config=limits("enforce"), hosts=("127.0.0.1",))
    forged = [f"127.0.1.{number}" for number in range(1, 100)]
    if honest == "proven before":
        for source in HONEST:
            daemon.announce(bytes(20), 6881, source=source)
        forged += HONEST
    connect, bad_id = wire.encode_connect_request(1), bytes(8) + bytes((0, 0, 0, 1)) + bytes(86)
    for number, source in enumerate(HONEST):
        for address in forged:
            flood(daemon, address, connect, 30)
            flood(daemon, address, bad_id, 3)
        assert daemon.announce(INFO_HASH, 6881, source=source).leechers == number + 1
    assert limited(daemon, "connects", "enforce") > 0


def test_more_peers_than_one_address_may_have_are_refused_with_words(daemons: Daemons) -> None:
    daemon = daemons("memory", config=limits("enforce"), hosts=("127.0.0.1",))
    with client_of(daemon, OFFENDER) as offender:
        offender.announce(INFO_HASH, 6881)
        offender.announce(INFO_HASH, 6882)
        with pytest.raises(Refused, match=r"^too many peers in this torrent$"):
            offender.announce(INFO_HASH, 6883)
        offender.announce(INFO_HASH, 6881, event=wire.Event.STOPPED)
        assert offender.announce(INFO_HASH, 6883).leechers == 2
    assert limited(daemon, "peers_in_swarm", "enforce") == 1


def test_a_reload_switches_them_on_and_forgets_no_bucket(daemons: Daemons) -> None:
    daemon = daemons("memory", config=limits("watch"), hosts=("127.0.0.1",))
    with client_of(daemon, OFFENDER) as offender:
        ask_often(offender, 200)
        eventually(lambda: limited(daemon, "announces", "watch") >= 90, "most to be counted")
        config = Path(next(word for word in daemon.command if word.endswith(".yaml")))
        config.write_text(limits("enforce"))
        daemon.signal(signal.SIGHUP)
        eventually(lambda: "configuration reloaded: access.limits.mode" in daemon.log, "the reload")
        ask_often(offender, 100)
        eventually(lambda: limited(daemon, "announces", "enforce") >= 90, "more than a bucket that was full would let")


@pytest.mark.parametrize("family", [4, 6])
def test_who_says_port_1_is_given_to_nobody(daemons: Daemons, family: int) -> None:
    daemon = daemons("memory")
    assert daemon.announce(INFO_HASH, 1, family=family).peers == b""
    with daemon.client(family) as client:
        assert client.announce(INFO_HASH, 6881).leechers == 2
        assert client.peers(client.announce(INFO_HASH, 6882)) == [client.endpoint(6881)]
