"""Peers that announce all the time, and a ledger of what they were told: the load under which things are broken."""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from udptracker import wire
from udptracker.wire import AnnounceRequest, AnnounceResponse, ConnectResponse, ErrorResponse, Event, WireError

PEERS: Final = 400
SWARMS: Final = 20
_FIRST_PORT: Final = 2_000
_PER_SECOND: Final = 800
_RETRY_SECONDS: Final = 0.7
_ID_SECONDS: Final = 45.0
_STOP_SHARE: Final = 0.02
_COMPLETE_SHARE: Final = 0.03


def info_hash(swarm: int) -> bytes:
    """The info hash of a swarm."""
    return swarm.to_bytes(4, "big") * 5


class Peer:
    """One peer. `acknowledged` is True once it was told to be in its swarm, False once told to be out of it, and None
    while it does not know."""

    __slots__ = ("acknowledged", "due", "event", "left", "port", "sent", "swarm", "transaction_id")

    def __init__(self, number: int) -> None:
        self.port = _FIRST_PORT + number
        self.swarm = number % SWARMS
        self.left = number % 3
        self.event = Event.STARTED
        self.acknowledged: bool | None = None
        self.transaction_id = 0
        self.sent = self.due = 0.0

    @property
    def endpoint(self) -> bytes:
        return socket.inet_aton("127.0.0.1") + self.port.to_bytes(2, "big")


class Crowd:
    """All peers, in one thread, against trackers on ports of 127.0.0.1 that share their keys.

    A request that is not answered is sent again to the next tracker, as a client with several trackers does.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.peers = [Peer(number) for number in range(PEERS)]
        self.answers = 0
        self.longest_silence = 0.0
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
        self._tracker = 0
        self._waiting: dict[int, Peer] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for sock in self._sockets:
            sock.close()

    def stop(self) -> None:
        """Announce no more; every request on its way is answered, or given up, first."""
        self._end.set()
        self._thread.join()

    def known(self) -> tuple[dict[int, set[bytes]], dict[int, set[bytes]]]:
        """By swarm: endpoints that were told to be in it, and those told to be out of it."""
        inside: dict[int, set[bytes]] = {swarm: set() for swarm in range(SWARMS)}
        outside: dict[int, set[bytes]] = {swarm: set() for swarm in range(SWARMS)}
        for peer in self.peers:
            if peer.acknowledged is not None and not peer.transaction_id:
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
                    if not peer.transaction_id:
                        self._begin(peer, now)
            for peer in [peer for peer in self._waiting.values() if now - peer.sent > _RETRY_SECONDS]:
                self._tracker = (self._tracker + 1) % len(self._sockets)
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
        if peer.event is Event.STOPPED:
            peer.event, peer.left = Event.STARTED, 1
        elif peer.acknowledged is None:
            peer.event = Event.STARTED
        elif chance < _STOP_SHARE:
            peer.event = Event.STOPPED
        elif chance < _STOP_SHARE + _COMPLETE_SHARE and peer.left:
            peer.event, peer.left = Event.COMPLETED, 0
        else:
            peer.event = Event.NONE
        self._send(peer, now)

    def _send(self, peer: Peer, now: float) -> None:
        self._waiting.pop(peer.transaction_id, None)
        peer.transaction_id, peer.sent = self._random.randrange(1, 2**32), now
        self._waiting[peer.transaction_id] = peer
        connection_id, made = self._ids[self._tracker]
        if now - made > _ID_SECONDS:
            self._put(wire.encode_connect_request(peer.transaction_id))
            return
        request = AnnounceRequest(
            info_hash(peer.swarm), b"-CH0001-%012d" % peer.port, 0, peer.left, 0, peer.event, bytes(4), 0, 50, peer.port
        )
        self._put(wire.encode_announce_request(connection_id, peer.transaction_id, request))

    def _put(self, data: bytes) -> None:
        try:
            self._sockets[self._tracker].send(data)
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
                continue  # late: its request was sent again
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
        peer.transaction_id = 0
        peer.acknowledged = peer.event is not Event.STOPPED
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
