"""What Linux counts that a program never sees: datagrams dropped because a socket's receive buffer was full."""

from __future__ import annotations

import socket
from struct import Struct
from typing import Final

_SO_MEMINFO: Final = 55
"""socket(7) does not have it: <asm-generic/socket.h>, since Linux 4.12."""
_MEMINFO: Final = Struct("=9I")
"""The fields of enum sk_meminfo of <linux/sock_diag.h>; the last one is the drops."""


def socket_drops(sock: socket.socket) -> int:
    """Datagrams that the kernel has dropped for this socket since it was opened; 0 once it is closed."""
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1])
    except OSError:
        return 0
