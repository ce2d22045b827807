"""What Linux counts that a program never sees: datagrams dropped because a socket's receive buffer was full.

`/proc/net/udp` and `/proc/net/udp6` hold a line per UDP socket (proc(5)); the tenth field is the socket's
inode, the last one its drops. An inode names a socket even where several share one port.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

TABLES: Final = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


def socket_drops(inodes: Collection[int], tables: Iterable[Path] = TABLES) -> int:
    """Datagrams that the kernel has dropped for these sockets since they were opened.

    Args:
        inodes: `os.fstat(fd).st_ino` of each socket.
        tables: where to read; one that cannot be read counts as 0, since not every sandbox shows it.
    """
    wanted = {str(inode) for inode in inodes}
    drops = 0
    for table in tables:
        try:
            lines = table.read_text().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            fields = line.split()
            if fields[9] in wanted:
                drops += int(fields[-1])
    return drops
