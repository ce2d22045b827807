"""The same counters under chihaya's metric names, so that dashboards made for it go on working.

Names and labels are those of chihaya 2.0 (frontend/udp/prometheus.go, storage/prometheus.go). The buckets are ours, in
milliseconds. What is not counted apart here is labelled as chihaya labels what it does not know: the address family,
and the action of a refused request, whose error is `refused`; our own metrics tell the reasons.
"""

from __future__ import annotations

from typing import Final

from udptracker.core.counters import ANSWER_NAMES
from udptracker.core.swarm import Totals
from udptracker.observe.family import Family, Reader, Samples, Scrape, durations

_MILLI: Final = 1000
_UNKNOWN: Final = "Unknown"


def _responses(scrape: Scrape) -> Samples:
    for name, counted in zip(ANSWER_NAMES, scrape.sums["durations"], strict=True):
        failed = name == "error"
        yield (_UNKNOWN if failed else name, _UNKNOWN, "refused" if failed else ""), durations(counted, _MILLI)


def _total(field: str) -> Reader:
    place = Totals._fields.index(field)
    return lambda scrape: [((), (sum(totals[place] for totals in scrape.sums["totals"].values()),))]


FAMILIES: Final = (
    Family(
        "chihaya_udp_response_duration_milliseconds",
        "histogram",
        "The duration of time it takes to receive and write a response to an API request",
        ("action", "address_family", "error"),
        _responses,
    ),
    Family("chihaya_storage_infohashes_count", "gauge", "The number of Infohashes tracked", (), _total("swarms")),
    Family("chihaya_storage_seeders_count", "gauge", "The number of seeders tracked", (), _total("seeders")),
    Family("chihaya_storage_leechers_count", "gauge", "The number of leechers tracked", (), _total("leechers")),
    Family(
        "chihaya_storage_gc_duration_milliseconds",
        "histogram",
        "The time it takes to perform storage garbage collection",
        (),
        lambda scrape: [((), durations(scrape.sums["reaper_durations"], _MILLI))],
    ),
)
