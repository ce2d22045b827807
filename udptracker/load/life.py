"""What the peers of one lane do in the course of a run: they start, complete, stop, and come back."""

from __future__ import annotations

import random
from itertools import cycle
from struct import Struct
from typing import Final

from udptracker.core.wire import Event
from udptracker.load.world import Peer, World

_put_left = Struct(">Q").pack_into
_put_event = Struct(">I").pack_into
_LEFT_AT: Final = 64
_EVENT_AT: Final = 80
"""Places in an announce request (BEP 15, "IPv4 announce request")."""


class Population:
    """The announces of a lane's peers, prepared once and patched as their lives go on.

    Each peer has its turn once in a round, in the same shuffled order. Its first announce says started, and so does
    the one after it stopped.

    Args:
        world: makes the announces.
        peers: of this lane.
        draw: decides about lives.
    """

    def __init__(self, world: World, peers: list[Peer], draw: random.Random) -> None:
        draw.shuffle(peers)
        self._peers = peers
        self._draw = draw.random
        self._packets = [world.announce(peer) for peer in peers]
        self._born = [int.from_bytes(packet[_LEFT_AT : _LEFT_AT + 8], "big") for packet in self._packets]
        self._torrents = [peer.torrent for peer in peers]
        self._order = cycle(range(len(peers)))
        self._away = set(range(len(peers)))
        self._marked: list[bytearray] = []

    def __len__(self) -> int:
        return len(self._peers)

    def announce(self, life_event: bool) -> tuple[bytearray, int]:
        """The announce of the peer whose turn it is, and its torrent; with `life_event` it completes or stops.

        The packet is good until `settle`. In between no more than one round may be taken.
        """
        place = next(self._order)
        packet = self._packets[place]
        if place in self._away:
            self._away.discard(place)
            _put_left(packet, _LEFT_AT, self._born[place])
            self._mark(packet, Event.STARTED)
        elif life_event:
            if any(packet[_LEFT_AT : _LEFT_AT + 8]) and self._draw() < 0.5:
                _put_left(packet, _LEFT_AT, 0)
                self._mark(packet, Event.COMPLETED)
            else:
                self._away.add(place)
                self._mark(packet, Event.STOPPED)
        return packet, self._torrents[place]

    def settle(self) -> None:
        """What was taken is sent: its events are past."""
        for packet in self._marked:
            _put_event(packet, _EVENT_AT, Event.NONE)
        self._marked.clear()

    def _mark(self, packet: bytearray, event: Event) -> None:
        _put_event(packet, _EVENT_AT, event)
        self._marked.append(packet)
