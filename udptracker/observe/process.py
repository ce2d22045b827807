"""What a process uses of the machine, as the kernel tells it (proc(5))."""

from __future__ import annotations

import os
import time
from pathlib import Path

from udptracker.core.counters import Counters


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Bytes of memory in use by this process; 0 where the kernel does not tell."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def watch(counters: Counters) -> None:
    """From now on snapshots of these counters tell what this process uses."""
    counters.gauges["cpu_seconds"] = time.process_time
    counters.gauges["resident_bytes"] = resident_bytes
