"""The CPU quota of control groups, in folders laid out as the kernel does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from udptracker.cores import usable_cores

CORES = len(os.sched_getaffinity(0))

V2 = {
    "proc/self/cgroup": "0::/system.slice/udptracker.service\n",
    "proc/self/mountinfo": "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
}
V2_GROUP = "sys/fs/cgroup/system.slice/udptracker.service"
V1 = {
    "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
    "proc/self/mountinfo": (
        "31 24 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 24 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    ),
}
V1_GROUP = "sys/fs/cgroup/cpu,cpuacct"


def machine(root: Path, *files: Mapping[str, str]) -> Path:
    """A root folder with these files in it."""
    for each in files:
        for name, text in each.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def v1(quota: int, folder: str = V1_GROUP) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(("quota", "expected"), [(50_000, 1), (100_000, 1), (100_001, 2), (-1, CORES)])
def test_a_quota_is_rounded_up(tmp_path: Path, quota: int, expected: int) -> None:
    expected = min(expected, CORES)
    most = "max" if quota < 0 else str(quota)
    assert usable_cores(machine(tmp_path / "2", V2, {f"{V2_GROUP}/cpu.max": f"{most} 100000\n"})) == expected
    assert usable_cores(machine(tmp_path / "1", V1, v1(quota))) == expected


def test_never_more_than_there_are(tmp_path: Path) -> None:
    assert usable_cores(machine(tmp_path, V2, {f"{V2_GROUP}/cpu.max": "10000000 100000\n"})) == CORES


def test_the_tightest_group_holds(tmp_path: Path) -> None:
    above = {"sys/fs/cgroup/system.slice/cpu.max": "100000 100000\n", f"{V2_GROUP}/cpu.max": "max 100000\n"}
    assert usable_cores(machine(tmp_path, V2, above)) == 1


def test_a_container_with_its_own_namespace(tmp_path: Path) -> None:
    inside = V2 | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}
    assert usable_cores(machine(tmp_path, inside)) == 1


def test_a_container_that_sees_the_hosts_path(tmp_path: Path) -> None:
    """Its own group is mounted as the root of the hierarchy."""
    hosts = V1 | {"proc/self/cgroup": "3:cpu,cpuacct:/somewhere/else\n"}
    assert usable_cores(machine(tmp_path, hosts, v1(100_000))) == 1


def test_both_versions_at_once(tmp_path: Path) -> None:
    """As systemd's hybrid hierarchy: version 2 without controllers beside version 1."""
    both = {name: V1[name] + V2[name].replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified") for name in V1}
    assert usable_cores(machine(tmp_path, both, v1(100_000))) == 1


@pytest.mark.parametrize("text", ["", "nonsense", "max"])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, text: str) -> None:
    assert usable_cores(tmp_path) == CORES
    assert usable_cores(machine(tmp_path, V2, {f"{V2_GROUP}/cpu.max": text})) == CORES


def test_this_machine() -> None:
    assert 1 <= usable_cores() <= CORES
