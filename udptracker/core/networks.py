"""Networks as one writes them (RFC 4632, RFC 4291), and whether a packed address is in one of them.

For each length of prefix there is a set of what addresses begin with, so it takes a step for each length that occurs,
however many networks there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from udptracker.core.listed import parse_network


@final
class NetworkSet:
    """Some networks of either family.

    Args:
        networks: in words, such as `10.0.0.0/8` or `fd00::/8`.

    Raises:
        ValueError: one of them is no network, or has bits behind its prefix.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._v4: list[tuple[int, set[int]]] = []
        self._v6: list[tuple[int, set[int]]] = []
        found: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            packed = parse_network(text)
            bits, start = packed[0], packed[1:]
            behind = 8 * len(start) - bits
            found.setdefault((len(start), behind), set()).add(int.from_bytes(start, "big") >> behind)
        for (size, behind), starts in found.items():
            (self._v4 if size == 4 else self._v6).append((behind, starts))

    def have(self, address: bytes) -> bool:
        """Whether one of them has this packed address, of 4 or 16 bytes."""
        number = int.from_bytes(address, "big")
        for behind, starts in self._v4 if len(address) == 4 else self._v6:  # noqa: SIM110  # a generator costs more
            if number >> behind in starts:
                return True
        return False
