"""Many datagrams in one system call, and one walk down the kernel's network stack.

UDP segmentation offload (udp(7), UDP_SEGMENT) takes packets of one length joined together and cuts them apart at
the receiver's socket on loopback, else in the network card: to whoever receives, they are ordinary datagrams. On
loopback it takes sending from 2.2 µs a datagram to 0.5, which is why a generator in Python can keep up at all.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final

from udptracker.load.options import MAX_BURST

_MOST_BYTES: Final = 65000
_UDP_SEGMENT: Final = 103
_UNABLE: Final = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT)
"""What a kernel, a device or a path says that cannot do it for these packets."""


class BurstSender:
    """Sends packets on a connected, non-blocking UDP socket.

    Args:
        sock: closed by the owner.
        most: packets to join at most, `MAX_BURST` or fewer; with 1 each is sent by itself.
    """

    def __init__(self, sock: socket.socket, most: int = MAX_BURST) -> None:
        self._socket = sock
        self._most = most
        self._joined = most > 1

    def send(self, packets: Sequence[bytes | bytearray]) -> None:
        """Send packets, all of one length.

        Raises:
            OSError: not all were sent. `ConnectionRefusedError` may be about one of an earlier call.
        """
        length = len(packets[0])
        most = min(self._most, _MOST_BYTES // length)
        for start in range(0, len(packets), most):
            self._send_joined(packets[start : start + most], length)

    def _send_joined(self, packets: Sequence[bytes | bytearray], length: int) -> None:
        if self._joined and len(packets) > 1:
            segment = (socket.IPPROTO_UDP, _UDP_SEGMENT, length.to_bytes(2, "little"))
            try:
                self._socket.sendmsg((b"".join(packets),), (segment,))
                return
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
                self._joined = False
        for packet in packets:
            self._socket.send(packet)
