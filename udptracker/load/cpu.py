"""The CPU time of processes, and the process behind a UDP port, from proc(5)."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from time import clock_gettime
from typing import Final

_PROC: Final = Path("/proc")
_CPU_OF_PROCESS: Final = 2
"""The low three bits of the number of a process's CPU clock (CPUCLOCK_SCHED of the kernel); see clock_getcpuclockid(3),
which Python lacks. It counts nanoseconds, where proc(5) has hundredths of a second."""


def listeners(address: str, port: int) -> tuple[int, ...]:
    """The processes that hold a UDP socket on this port of this address, or of all; none if it is not on this machine.

    Those of other users are seen by root only.
    """
    inodes = _inodes(address, port)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return tuple(pid for pid in _pids() if wanted and _holds(pid, wanted))


def cpu_seconds(pids: Collection[int]) -> dict[int, float]:
    """CPU seconds so far, user and system, of these processes and of all that descend from them, by process id."""
    family = set(pids)
    seconds: dict[int, float] = {}
    stats = {pid: stat for pid in _pids() if (stat := _stat(pid))}
    grown = True
    while grown:
        children = {pid for pid, stat in stats.items() if int(stat[1]) in family}
        grown = not children <= family
        family |= children
    for pid in family & stats.keys():
        with suppress(OSError):  # it has ended in between
            seconds[pid] = clock_gettime(~pid << 3 | _CPU_OF_PROCESS)
    return seconds


def spent(before: dict[int, float], after: dict[int, float]) -> float:
    """CPU seconds between two readings, of processes that ended in between not counted after the first reading."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def _inodes(address: str, port: int) -> set[str]:
    target = ip_address(address.partition("%")[0])
    wanted = {_hex(target.packed), "0" * 8, "0" * 32}
    inodes = set()
    for name in ("udp", "udp6"):
        try:
            rows = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            local, _, local_port = columns[1].partition(":")
            if int(local_port, 16) == port and local in wanted:
                inodes.add(columns[9])
    return inodes


def _hex(packed: bytes) -> str:
    """A packed address as /proc/net writes it: 32-bit words in the machine's byte order."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _holds(pid: int, wanted: set[str]) -> bool:
    folder = _PROC / str(pid) / "fd"
    try:
        names = os.listdir(folder)
    except OSError:  # it is another user's, or gone
        return False
    for name in names:
        with suppress(OSError):  # closed in between
            if os.readlink(folder / name) in wanted:
                return True
    return False


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name in parentheses: state, parent, ... ; empty if it is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []
