"""One lane against a tracker that the test plays by hand: what is sent, and what is found wrong with answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic_ns
from typing import Any

import pytest

from tests.support.waiting import eventually
from udptracker.core import wire
from udptracker.core.wire import Action
from udptracker.load.lane import SECOND, UNREACHABLE, Lane
from udptracker.load.options import LoadOptions
from udptracker.load.world import World

ADDRESS = bytes([127, 0, 0, 2])
ID = b"AN ID..."


class Played:
    """A lane, its world, and the tracker's end of its conversation."""

    def __init__(self, lane_socket: socket.socket, tracker: socket.socket, **more: Any) -> None:
        self.options = LoadOptions(
            **{
                "host": "127.0.0.1",
                "port": 1,
                "torrents": 4,
                "peers": 100,
                "sources": 1,
                "mix": (0, 1, 0),
                "num_want": 5,
                "scrape_hashes": 3,
                "check_every": 1,
                **more,
            }
        )
        self.world = World(self.options, [ADDRESS])
        self.lane = Lane(lane_socket, 0, self.world, self.options, 4)
        self.tracker = tracker
        self.peer = lane_socket.getsockname()

    def requests(self, count: int, now: int = 0) -> list[bytes]:
        """What the lane sends when it shall send so many."""
        before = sum(self.lane.tally.sent)
        self.lane.send(count, now, 0.0, now)
        return [self.tracker.recv(2000) for _ in range(sum(self.lane.tally.sent) - before)]

    def answer(self, *datagrams: bytes) -> None:
        """Let the lane take these."""
        for datagram in datagrams:
            self.tracker.sendto(datagram, self.peer)
        self.lane.receive()

    def connect(self, now: int = 0, connection_id: bytes = ID) -> None:
        """The first exchange of a lane, or a renewal."""
        (request,) = self.requests(0, now)
        assert request[:12] == wire.PROTOCOL_ID + bytes(4)
        self.answer(bytes(4) + request[12:16] + connection_id)

    def announced(self) -> tuple[int, int]:
        """Transaction id and torrent of an announce that the lane sends now."""
        (request,) = self.requests(1)
        torrent = list(self.world.info_hashes).index(request[16:36])
        return int.from_bytes(request[12:16], "big"), torrent

    def fault(self, *datagrams: bytes) -> str:
        """What is found wrong with these answers."""
        self.answer(*datagrams)
        (what,) = self.lane.tally.errors
        return what


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lane,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tracker,
    ):
        tracker.bind(("127.0.0.1", 0))
        tracker.settimeout(10.0)
        lane.bind(("127.0.0.2", 0))
        lane.connect(tracker.getsockname())
        lane.setblocking(False)
        yield lane, tracker


@pytest.fixture
def played(sockets: tuple[socket.socket, socket.socket]) -> Played:
    connected = Played(*sockets)
    connected.connect()
    return connected


def peers_of(played: Played, torrent: int, count: int) -> bytes:
    """Endpoints of so many peers of a torrent, joined."""
    endpoints = [played.world.endpoint(peer) for peer in played.world.peers(0) if peer.torrent == torrent]
    assert len(endpoints) >= count
    return b"".join(endpoints[:count])


def head(transaction_id: int, action: int = 1) -> bytes:
    """What an answer begins with."""
    return wire.response_head(action, transaction_id)


def test_nothing_but_connects_without_a_connection_id(sockets: tuple[socket.socket, socket.socket]) -> None:
    played = Played(*sockets)
    assert [request[:8] for request in played.requests(5)] == [wire.PROTOCOL_ID]
    assert not played.lane.connected
    assert played.requests(5, now=1) == []  # it waits for the answer before it asks again
    assert len(played.requests(5, now=int(played.options.timeout * SECOND))) == 1


def test_a_good_announce(played: Played) -> None:
    transaction_id, torrent = played.announced()
    played.answer(wire.encode_announce_response(head(transaction_id), 1800, 2, 3, peers_of(played, torrent, 2)))
    tally = played.lane.tally
    assert sum(tally.latencies[Action.ANNOUNCE].values()) == 1
    assert (tally.checked, tally.peers, tally.failed, played.lane.waiting) == (1, 2, 0, 0)
    assert not tally.errors


def test_all_kinds_of_requests_carry_the_id_and_find_their_answers(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    played = Played(*sockets, mix=(1, 1, 1))
    played.connect()
    for request in played.requests(60):
        head = wire.decode_head(request)
        if head.action == Action.CONNECT:
            assert head.connection_id == wire.PROTOCOL_ID
            played.answer(wire.encode_connect_response(request[8:16], ID))
            continue
        assert head.connection_id == ID
        if head.action == Action.SCRAPE:
            hashes = wire.decode_scrape(request)
            assert len(hashes) == 3
            assert set(hashes) <= set(played.world.info_hashes)
            played.answer(wire.encode_scrape_response(request[8:16], [1, 2, 3] * 3))
        else:
            wire.decode_announce(request)
            played.answer(wire.encode_announce_response(request[8:16], 1800, 0, 0, b""))
    tally = played.lane.tally
    assert tally.answered == 61 == sum(tally.sent)
    assert min(sum(latencies.values()) for latencies in tally.latencies) > 5
    assert not tally.errors


def test_what_can_be_wrong_with_an_announce_answer(sockets: tuple[socket.socket, socket.socket]) -> None:
    played = Played(*sockets)
    played.connect()

    def found(change: Any) -> str:
        transaction_id, torrent = played.announced()
        played.lane.tally.errors.clear()
        failed = played.lane.tally.failed
        what = played.fault(change(transaction_id, torrent))
        assert played.lane.tally.failed == failed + 1
        assert played.lane.waiting == 0
        return what

    def response(transaction_id: int, peers: bytes, action: int = 1) -> bytes:
        return wire.encode_announce_response(head(transaction_id, action), 1800, 0, 0, peers)

    foreign = bytes([10, 0, 0, 1, 4, 1])
    assert found(lambda i, t: response(i, b"")[:19]) == "wrong length of an announce answer"
    assert found(lambda i, t: response(i, b"12345")) == "wrong length of an announce answer"
    assert found(lambda i, t: response(i, peers_of(played, 0, 6))) == "wrong length of an announce answer"
    assert found(lambda i, t: response(i, foreign)) == "a peer of another torrent, or of none"
    assert found(lambda i, t: response(i, peers_of(played, t ^ 1, 1))) == "a peer of another torrent, or of none"
    assert found(lambda i, t: response(i, 2 * peers_of(played, t, 1))) == "a peer given twice"
    assert found(lambda i, t: response(i, b"", action=4)) == "answer of the wrong action"
    assert found(lambda i, t: wire.encode_error(i.to_bytes(4, "big"), "no way")) == "refused: no way"
    assert found(lambda i, t: b"\0\0\0\x09" + i.to_bytes(4, "big")) == "not an answer of BEP 15"


def test_what_can_be_wrong_with_a_scrape_answer(sockets: tuple[socket.socket, socket.socket]) -> None:
    played = Played(*sockets, mix=(0, 0, 1))
    played.connect()
    (request,) = played.requests(1)
    short = wire.encode_scrape_response(request[8:16], [1, 2, 3] * 2)
    assert played.fault(short) == "wrong length of a scrape answer"


def test_strays_are_faults_but_no_answers(played: Played) -> None:
    transaction_id, _ = played.announced()
    good = wire.encode_announce_response(head(transaction_id), 1800, 0, 0, b"")
    assert played.fault(good, good) == "unknown transaction id"
    played.lane.tally.errors.clear()
    assert played.fault(b"short") == "answer too short"
    assert (played.lane.tally.failed, played.lane.tally.answered) == (0, 2)


def test_lost_and_late_are_told_apart(played: Played) -> None:
    timeout = int(played.options.timeout * SECOND)
    ids = [request[12:16] for request in played.requests(3)]
    played.lane.expire(timeout - 1)
    assert played.lane.tally.lost == 0
    played.lane.expire(timeout)
    assert (played.lane.tally.lost, played.lane.waiting) == (3, 0)
    played.answer(wire.encode_announce_response(head(int.from_bytes(ids[0], "big")), 1800, 0, 0, b""))
    assert (played.lane.tally.lost, played.lane.tally.late) == (2, 1)
    assert not played.lane.tally.errors


def test_what_is_forgotten_is_not_counted(played: Played) -> None:
    transaction_id, _ = played.announced()
    played.lane.forget()
    tally_before = (played.lane.tally.answered, played.lane.tally.lost)
    played.answer(wire.encode_announce_response(head(transaction_id), 1800, 0, 0, b""))
    played.lane.expire(100 * SECOND)
    assert (played.lane.tally.answered, played.lane.tally.lost) == tally_before
    assert (played.lane.waiting, played.lane.tally.late) == (0, 0)
    assert not played.lane.tally.errors


def test_a_connection_id_is_renewed_in_time_and_never_used_after_a_minute(played: Played) -> None:
    # The id came "now" by the real clock, so the times here count from a moment after that.
    now = monotonic_ns()
    young = played.requests(1, now + 49 * SECOND)
    assert [request[:8] for request in young] == [ID]
    due = played.requests(1, now + 50 * SECOND)
    assert sorted(request[:8] for request in due) == sorted([wire.PROTOCOL_ID, ID])
    old = played.requests(1, now + 61 * SECOND)
    assert [request[:8] for request in old] == [wire.PROTOCOL_ID]
    played.answer(bytes(4) + old[0][12:16] + b"A NEW ID")
    assert [request[:8] for request in played.requests(1, now + 2)] == [b"A NEW ID"]


def test_a_refusal_makes_it_ask_for_a_new_id_once_a_second(played: Played) -> None:
    transaction_id, _ = played.announced()
    played.answer(wire.encode_error(transaction_id.to_bytes(4, "big"), "bad connection ID"))
    now = monotonic_ns()
    assert all(request[:8] == ID for request in played.requests(2, now))
    later = played.requests(2, now + 2 * SECOND)
    assert sum(request[:8] == wire.PROTOCOL_ID for request in later) == 1


def test_nobody_listening_is_counted(played: Played) -> None:
    played.tracker.close()

    def refused() -> int:
        played.lane.send(1, 0, 0.0, 0)
        played.lane.receive()
        return played.lane.tally.errors[UNREACHABLE]

    assert eventually(refused, "the kernel to say that nobody listens")


def test_a_small_lane_sends_no_packet_twice_in_a_batch(sockets: tuple[socket.socket, socket.socket]) -> None:
    played = Played(*sockets, peers=3)
    played.connect()
    sent = played.requests(50)
    assert len(sent) == 3
    assert len({request[12:16] for request in sent}) == 3


def test_latency_counts_from_when_a_request_was_due(played: Played) -> None:
    now = monotonic_ns()
    played.lane.send(2, now - 3 * SECOND, float(SECOND), now)
    for request in [played.tracker.recv(2000) for _ in range(2)]:
        played.answer(wire.encode_announce_response(request[8:16], 1800, 0, 0, b""))
    latencies = sorted(played.lane.tally.latencies[Action.ANNOUNCE])
    assert 2_000_000 <= latencies[0] < 3_000_000 <= latencies[1] < 10_000_000
    assert played.lane.tally.lag == 5 * SECOND
    assert played.lane.tally.worst_lag == 3 * SECOND


def test_the_seed_makes_the_requests(sockets: tuple[socket.socket, socket.socket]) -> None:
    runs = []
    for seed in (1, 1, 2):
        played = Played(*sockets, mix=(1, 8, 1), seed=seed)
        played.connect()
        runs.append([request for _ in range(5) for request in played.requests(20)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
