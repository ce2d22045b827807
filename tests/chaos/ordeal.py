"""One fault under load, and what must hold after it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, cast

from tests.chaos.crowd import PEERS, SWARMS, Crowd, info_hash
from tests.chaos.packets import PacketLoad
from tests.chaos.yardstick import Yardstick
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer
from tests.support.stores import counters_of, recount, redis_store
from tests.support.waiting import PATIENCE, eventually
from udptracker.core import wire
from udptracker.core.swarm import FAMILIES, Totals
from udptracker.core.wire import Event
from udptracker.service.lifecycle import STOP_SECONDS

REPLAY_WINDOW: Final = 10.0
_PROBE_PORT: Final = 60_000
_MAX_GROWTH_BYTES: Final = 48 * 1024 * 1024
_SETTLE_SECONDS: Final = 1.5
_LAG_SECONDS: Final = 0.010
"""The most that a tracker's event loop may be held up by the tracker itself."""
_LAG: Final = re.compile(r'^udptracker_loop_lag_seconds_bucket\{le="([0-9.]+)"\} ([0-9.]+)$', re.MULTILINE)
_RENEWED: Final = "bad connection ID"
"""An error that the generator meets as well, wherever it is allowed."""

CONFIG: Final = """\
udptracker:
  udp:
    private_key: chaos
    max_numwant: 200
  storage:
    name: redis
    config:
      gc_interval: 1h
      redis_broker: "{url}"
      redis_read_timeout: 500ms
      redis_write_timeout: 500ms
      redis_connect_timeout: 500ms
      replay_window: 10s
"""


@dataclass(frozen=True)
class Row:
    """What is printed of a fault."""

    fault: str
    requests: int
    longest_silence: float
    slowest_answer: float
    errors: str
    lost: int


class Ordeal:
    """Trackers under the packet generator and a crowd, one fault, and the checks.

    Args:
        fault: its name, for the table.
        nodes: the trackers, one worker each unless the fault is about workers.
        rows: where the row of the table goes.
        sockets: from how many each of them is asked.
        errors: what clients may be told because of the fault.
        stands_still: whether the fault is that a tracker's process does, and its event loop with it.
    """

    def __init__(
        self,
        fault: str,
        nodes: Sequence[Daemon],
        rows: list[Row],
        *,
        sockets: int = 1,
        errors: Set[str] = frozenset(),
        stands_still: bool = False,
    ) -> None:
        self._fault = fault
        self._ports = [node.port for node in nodes for _ in range(sockets)]
        self._rows = rows
        self._allowed = errors
        self._stands_still = stands_still
        self._lost_by_nature = (0.0, 0.0)

    def loses_by_nature(self, begin: float, end: float) -> None:
        """What peers were told between these times, and never again, was known to nobody but a node that is gone."""
        self._lost_by_nature = begin, end

    def endure(self, harm: Callable[[], None], survivors: Sequence[Daemon], seconds: float) -> None:
        """Load for `seconds`, do harm, load until all survivors are ready and for `seconds` more; then check the peers.

        `harm` breaks something, and mends it where a mend is part of the fault. The survivors end well afterwards.
        """
        with Yardstick() as yardstick, PacketLoad(survivors[0].port) as packets, Crowd(self._ports) as crowd:
            eventually(lambda: all(peer.acknowledged is not None for peer in crowd.peers), "every peer to be in")
            time.sleep(seconds)
            before = {node: _resident(node) for node in survivors}
            asked = crowd.answers + packets.answered
            crowd.hush()
            harm()
            crowd.hush()
            for node in survivors:
                node.wait_until_ready()
            time.sleep(_SETTLE_SECONDS + seconds)
            crowd.stop()
            packets.stop()
            lags = {node: _lag(node) for node in survivors}
            # A turn of the loop may be interrupted several times over by others who want its core.
            bound = _LAG_SECONDS + 4 * yardstick.worst()
            lost, ghosts = self._missing(crowd, survivors)
            errors = dict(crowd.errors)
            shown = ", ".join(f"{count} {error}" for error, count in errors.items()) or "none"
            silence, slowest = crowd.longest_silence, crowd.slowest_answer
            requests = crowd.answers + packets.answered - asked
            self._rows.append(Row(self._fault, requests, silence, slowest, shown, lost))
        assert not crowd.wrong, crowd.wrong
        assert not packets.failed or _RENEWED in self._allowed, packets.failed
        assert lost == 0
        assert ghosts == 0
        assert set(errors) <= self._allowed, errors
        for node in survivors:
            assert _resident(node) - before[node] < _MAX_GROWTH_BYTES, (before[node], _resident(node))
            assert lags[node] <= bound or self._stands_still, (lags[node], bound)
            # Twice, since how long the machine lets it wait is not the tracker's to bound.
            assert node.stop(2 * STOP_SECONDS) == 0, node.log  # which writes the last changes of the counters

    def _missing(self, crowd: Crowd, survivors: Sequence[Daemon]) -> tuple[int, int]:
        """(peers that were told to be in and are not found, peers told to be out that are) when the window is over."""
        inside, outside = crowd.known(*self._lost_by_nature)
        assert sum(map(len, inside.values())) > PEERS * 3 // 4
        assert sum(map(len, outside.values())) > 0
        deadline = time.monotonic() + REPLAY_WINDOW
        while True:
            lost = ghosts = 0
            for node in survivors:
                found = _everybody(node)
                lost += sum(len(inside[swarm] - found[swarm]) for swarm in range(SWARMS))
                ghosts += sum(len(outside[swarm] & found[swarm]) for swarm in range(SWARMS))
            if not lost + ghosts or time.monotonic() > deadline:
                return lost, ghosts
            time.sleep(0.2)


def _everybody(node: Daemon) -> dict[int, set[bytes]]:
    """By swarm, the endpoints that a probe is told."""
    found = {}
    with node.client() as client:
        for swarm in range(SWARMS):
            answer = client.announce(info_hash(swarm), _PROBE_PORT, num_want=200)
            client.announce(info_hash(swarm), _PROBE_PORT, event=Event.STOPPED)
            found[swarm] = set(wire.split_peers(answer.peers, 4)) - {client.endpoint(_PROBE_PORT)}
    return found


def _lag(node: Daemon) -> float:
    """Seconds that its event loop was late, at the worst: where the highest bucket with anything in it begins."""
    buckets = [(float(end), float(count)) for end, count in _LAG.findall(node.get("/metrics")[1])]
    assert buckets, "the lag of the loop is not among the metrics"
    return max((begin for (begin, below), (_, count) in pairwise(buckets) if count > below), default=0.0)


def _resident(node: Daemon) -> int:
    """Bytes of memory of a tracker and its workers."""
    processes = [node.pid, *map(int, Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split())]
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in processes)


def check_counters(url: str, masters: Sequence[StoreServer]) -> None:
    """The counters equal a full recount once a reaper has run."""

    async def reaped() -> dict[int, Totals]:
        async with redis_store(url) as store:
            async with asyncio.timeout(PATIENCE):
                while True:
                    if (await store.reap(0)).ran:
                        return await store.totals()
                    await asyncio.sleep(0.05)  # a node that has just walked keeps the lease for its interval

    counted = asyncio.run(reaped())
    if len(masters) == 1:
        with masters[0].client() as client:
            assert counted == counters_of(client) == recount(client)
        return
    sizes = dict.fromkeys(((family, role) for family in FAMILIES for role in b"SL"), 0)
    swarms = dict.fromkeys(FAMILIES, 0)
    for server in masters:
        with server.client() as client:
            for family in FAMILIES:
                for role in b"SL":
                    for key in client.scan_iter(
                        match=b"IPv%d_%c_????????????????????????????????????????" % (family, role)
                    ):
                        sizes[family, role] += cast(int, client.hlen(key))
                        swarms[family] += role == ord("S")
    expected = {f: Totals(swarms[f], sizes[f, ord("S")], sizes[f, ord("L")]) for f in FAMILIES}
    assert counted == expected
