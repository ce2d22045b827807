"""Peers that announce all the time, and a ledger of what they were told: whom nothing that breaks may lose.

Who announces again after a fault is back whatever the tracker forgot. So a part of the peers falls silent before the
fault, and another part while it is mended: these are found only if the tracker kept them.

A request that was given up may still be in the air, and arrive when the tracker that was asked stands up again. A peer
does not start, complete or stop until it is answered too: in which order datagrams arrive, no tracker can know.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from tests.support.waiting import eventually
from udptracker.core import wire
from udptracker.core.wire import AnnounceRequest, AnnounceResponse, ConnectResponse, ErrorResponse, Event, WireError

PEERS: Final = 400
SWARMS: Final = 20
_FIRST_PORT: Final = 2_000
_PER_SECOND: Final = 800
_RETRY_SECONDS: Final = 0.7
_ID_SECONDS: Final = 45.0
_STOP_SHARE: Final = 0.05
_COMPLETE_SHARE: Final = 0.03
_WANDER_SHARE: Final = 0.05
_PARTS: Final = 4


def info_hash(swarm: int) -> bytes:
    """The info hash of a swarm."""
    return swarm.to_bytes(4, "big") * 5


class Peer:
    """One peer. `acknowledged` is True once it was told to be in its swarm, False once told to be out of it, and None
    while it does not know; `told` is when that was. `given_up` counts requests that were sent again and may still
    arrive."""

    __slots__ = (
        "acknowledged",
        "asked",
        "event",
        "given_up",
        "left",
        "part",
        "port",
        "sent",
        "swarm",
        "told",
        "tracker",
        "transaction_id",
    )

    def __init__(self, number: int, tracker: int) -> None:
        self.port = _FIRST_PORT + number
        self.swarm = number % SWARMS
        self.part = number // SWARMS % _PARTS
        self.tracker = tracker
        self.left = number % 3
        self.event = Event.STARTED
        self.acknowledged: bool | None = None
        self.transaction_id = self.given_up = 0
        self.asked = self.sent = self.told = 0.0

    @property
    def endpoint(self) -> bytes:
        return socket.inet_aton("127.0.0.1") + self.port.to_bytes(2, "big")


class Crowd:
    """All peers, in one thread, each from one of several sockets, which are connected to ports of 127.0.0.1.

    A request that is not answered is sent again from the next socket, as a client with several trackers does; now and
    then a peer changes without a reason. A port may be given more than once, to reach all workers behind it.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.peers = [Peer(number, number % len(ports)) for number in range(PEERS)]
        self.answers = 0
        self.longest_silence = 0.0
        """Seconds in which nobody was answered."""
        self.slowest_answer = 0.0
        """Seconds from an announce to its answer, with all that was sent again in between."""
        self.errors: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._random = random.Random(7)
        self._sockets = []
        for port in ports:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.connect(("127.0.0.1", port))
            self._sockets.append(sock)
        self._ids = [(b"", 0.0)] * len(ports)
        self._silent = 0
        self._waiting: dict[int, Peer] = {}
        self._given_up: dict[int, Peer] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for sock in self._sockets:
            sock.close()

    def hush(self) -> None:
        """Let one more part of the peers fall silent, and return when those have the answer they wait for."""
        hushed, self._silent = self._silent, self._silent + 1
        members = [peer for peer in self.peers if peer.part == hushed]
        eventually(lambda: not any(peer.transaction_id for peer in members), "peers to be answered")

    def stop(self) -> None:
        """Announce no more; every request on its way is answered, or given up, first."""
        self._end.set()
        self._thread.join()

    def known(self, begin: float, end: float) -> tuple[dict[int, set[bytes]], dict[int, set[bytes]]]:
        """By swarm: endpoints that were told to be in it, and those told to be out of it, but not whoever heard last
        between `begin` and `end`."""
        inside: dict[int, set[bytes]] = {swarm: set() for swarm in range(SWARMS)}
        outside: dict[int, set[bytes]] = {swarm: set() for swarm in range(SWARMS)}
        for peer in self.peers:
            if peer.acknowledged is not None and not peer.transaction_id and not begin <= peer.told < end:
                (inside if peer.acknowledged else outside)[peer.swarm].add(peer.endpoint)
        return inside, outside

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        for at, sock in enumerate(self._sockets):
            selector.register(sock, selectors.EVENT_READ, at)
        last_answer = time.monotonic()
        next_peer = 0
        started, sent = last_answer, 0
        give_up = 0.0
        while True:
            now = time.monotonic()
            if self._end.is_set():
                give_up = give_up or now + 3.0
                if not self._waiting or now > give_up:
                    break
            else:
                while sent < (now - started) * _PER_SECOND:
                    sent += 1
                    peer = self.peers[next_peer % PEERS]
                    next_peer += 1
                    if not peer.transaction_id and peer.part >= self._silent:
                        self._begin(peer, now)
            for peer in [peer for peer in self._waiting.values() if now - peer.sent > _RETRY_SECONDS]:
                self._give_up(peer)
                self._send(peer, now)
            for key, _ in selector.select(0.005):
                answered = self._receive(key.data)
                now = time.monotonic()
                if answered:
                    self.longest_silence = max(self.longest_silence, now - last_answer)
                    last_answer = now
        self.longest_silence = max(self.longest_silence, time.monotonic() - last_answer)
        selector.close()

    def _begin(self, peer: Peer, now: float) -> None:
        """The next announce of a peer's life."""
        chance = self._random.random()
        if peer.given_up:
            if peer.event is Event.STOPPED:
                return
            peer.event = Event.NONE
        elif peer.event is Event.STOPPED:
            peer.event, peer.left = Event.STARTED, 1
        elif peer.acknowledged is None:
            peer.event = Event.STARTED
        elif chance < _STOP_SHARE:
            peer.event = Event.STOPPED
        elif chance < _STOP_SHARE + _COMPLETE_SHARE and peer.left:
            peer.event, peer.left = Event.COMPLETED, 0
        else:
            peer.event = Event.NONE
        if self._random.random() < _WANDER_SHARE:
            peer.tracker = self._random.randrange(len(self._sockets))
        peer.asked = now
        self._send(peer, now)

    def _give_up(self, peer: Peer) -> None:
        """Expect nothing of the socket that a peer used, its connection id included, and turn to the next."""
        self._ids[peer.tracker] = (b"", 0.0)  # silence is how a tracker refuses one for the second time
        self._given_up[peer.transaction_id] = self._waiting.pop(peer.transaction_id)
        peer.given_up += 1
        peer.tracker = (peer.tracker + 1) % len(self._sockets)

    def _send(self, peer: Peer, now: float) -> None:
        peer.transaction_id, peer.sent = self._random.randrange(1, 2**32), now
        self._waiting[peer.transaction_id] = peer
        connection_id, made = self._ids[peer.tracker]
        if now - made > _ID_SECONDS:
            self._put(peer.tracker, wire.encode_connect_request(peer.transaction_id))
            return
        request = AnnounceRequest(
            info_hash(peer.swarm), b"-CH0001-%012d" % peer.port, 0, peer.left, 0, peer.event, bytes(4), 0, 50, peer.port
        )
        self._put(peer.tracker, wire.encode_announce_request(connection_id, peer.transaction_id, request))

    def _put(self, tracker: int, data: bytes) -> None:
        try:
            self._sockets[tracker].send(data)
        except OSError:  # refused by a tracker that is dead: the retry goes to the next
            self.errors["refused by the kernel"] += 1

    def _receive(self, tracker: int) -> bool:
        """Take what has come from a tracker; whether an announce was answered."""
        answered = False
        while True:
            try:
                data = self._sockets[tracker].recv(2048)
            except BlockingIOError:
                return answered
            except OSError:
                self.errors["refused by the kernel"] += 1
                return answered
            try:
                response = wire.decode_response(data)
            except WireError:
                self.wrong["not a response"] += 1
                continue
            peer = self._waiting.pop(response.transaction_id, None)
            if peer is None:
                late = self._given_up.pop(response.transaction_id, None)
                if late is not None:
                    late.given_up -= 1
                continue
            if isinstance(response, ConnectResponse):
                self._ids[tracker] = (response.connection_id, time.monotonic())
                self._send(peer, time.monotonic())
            elif isinstance(response, AnnounceResponse):
                answered = True
                self.answers += 1
                self._take(peer, response)
            else:
                message = response.message if isinstance(response, ErrorResponse) else "a scrape"
                self.errors[message] += 1
                self._ids[tracker] = (b"", 0.0) if "connection ID" in message else self._ids[tracker]
                self._send(peer, time.monotonic())

    def _take(self, peer: Peer, response: AnnounceResponse) -> None:
        peer.acknowledged = peer.event is not Event.STOPPED
        peer.transaction_id, peer.told = 0, time.monotonic()
        self.slowest_answer = max(self.slowest_answer, peer.told - peer.asked)
        endpoints = wire.split_peers(response.peers, 4)
        others = {other.endpoint for other in self.peers[peer.swarm :: SWARMS]} - {peer.endpoint}
        if not peer.acknowledged and endpoints:
            self.wrong["peers for one that stopped"] += 1
        if len(set(endpoints)) != len(endpoints):
            self.wrong["an endpoint twice"] += 1
        alone = response.seeders + response.leechers == 1 and endpoints == [peer.endpoint]
        if not alone and not set(endpoints) <= others:
            self.wrong["a peer of another swarm"] += 1
        if max(response.seeders, response.leechers) > PEERS // SWARMS:
            self.wrong["counts beyond the swarm"] += 1
        if peer.acknowledged and response.seeders + response.leechers == 0:
            self.wrong["the announcer was not counted"] += 1
