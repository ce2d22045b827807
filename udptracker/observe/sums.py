"""Snapshots of several processes as one.

Values are summed, save for what workers share or cannot add up: of what a store holds that they share the largest
figure counts, as of the lists that each of them has, of `store_up` and of when shared lists were refreshed the worst,
and the last reaper run is the latest of them all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import add
from typing import Any, Final

from udptracker.core.counters import Counters
from udptracker.core.swarm import Totals

Snapshot = Mapping[str, Any]
"""What `Counters.snapshot` returns, or its copy by way of JSON."""

_NOT_ADDED: Final = {
    "access_entries",
    "access_refreshed",
    "has_share",
    "reaper_last_success",
    "reaper_seconds",
    "store_up",
    "totals",
}
_NONE: Final = Totals(0, 0, 0)
_OF_THE_LIVING: Final = ("queue_depth", "undecided", "buffered", "resident_bytes", "tasks")


def merged(snapshots: Collection[Snapshot]) -> dict[str, Any]:
    """One snapshot that stands for all of them. Of none, it is zeros and a store that is not up."""
    result = Counters().snapshot()
    for name in result.keys() - _NOT_ADDED:
        for snapshot in snapshots:
            result[name] = _add(result[name], snapshot[name])
    result["store_up"] = min((snapshot["store_up"] for snapshot in snapshots), default=0)
    refreshed = [snapshot["access_refreshed"] for snapshot in snapshots if snapshot["access_refreshed"] is not None]
    result["access_refreshed"] = min(refreshed, default=0.0)
    for snapshot in snapshots:
        for name, entries in snapshot["access_entries"].items():
            result["access_entries"][name] = max(entries, result["access_entries"].get(name, 0))
        result["has_share"] |= snapshot["has_share"]
        together = add if snapshot["has_share"] else max
        for family, totals in snapshot["totals"].items():
            result["totals"][family] = tuple(map(together, totals, result["totals"].get(family, _NONE)))
        if snapshot["reaper_last_success"] > result["reaper_last_success"]:
            result["reaper_last_success"] = snapshot["reaper_last_success"]
            result["reaper_seconds"] = snapshot["reaper_seconds"]
    return result


def answering(workers: Mapping[str, Snapshot]) -> list[str]:
    """The names of the processes that answer; of the others there is what they last said, with `answers` false."""
    return [name for name, snapshot in workers.items() if snapshot.get("answers", True)]


def without_the_living(snapshot: Snapshot) -> dict[str, Any]:
    """What is left to count of a process that is gone: no gauges, since they were true of it while it lived."""
    return {
        **snapshot,
        **dict.fromkeys(_OF_THE_LIVING, 0),
        "access_entries": {},
        "access_refreshed": None,
        "totals": {},
    }


def _add(left: Any, right: Any) -> Any:
    """The sum of two values of a snapshot: of numbers, of lists place by place, of mappings key by key."""
    if isinstance(left, dict):
        return {**left, **right, **{key: _add(left[key], right[key]) for key in left.keys() & right.keys()}}
    if isinstance(left, list):
        return [_add(*pair) for pair in zip(left, right, strict=True)]
    return left + right
