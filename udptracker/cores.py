"""How many cores this process may use: of those it may run on, what its control groups' CPU quota leaves.

A container is given a quota rather than cores: workers beyond it would only take turns. cgroups(7): in version 2
`cpu.max` holds quota and period in microseconds, in version 1 `cpu.cfs_quota_us` and `cpu.cfs_period_us` do, with
the quota "max" or -1 for none. The tightest of all groups from this process's up to the root holds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

_ROOT: Final = Path("/")


class _Mount(NamedTuple):
    """A mounted hierarchy: the group that stands at `point`, and where that is."""

    group: PurePosixPath
    point: Path


def usable_cores(root: Path = _ROOT) -> int:
    """At least 1. `root` is where /proc and what it names are looked for."""
    cores = len(os.sched_getaffinity(0))
    quota = min(_quotas(root), default=math.inf)
    return cores if quota >= cores else max(math.ceil(quota), 1)


def _quotas(root: Path) -> Iterator[float]:
    """The quota, in cores, of each group that has one."""
    try:
        own = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in own:
        number, controllers, path = line.split(":", 2)
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        for mount in _mounts(mounts, root, version_2=number == "0"):
            for folder in _folders(mount, PurePosixPath(path)):
                with suppress(OSError, ValueError):
                    yield _quota_2(folder) if number == "0" else _quota_1(folder)


def _mounts(mounts: list[str], root: Path, *, version_2: bool) -> Iterator[_Mount]:
    """Where the hierarchy is mounted, by /proc/self/mountinfo (proc(5))."""
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" if version_2 else kind == "cgroup" and "cpu" in options.split(","):
            group, point = before.split(" ")[3:5]
            yield _Mount(PurePosixPath(group), root / point.lstrip("/"))


def _folders(mount: _Mount, path: PurePosixPath) -> Iterator[Path]:
    """The folders of the groups from `path` up to what is mounted."""
    # In a container without a namespace of its own the path is the host's: what is mounted is this process's group.
    inner = path.relative_to(mount.group) if path.is_relative_to(mount.group) else PurePosixPath()
    folder = mount.point / inner
    yield folder
    for _ in inner.parts:
        folder = folder.parent
        yield folder


def _quota_2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return math.inf if quota == "max" else int(quota) / int(period)


def _quota_1(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    return math.inf if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
