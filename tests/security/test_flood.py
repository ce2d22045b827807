"""The short form of the flood that docs/security.md has figures of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Daemons
from tests.security.flood import CONFIG, Honest, figures, flood, let_expire, resident
from tests.support.waiting import eventually

_PEERS, _SWARMS = 10_000, 1_500


@pytest.mark.parametrize(("workers", "announces"), [(1, 50_000), (2, 20_000)])
def test_a_flood_stays_within_its_bounds_and_harms_nobody(
    daemons: Daemons, tmp_path: Path, workers: int, announces: int
) -> None:
    text = CONFIG.format(max_peers=_PEERS, max_swarms=_SWARMS)
    daemon = daemons(None, config=text, arguments=["--workers", str(workers)])
    honest = Honest(daemon)
    before = resident(daemon)
    flooded = flood(daemon.port, announces, meanwhile=lambda sent: honest.announce())
    assert flooded.sent == announces
    assert flooded.answered > 0
    eventually(lambda: figures(daemon)["max_peers"] and figures(daemon)["max_swarms"], "both bounds to be met")
    found = figures(daemon)
    # An attacker may choose the worker by the info hash: each has its share of the bound, rounded up.
    assert found["peers"] <= _PEERS + workers - 1
    assert found["swarms"] <= _SWARMS + workers - 1
    assert resident(daemon) - before < 50_000_000

    let_expire(daemon, next(tmp_path.glob("*.yaml")), honest)
    daemon.announce(b"n" * 20, 4000, left=0)
    assert daemon.scrape(b"n" * 20)[0].seeders == 1
