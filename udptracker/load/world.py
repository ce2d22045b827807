"""The torrents and peers of a run, fixed by its seed, so that an answer can be checked without a register of peers.

Every peer is the n-th (its rank) of its torrent. Rank and torrent give its lane (a socket of the generator), hence
its address, and its port; the way back from an endpoint to a rank is arithmetic, and the endpoint may be given to
whoever asks about the torrent if that rank is below the torrent's size.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from udptracker.core import wire
from udptracker.core.wire import AnnounceRequest
from udptracker.load.options import LoadOptions

_FIRST_PORT: Final = 1024
_PORTS: Final = 65536 - _FIRST_PORT
_PORT_STRIDE: Final = 7919
"""Ports of a torrent start elsewhere than its neighbour's, so that single peers do not all have the same one."""

_SIZE: Final = 1 << 30
"""Bytes of every torrent, for `left`."""


class Peer(NamedTuple):
    """One peer of the world; `seeder` is what it is when it starts."""

    torrent: int
    rank: int
    seeder: bool


class InfoHashes:
    """The names of a world's torrents: worlds that differ in who can be met where share none, so that what an earlier
    run has left in a tracker is not taken for an error of this one's."""

    def __init__(self, options: LoadOptions) -> None:
        shape = (options.seed, options.torrents, options.peers, options.skew, options.sources)
        self._prefix = repr(shape).encode()
        self._torrents = options.torrents

    def __getitem__(self, torrent: int) -> bytes:
        """20 bytes."""
        return hashlib.sha1(b"%b:%d" % (self._prefix, torrent)).digest()

    def __iter__(self) -> Iterator[bytes]:
        """All of them, the most popular one first."""
        return map(self.__getitem__, range(self._torrents))


class World:
    """Who exists, and who can be met where.

    Args:
        options: the run.
        addresses: packed addresses that the lanes send from: one for each of `options.sources`, or one for all.
    """

    def __init__(self, options: LoadOptions, addresses: list[bytes]) -> None:
        self.info_hashes = InfoHashes(options)
        self._num_want = options.num_want
        self._lanes = options.sources
        self._addresses = addresses
        self._address_places = {address: place for place, address in enumerate(addresses)}
        self._sizes = [0] * options.torrents
        draw = random.Random(options.seed)
        weights = list(accumulate(1 / (place + 1) ** options.skew for place in range(options.torrents)))
        self._torrents = array("L", draw.choices(range(options.torrents), cum_weights=weights, k=options.peers))
        self._ranks = array("L")
        for torrent in self._torrents:
            self._ranks.append(self._sizes[torrent])
            self._sizes[torrent] += 1
        self._seeders = bytearray(draw.random() < options.seeders for _ in range(options.peers))

    def peers(self, lane: int) -> Iterator[Peer]:
        """The peers that announce from this lane."""
        for torrent, rank, seeder in zip(self._torrents, self._ranks, self._seeders, strict=True):
            if (torrent + rank) % self._lanes == lane:
                yield Peer(torrent, rank, bool(seeder))

    def port(self, peer: Peer) -> int:
        """The port it announces."""
        return _FIRST_PORT + (peer.rank // len(self._addresses) + peer.torrent * _PORT_STRIDE) % _PORTS

    def endpoint(self, peer: Peer) -> bytes:
        """Its compact endpoint."""
        address = self._addresses[(peer.torrent + peer.rank) % len(self._addresses)]
        return address + self.port(peer).to_bytes(2, "big")

    def may_meet(self, torrent: int, endpoint: bytes) -> bool:
        """Whether a compact endpoint is a peer's of this torrent."""
        place = self._address_places.get(endpoint[:-2])
        if place is None:
            return False
        count = len(self._addresses)
        port = int.from_bytes(endpoint[-2:], "big")
        nth = (port - _FIRST_PORT - torrent * _PORT_STRIDE) % _PORTS
        return port >= _FIRST_PORT and nth * count + (place - torrent) % count < self._sizes[torrent]

    def announce(self, peer: Peer) -> bytearray:
        """The announce of a peer, whose head (connection id, action, transaction id) is filled in when it is sent."""
        return bytearray(
            wire.encode_announce_request(
                bytes(8),
                0,
                AnnounceRequest(
                    info_hash=self.info_hashes[peer.torrent],
                    peer_id=b"-UL%06x%011d" % (peer.rank & 0xFFFFFF, peer.torrent),
                    downloaded=_SIZE if peer.seeder else 0,
                    left=0 if peer.seeder else _SIZE,
                    uploaded=0,
                    event=0,
                    ip=bytes(4),
                    key=peer.rank,
                    num_want=self._num_want,
                    port=self.port(peer),
                ),
            )
        )
