"""The loads that every tracker is driven with. Those of one name are the same to the byte, for all trackers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from udptracker.load import LoadOptions

MIXED: Final = "mixed"
"""Its throughput is what the open loop's rate is taken from."""

_WIDE: Final = {"torrents": 100_000, "peers": 200_000}
_ONE_SWARM: Final = {"torrents": 1, "peers": 20_000}
_FEWEST_PEERS: Final = 100
_SOURCES: Final = 8
_IN_FLIGHT: Final = 256
"""Requests that wait in all: as many as fit the buffer of a socket on which nobody has set its size."""

LOADS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        MIXED: {**_WIDE, "mix": (0, 99, 1)},
        "one swarm": {**_ONE_SWARM, "mix": (0, 99, 1)},
        "connect": {**_WIDE, "mix": (50, 50, 1)},
        "scrape": {**_WIDE, "mix": (0, 20, 80)},
    }
)
"""`mix` is of connects, announces and scrapes; an announce wants 30 peers, a scrape has 10 info hashes."""

OPEN_LOOP: Final = "half load"
"""The mixed load again, on schedule at half the rate that the tracker reached."""


def load_options(load: str, port: int, seconds: float, scale: float, rate: float | None = None) -> LoadOptions:
    """A run of a load on 127.0.0.1; a closed one begins by announcing every peer, and sends the next request as soon as
    an answer comes.

    Args:
        load: of `LOADS`, or `OPEN_LOOP`.
        port: the tracker's.
        seconds: that count.
        scale: of the number of torrents and peers, 1 for all.
        rate: of an open loop, requests a second.
    """
    chosen = dict(LOADS[MIXED if load == OPEN_LOOP else load])
    chosen["torrents"] = max(1, int(chosen["torrents"] * scale))
    chosen["peers"] = max(_FEWEST_PEERS, int(chosen["peers"] * scale))
    if rate is None:
        chosen["rest"] = 0.0
    return LoadOptions(
        host="127.0.0.1",
        port=port,
        num_want=30,
        scrape_hashes=10,
        sources=_SOURCES,
        in_flight=_IN_FLIGHT,
        burst=1,
        duration=seconds,
        rate=rate,
        prefill=rate is None,
        check_every=64,
        **chosen,
    )
