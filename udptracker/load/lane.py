"""One socket of the generator: it sends prepared requests, keeps its connection id young, and checks every answer."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from itertools import cycle, repeat
from struct import Struct
from time import monotonic_ns
from typing import Final

from udptracker.core import wire
from udptracker.core.text import printable
from udptracker.core.wire import Action
from udptracker.load.burst import BurstSender
from udptracker.load.life import Population
from udptracker.load.options import MAX_BURST, MAX_ID_AGE, LoadOptions
from udptracker.load.tally import Tally
from udptracker.load.world import World

SECOND: Final = 1_000_000_000

_RECEIVE_BYTES: Final = 2048
_READS: Final = 256
_PLAN_LENGTH: Final = 8191
_SCRAPES: Final = 512

UNREACHABLE: Final = "port unreachable"

_LIFE_EVENT: Final = 9
"""In a plan, where an action could be: an announce that completes or stops its peer."""

_CONNECT, _ANNOUNCE, _SCRAPE = int(Action.CONNECT), int(Action.ANNOUNCE), int(Action.SCRAPE)

_ANNOUNCES: Final = (_ANNOUNCE, _LIFE_EVENT)

_put_head = Struct(">8sII").pack_into
_read_head = Struct(">II").unpack_from


class Lane:
    """A source address of the generator. All times are nanoseconds of the monotonic clock.

    Args:
        sock: connected to the tracker, non-blocking; closed by the owner.
        place: which of the run's lanes it is.
        world: who announces here, and who may be met.
        options: the run.
        family: IP version of the socket.

    Attributes:
        tally: counts; the owner puts a new one here when it takes one away.
        connected: whether a connection id was ever received.
        limit: how many requests may wait for an answer in a closed loop. `next_due`: when the next one is due in an
            open loop. Both are the owner's.
    """

    def __init__(self, sock: socket.socket, place: int, world: World, options: LoadOptions, family: int) -> None:
        self.tally = Tally()
        self.connected = False
        self.limit = 1
        self.next_due = 0.0
        self._socket = sock
        self._sender = BurstSender(sock, options.burst)
        self._may_meet = world.may_meet
        self._family = family
        draw = random.Random(f"{options.seed}:{place}")
        peers = list(world.peers(place))
        self._population = Population(world, peers, draw)
        self._scrapes = cycle(_scrapes(world, options, [peer.torrent for peer in peers], draw))
        self._mix = self._plan = _plan(options, draw)
        self._batch = min(MAX_BURST, len(peers))
        self._transaction_id = draw.getrandbits(32)

        self._pending: dict[int, tuple[float, int, int, int]] = {}  # transaction id: due, sent, action, torrent
        self._past: dict[int, bool] = {}  # transaction ids nobody waits for, and whether they were counted as lost
        self._timeout = int(options.timeout * SECOND)
        self._reconnect_after = int(options.reconnect_after * SECOND)
        self._connection_id = bytes(8)
        self._id_expires = self._renew_at = self._doubt_from = 0

        compact = wire.COMPACT_BYTES[family]
        self._compact = compact
        self._most_bytes = _RECEIVE_BYTES if options.num_want < 0 else 20 + compact * options.num_want
        self._scrape_bytes = 8 + 12 * options.scrape_hashes
        self._check_every = self._until_check = options.check_every

    @property
    def waiting(self) -> int:
        """Requests that wait for an answer."""
        return len(self._pending)

    @property
    def population(self) -> int:
        """Peers that announce here."""
        return len(self._population)

    def announce_only(self, on: bool) -> None:
        """Send plain announces, or else the mix of the run."""
        self._plan = repeat(_ANNOUNCE) if on else self._mix

    def send(self, count: int, due: float, spacing: float, now: int) -> int:
        """Send the next requests of the plan; how many (a batch at most, none without a valid connection id).

        Args:
            count: of requests.
            due: when the first one should have been sent; latencies count from there.
            spacing: between the due times of one and the next.
            now: is passed in to save reading the clock again.
        """
        count = 0 if now >= self._id_expires else min(count, self._batch)
        if count:
            tally = self.tally
            tally.lag += count * (now - due) - spacing * (count * (count - 1) / 2)
            tally.worst_lag = max(tally.worst_lag, now - due)
        connects: list[bytes] = []
        announces: list[bytearray] = []
        scrapes: list[bytearray] = []
        pending, plan, announce = self._pending, self._plan, self._population.announce
        connection_id, transaction_id = self._connection_id, self._transaction_id
        if now >= self._renew_at:
            self._renew_at = now + self._timeout
            transaction_id = (transaction_id + 1) & 0xFFFFFFFF
            connects.append(wire.encode_connect_request(transaction_id))
            pending[transaction_id] = (now, now, _CONNECT, 0)
        for _ in range(count):
            transaction_id = (transaction_id + 1) & 0xFFFFFFFF
            action, torrent = next(plan), 0
            if action in _ANNOUNCES:
                packet, torrent = announce(action == _LIFE_EVENT)
                action = _ANNOUNCE
                _put_head(packet, 0, connection_id, action, transaction_id)
                announces.append(packet)
            elif action == _SCRAPE:
                packet = next(self._scrapes)
                _put_head(packet, 0, connection_id, action, transaction_id)
                scrapes.append(packet)
            else:
                connects.append(wire.encode_connect_request(transaction_id))
            pending[transaction_id] = (due, now, action, torrent)
            due += spacing
        self._transaction_id = transaction_id
        self._hand_over(_CONNECT, connects)
        self._hand_over(_ANNOUNCE, announces)
        self._hand_over(_SCRAPE, scrapes)
        self._population.settle()
        return count

    def receive(self) -> None:
        """Take and check what has arrived."""
        receive, take = self._socket.recv, self._pending.pop
        tally = self.tally
        latencies = tally.latencies
        announce_latencies = latencies[_ANNOUNCE]
        most, compact = self._most_bytes, self._compact
        try:
            for _ in range(_READS):
                data = receive(_RECEIVE_BYTES)
                now = monotonic_ns()
                size = len(data)
                if size < 8:
                    self._fault("answer too short")
                    continue
                action, transaction_id = _read_head(data)
                request = take(transaction_id, None)
                if request is None:
                    self._stray(transaction_id)
                    continue
                due, _, asked, torrent = request
                if action != asked:
                    self._failed(data, now)
                elif action == _ANNOUNCE:
                    if not 20 <= size <= most or (size - 20) % compact:
                        self._failed_with("wrong length of an announce answer")
                        continue
                    self._until_check -= 1
                    if self._until_check or self._peers_are_right(data, torrent):
                        tally.peers += (size - 20) // compact
                        announce_latencies[int(now - due) // 1000] += 1
                elif action == _CONNECT:
                    if size != 16:
                        self._failed_with("wrong length of a connect answer")
                        continue
                    self._renewed(data[8:], now)
                    latencies[_CONNECT][int(now - due) // 1000] += 1
                elif size != self._scrape_bytes:
                    self._failed_with("wrong length of a scrape answer")
                else:
                    latencies[_SCRAPE][int(now - due) // 1000] += 1
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            self._fault(UNREACHABLE)

    def expire(self, now: int) -> None:
        """Give up what has waited for longer than the timeout."""
        oldest = now - self._timeout
        lost = []
        for transaction_id, request in self._pending.items():  # in the order they were sent
            if request[1] > oldest:
                break
            lost.append(transaction_id)
        for transaction_id in lost:
            del self._pending[transaction_id]
            self._past[transaction_id] = True
        if lost:
            self.tally.lost += len(lost)
            self._doubt(now)

    def forget(self) -> None:
        """Wait no longer for what was sent so far, and count nothing of it."""
        self._past.update(dict.fromkeys(self._pending, False))
        self._pending.clear()

    def _hand_over(self, action: int, packets: Sequence[bytes | bytearray]) -> None:
        """To the kernel. What it does not take stays pending, and is lost: the schedule must not bend."""
        if not packets:
            return
        self.tally.sent[action] += len(packets)
        try:
            self._sender.send(packets)
        except ConnectionRefusedError:  # of an earlier datagram; this one was not sent
            self._fault(UNREACHABLE)
        except OSError as error:
            self._fault(f"not sent: {error.strerror}")

    def _renewed(self, connection_id: bytes, now: int) -> None:
        self._connection_id = connection_id
        self._renew_at = now + self._reconnect_after
        self._id_expires = now + int(MAX_ID_AGE * SECOND)
        self._doubt_from = now + SECOND
        self.connected = True

    def _doubt(self, now: int) -> None:
        """Something went wrong: perhaps the tracker has another key now. Ask for a new id, once a second at most."""
        self._renew_at = min(self._renew_at, max(now, self._doubt_from))
        self._doubt_from = max(self._doubt_from, now + SECOND)

    def _peers_are_right(self, data: bytes, torrent: int) -> bool:
        self._until_check = self._check_every
        self.tally.checked += 1
        peers = wire.split_peers(data[20:], self._family)
        may_meet = self._may_meet
        if not all(may_meet(torrent, peer) for peer in peers):
            self._failed_with("a peer of another torrent, or of none")
        elif len(set(peers)) != len(peers):
            self._failed_with("a peer given twice")
        else:
            return True
        return False

    def _stray(self, transaction_id: int) -> None:
        """An answer to what nobody waits for."""
        was_lost = self._past.pop(transaction_id, None)
        if was_lost is None:
            self._fault("unknown transaction id")
        elif was_lost:
            self.tally.lost -= 1
            self.tally.late += 1

    def _failed(self, data: bytes, now: int) -> None:
        """An answer of another action than was asked for: an error, one hopes."""
        try:
            response = wire.decode_response(data)
        except wire.WireError:
            self._failed_with("not an answer of BEP 15")
            return
        if isinstance(response, wire.ErrorResponse):
            self._failed_with(f"refused: {printable(response.message[:60])}")
            self._doubt(now)
        else:
            self._failed_with("answer of the wrong action")

    def _failed_with(self, what: str) -> None:
        """A request of ours was answered, but badly."""
        self.tally.failed += 1
        self._fault(what)

    def _fault(self, what: str) -> None:
        self.tally.errors[what] += 1


def _plan(options: LoadOptions, draw: random.Random) -> Iterator[int]:
    """The endless sequence of actions in the proportions of the run's mix."""
    connects, announces, scrapes = options.mix
    actions = (_CONNECT, _ANNOUNCE, _LIFE_EVENT, _SCRAPE)
    weights = (connects, announces * (1 - options.churn), announces * options.churn, scrapes)
    return cycle(draw.choices(actions, weights, k=_PLAN_LENGTH))


def _scrapes(world: World, options: LoadOptions, torrents: list[int], draw: random.Random) -> list[bytearray]:
    """Scrape requests for torrents as popular as they are among these."""
    requests = []
    for _ in range(_SCRAPES):
        info_hashes = [world.info_hashes[torrent] for torrent in draw.choices(torrents, k=options.scrape_hashes)]
        requests.append(bytearray(wire.encode_scrape_request(bytes(8), 0, info_hashes)))
    return requests
