"""Which sources were over a limit, and how often: counted for a minute, of a bounded number of them."""

from __future__ import annotations

from heapq import nlargest
from ipaddress import ip_address
from operator import itemgetter
from typing import Final, final

_MOST: Final = 1024
_V6_BYTES: Final = 16


@final
class Offenders:
    """Counts by source. When there are too many, the lesser half goes."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, source: bytes) -> None:
        """One of its requests was over a limit."""
        counts = self._counts
        counts[source] = counts.get(source, 0) + 1
        if len(counts) > _MOST:
            self._counts = dict(nlargest(_MOST // 2, counts.items(), itemgetter(1)))

    def take(self, limit: int) -> list[tuple[bytes, int]]:
        """The worst, and how often each was; counting begins anew."""
        counts, self._counts = self._counts, {}
        return nlargest(limit, counts.items(), itemgetter(1))


def shown(source: bytes) -> str:
    """A source as it is written: an IPv4 address, or the first bytes of IPv6 ones as a network."""
    if len(source) == 4:
        return str(ip_address(source))
    return f"{ip_address(source.ljust(_V6_BYTES, bytes(1)))}/{8 * len(source)}"
