"""Clients at any address of 127.0.0.0/8, all behind one socket: what an attacker with many addresses has."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from udptracker.core import wire
from udptracker.core.wire import ConnectResponse
from udptracker.net.burst import make_burst

_UDP_SEGMENT: Final = 103
"""udp(7): cuts packets of one length apart that were sent as one."""
_PKTINFO: Final = 8
_ATTEMPTS: Final = 20
_SECONDS: Final = 0.5
"""Without an answer, after which what was sent counts as lost."""
_BUFFER_BYTES: Final = 4 << 20


class Crowd:
    """See the module. Its receive buffer holds some thousand answers: more than that at once are lost.

    Args:
        port: of a tracker on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind(("0.0.0.0", 0))
        self._socket.setblocking(False)
        self._burst = make_burst(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, source: bytes, packets: Sequence[bytes]) -> None:
        """Packets of one length, from a packed address."""
        control = [(socket.IPPROTO_IP, _PKTINFO, bytes(4) + source + bytes(4))]
        if len(packets) > 1:
            control.append((socket.IPPROTO_UDP, _UDP_SEGMENT, len(packets[0]).to_bytes(2, "little")))
        self._socket.settimeout(_SECONDS)
        self._socket.sendmsg((b"".join(packets),), control, 0, self._target)

    def receive(self) -> list[bytes]:
        """The next answers, none if none comes."""
        self._socket.settimeout(0)
        answers = [data for data, _, _ in self._burst.receive()]
        if not answers:
            self._socket.settimeout(_SECONDS)
            try:
                answers = [self._socket.recv(65535)]
            except TimeoutError:
                return []
        return answers

    def connect(self, sources: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The connection id of each of these addresses.

        Raises:
            AssertionError: some get none, however often they ask.
        """
        ids: dict[bytes, bytes] = {}
        for _ in range(_ATTEMPTS):
            missing = [number for number, source in enumerate(sources) if source not in ids]
            for number in missing:
                self.send(sources[number], [wire.encode_connect_request(number)])
            while len(ids) < len(sources) and (answers := self.receive()):
                for answer in map(wire.decode_response, answers):
                    if isinstance(answer, ConnectResponse):  # or one to an announce that was given up
                        ids[sources[answer.transaction_id]] = answer.connection_id
            if len(ids) == len(sources):
                return ids
        raise AssertionError(f"{len(sources) - len(ids)} addresses got no connection id")


def address(number: int) -> bytes:
    """The packed address of a number, in 127.1.0.0 and beyond."""
    return bytes((127, 1 + (number >> 16), number >> 8 & 255, number & 255))
