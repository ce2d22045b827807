"""The lives of peers: what their announces say, one after the other."""

from __future__ import annotations

import random

from udptracker.core import wire
from udptracker.core.wire import AnnounceRequest, Event
from udptracker.load.life import Population
from udptracker.load.options import LoadOptions
from udptracker.load.world import World


def population(seeders: float, peers: int = 40) -> Population:
    options = LoadOptions(host="127.0.0.1", port=1, torrents=5, peers=peers, sources=1, seeders=seeders)
    world = World(options, [bytes([127, 0, 0, 2])])
    return Population(world, list(world.peers(0)), random.Random(7))


def round_of(peers: Population, *, life_events: bool = False) -> list[AnnounceRequest]:
    """What each peer announces in its next turn."""
    taken = []
    for _ in range(len(peers)):
        packet, _ = peers.announce(life_events)
        taken.append(wire.decode_announce(bytes(packet)))
    peers.settle()
    return taken


def test_everyone_starts_and_then_just_announces() -> None:
    peers = population(seeders=0.5)
    first, second = round_of(peers), round_of(peers)
    assert {request.event for request in first} == {Event.STARTED}
    assert {request.event for request in second} == {Event.NONE}
    assert [request.peer_id for request in first] == [request.peer_id for request in second]
    assert len({(request.info_hash, request.peer_id) for request in first}) == 40


def test_leechers_complete_or_stop_and_those_who_stopped_start_anew() -> None:
    peers = population(seeders=0.0)
    born = round_of(peers)
    turned = round_of(peers, life_events=True)
    after = round_of(peers)
    assert {request.event for request in turned} == {Event.COMPLETED, Event.STOPPED}
    for start, turn, then in zip(born, turned, after, strict=True):
        if turn.event == Event.COMPLETED:
            assert (turn.left, then.left, then.event) == (0, 0, Event.NONE)
        else:
            assert (turn.left, then.left, then.event) == (start.left, start.left, Event.STARTED)


def test_seeders_can_only_stop_and_whoever_returns_is_what_it_was() -> None:
    peers = population(seeders=1.0)
    round_of(peers)
    assert {(request.event, request.left) for request in round_of(peers, life_events=True)} == {(Event.STOPPED, 0)}

    leechers = population(seeders=0.0)
    born = round_of(leechers)
    for _ in range(8):  # complete, stop, start ...
        round_of(leechers, life_events=True)
        current = round_of(leechers)
        for start, now in zip(born, current, strict=True):
            if now.event == Event.STARTED:
                assert now.left == start.left


def test_the_torrent_is_told() -> None:
    peers = population(seeders=0.5)
    told: dict[bytes, set[int]] = {}
    for _ in range(len(peers)):
        packet, torrent = peers.announce(False)
        told.setdefault(bytes(packet[16:36]), set()).add(torrent)
    assert all(len(torrents) == 1 for torrents in told.values())
