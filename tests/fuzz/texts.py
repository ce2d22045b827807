"""Texts and datagrams that somebody else has written: configurations, and what a tracker answers our clients."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from udptracker import config
from udptracker.config import ConfigError, Fault
from udptracker.core import wire
from udptracker.core.text import printable
from udptracker.core.wire import AnnounceResponse, ErrorResponse, WireError

_CONFIGS: Final = Path(__file__).parents[2] / "configs"


class ConfigTarget:
    """A configuration: it is taken, or refused by `ConfigError`, and shown without a word of its secrets."""

    def close(self) -> None: ...

    def seeds(self) -> Sequence[bytes]:
        files = [path.read_bytes()[:4000] for path in sorted(_CONFIGS.glob("*.yaml"))]
        return [
            *files,
            b"udptracker: {udp: {private_key: [a, b]}, storage: {name: redis, config: {redis_broker: 'redis://h:1/0'}}}",
            b"chihaya: {prehooks: [{name: jwt, options: {issuer: a}}]}",
            b"udptracker: &a\n  announce_interval: ${X}\n  udp: *a\n",
            b"udptracker: !!binary aGVsbG8=\n",
            b"{? [a]: b, 1e400: 2, .inf: 3, 2020-01-01: 4, 0x_: 5, '\\ud800': 6}",
            b"\xff\xfeu\0d\0p\0",
        ]

    def feed(self, data: bytes) -> None:
        faults: Sequence[Fault] = ()
        try:
            config.dump(config.parse(data, {"X": "30m", "TRACKER_KEY": "swordfish"}).settings)
        except ConfigError as error:
            faults = error.faults
        assert all(str(fault).isprintable() for fault in faults), faults


class ResponseTarget:
    """A datagram from a tracker that may be hostile: a message, or `WireError`; what is shown of it is printable."""

    def close(self) -> None: ...

    def seeds(self) -> Sequence[bytes]:
        head = (7).to_bytes(4, "big")
        return [
            bytes((0, 0, 0, action)) + head + body
            for action in range(6)
            for body in (b"", bytes(8), bytes(12) + b"\x7f\0\0\1\x1a\xe1", b"no \x1b]0;x\x07\xff\0", b"\xff" * 36)
        ]

    def feed(self, data: bytes) -> None:
        try:
            response = wire.decode_response(data)
            if isinstance(response, AnnounceResponse):
                for family in (4, 6):
                    assert len(wire.split_peers(response.peers, family)) <= len(data) // 6
            elif isinstance(response, ErrorResponse):
                assert printable(response.message).isprintable()
        except WireError:
            pass
        # The server's half of the codec, which takes the same bytes.
        options = wire.url_data(data)
        assert len(options.path) + len(options.query) <= len(data)
        for decode in (wire.decode_head, wire.decode_announce, wire.decode_scrape):
            with contextlib.suppress(WireError):
                decode(data)
