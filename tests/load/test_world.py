"""Who exists in a run, and who can be met where."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from udptracker.core import wire
from udptracker.load.options import LoadOptions
from udptracker.load.world import InfoHashes, Peer, World

ADDRESSES = [bytes([127, 0, 0, 2 + nth]) for nth in range(3)]


def options(**more: Any) -> LoadOptions:
    return LoadOptions(**{"host": "127.0.0.1", "port": 1, "torrents": 50, "peers": 600, "sources": 3, **more})


def everyone(world: World) -> list[Peer]:
    return [peer for lane in range(3) for peer in world.peers(lane)]


@given(
    addresses=st.sampled_from([ADDRESSES, ADDRESSES[:1], [bytes(15) + b"\x01"]]),
    seed=st.integers(0, 2**32),
    torrents=st.integers(1, 20),
    peers=st.integers(3, 200),
    stranger=st.binary(min_size=6, max_size=6),
)
def test_exactly_the_peers_of_a_torrent_may_be_met(
    addresses: list[bytes], seed: int, torrents: int, peers: int, stranger: bytes
) -> None:
    world = World(options(seed=seed, torrents=torrents, peers=peers), addresses)
    population = everyone(world)
    assert len(population) == peers
    endpoints = [(peer.torrent, world.endpoint(peer)) for peer in population]
    known = set(endpoints)
    assert len(known) == peers  # no two peers of a torrent are at one endpoint
    for torrent in range(torrents):
        for endpoint in {endpoint for _, endpoint in endpoints} | {stranger}:
            assert world.may_meet(torrent, endpoint) == ((torrent, endpoint) in known)


def test_peers_announce_from_the_lane_of_their_address() -> None:
    world = World(options(), ADDRESSES)
    for lane, address in enumerate(ADDRESSES):
        peers = list(world.peers(lane))
        assert peers
        assert {world.endpoint(peer)[:4] for peer in peers} == {address}


def test_a_large_swarm_has_an_endpoint_for_everyone() -> None:
    world = World(options(torrents=1, peers=100_000), ADDRESSES)
    assert len({world.endpoint(peer) for peer in everyone(world)}) == 100_000


def test_the_seed_makes_the_world() -> None:
    first, again, other = (World(options(seed=seed), ADDRESSES) for seed in (1, 1, 2))
    assert everyone(first) == everyone(again)
    assert everyone(first) != everyone(other)
    assert [*first.info_hashes] == [*again.info_hashes]


def test_worlds_with_other_peers_share_no_torrent() -> None:
    worlds = [options(), options(seed=2), options(peers=601), options(sources=2), options(skew=0.5)]
    names = [name for world in worlds for name in InfoHashes(world)]
    assert len(set(names)) == len(names) == 5 * 50
    assert {len(name) for name in names} == {20}


def test_popularity_follows_zipf() -> None:
    world = World(options(torrents=1000, peers=50_000, skew=1.0), ADDRESSES)
    sizes = Counter(peer.torrent for peer in everyone(world))
    expected = 50_000 / sum(1 / rank for rank in range(1, 1001))
    assert abs(sizes[0] / expected - 1) < 0.05
    assert abs(sizes[9] / (expected / 10) - 1) < 0.25
    flat = Counter(peer.torrent for peer in everyone(World(options(torrents=10, peers=50_000, skew=0.0), ADDRESSES)))
    assert max(flat.values()) < 1.1 * min(flat.values())


def test_the_share_of_seeders() -> None:
    world = World(options(peers=10_000, seeders=0.3), ADDRESSES)
    assert 0.28 < sum(peer.seeder for peer in everyone(world)) / 10_000 < 0.32


def test_an_announce_is_what_the_codec_reads() -> None:
    world = World(options(num_want=7), ADDRESSES)
    for peer in islice(world.peers(1), 20):
        request = wire.decode_announce(bytes(world.announce(peer)))
        assert request.info_hash == world.info_hashes[peer.torrent]
        assert (request.left == 0) == peer.seeder
        assert (request.num_want, request.event, request.port) == (7, 0, world.port(peer))
    everyones = [bytes(world.announce(peer))[36:56] for peer in everyone(world)]
    assert len(set(everyones)) == 600  # peer ids
