"""How many machines it takes, from what was measured: `python -m bench.sizing` prints the tables of docs/sizing.md.

From docs/benchmark.json comes the CPU of a request on memory, and on Redis with one node on one server. By how much
that grows with shards and nodes is in docs/fleet.json, whose runs are compared with one another only, and so are the
bytes a peer takes there. All else is multiplication.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

_DOCS: Final = Path(__file__).parents[1] / "docs"

RATES: Final = (10_000, 30_000, 100_000, 300_000, 1_000_000)
"""Announces a second."""

PEERS: Final = (1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)

BUSY: Final = 0.5
"""The share of a core that is planned with: the rest is for bursts, and for the load of a node that died."""

NODE_CORES: Final = 8
"""Of a machine; two of them at least, so that one may die."""

SHARD_BYTES: Final = 16 * 2**30
"""Of memory for the peers of one shard: more takes long to be copied to a replica."""

MEMORY_PEER_BYTES: Final = 78
"""`python -m bench.footprint`."""

INTERVAL: Final = 1800
"""Seconds between two announces of a peer: the default of `announce_interval`."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU a request, and bytes a peer in the store."""

    memory_us: float
    node_us: float
    store_us: float
    cluster_node_us: float
    cluster_store_us: float
    peer_bytes: float
    cluster_peer_bytes: float

    @classmethod
    def of(cls, benchmark: Mapping[str, Any], fleet: Mapping[str, Any]) -> Costs:
        """From the two files. With one server it is what two nodes cost, where that is more than one does."""
        cpu = {
            row["tracker"]: (row["tracker_us"], row["store_us"]) for row in benchmark["rows"] if row["load"] == "mixed"
        }
        node_us, store_us = cpu["valkey, 1 worker"]
        rows = {(row["shards"], row["nodes"]): row for row in fleet["rows"]}
        one, cluster, two = rows[1, 1], rows[3, 1], rows[1, 2]
        return cls(
            memory_us=cpu["memory"][0],
            node_us=node_us * max(1.0, two["node_us"] / one["node_us"]),
            store_us=store_us * max(1.0, two["store_us"] / one["store_us"]),
            cluster_node_us=node_us * max(1.0, cluster["node_us"] / one["node_us"]),
            cluster_store_us=store_us * max(1.0, cluster["store_us"] / one["store_us"]),
            peer_bytes=one["peer_bytes"],
            cluster_peer_bytes=cluster["peer_bytes"],
        )


@dataclass(frozen=True, slots=True)
class Size:
    """What a rate of announces takes. `memory_cores` is on memory, on one machine; the others are on Redis."""

    memory_cores: int
    shards: int
    store_cores: float
    node_cores: int
    nodes: int


def size(costs: Costs, rate: float) -> Size:
    """For so many announces a second. One server where its core is enough, else a cluster of three shards or more."""
    alone = rate * costs.store_us / 1e6
    clustered = alone > BUSY
    store = rate * costs.cluster_store_us / 1e6 if clustered else alone
    node_cores = _cores(rate * (costs.cluster_node_us if clustered else costs.node_us))
    return Size(
        memory_cores=_cores(rate * costs.memory_us),
        shards=max(3, ceil(store / BUSY)) if clustered else 1,
        store_cores=store,
        node_cores=node_cores,
        nodes=max(2, ceil(node_cores / NODE_CORES)),
    )


def _cores(microseconds: float) -> int:
    return max(1, ceil(microseconds / 1e6 / BUSY))


def rates_table(costs: Costs) -> str:
    """Markdown: cores and machines by announces a second."""
    head = (
        "announces/s",
        "peers at 30 min",
        "memory: cores",
        "Redis: nodes",
        "cores of all nodes",
        "shards",
        "busy cores of shards",
    )
    lines = [head, ("---:",) * len(head)]
    for rate in RATES:
        of = size(costs, rate)
        lines.append(
            (
                f"{rate:,}",
                f"{rate * INTERVAL / 1e6:,.0f} million",
                str(of.memory_cores),
                str(of.nodes),
                str(of.node_cores),
                str(of.shards),
                f"{of.store_cores:.2f}",
            )
        )
    return _markdown(lines)


def peers_table(costs: Costs) -> str:
    """Markdown: memory by peers."""
    head = (
        "peers",
        "announces/s at 30 min",
        "memory: in all workers",
        "Redis: one server",
        "shards of 16 GiB",
        "Redis: each of them",
    )
    lines = [head, ("---:",) * len(head)]
    for peers in PEERS:
        alone = peers * costs.peer_bytes
        shards = 1 if alone <= SHARD_BYTES else max(3, ceil(peers * costs.cluster_peer_bytes / SHARD_BYTES))
        each = alone if shards == 1 else peers * costs.cluster_peer_bytes / shards
        lines.append(
            (
                f"{peers:,}",
                f"{peers / INTERVAL:,.0f}",
                _bytes(peers * MEMORY_PEER_BYTES),
                _bytes(alone) if shards == 1 else "–",
                str(shards),
                _bytes(each),
            )
        )
    return _markdown(lines)


def costs_table(costs: Costs) -> str:
    """Markdown: what was measured."""
    lines = [
        ("", "CPU of nodes, µs", "CPU of the store, µs", "bytes a peer"),
        ("---", "---:", "---:", "---:"),
        ("memory", f"{costs.memory_us:.1f}", "–", str(MEMORY_PEER_BYTES)),
        ("Redis, one server", f"{costs.node_us:.1f}", f"{costs.store_us:.1f}", f"{costs.peer_bytes:.0f}"),
        (
            "Redis, three shards",
            f"{costs.cluster_node_us:.1f}",
            f"{costs.cluster_store_us:.1f}",
            f"{costs.cluster_peer_bytes:.0f}",
        ),
    ]
    return _markdown(lines)


def _bytes(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(docs: Path = _DOCS) -> dict[str, str]:
    """Each by its name in the page, from the files of this folder."""
    benchmark, fleet = (json.loads((docs / name).read_text()) for name in ("benchmark.json", "fleet.json"))
    costs = Costs.of(benchmark, fleet)
    return {"costs": costs_table(costs), "rates": rates_table(costs), "peers": peers_table(costs)}


def put_into(text: str, made: Mapping[str, str]) -> str:
    """A page with each table behind its mark, `<!-- table: NAME -->`, in the place of what is there."""
    for name, table in made.items():
        text = _with_table(text, f"<!-- table: {name} -->\n", table)
    return text


def _with_table(text: str, mark: str, table: str) -> str:
    return re.sub(re.escape(mark) + r"(?:\|.*\n)*", lambda _: f"{mark}{table}\n", text)


def main() -> None:
    """Print them, or put them into a page."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description="Machines by load, from measurements.")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables in the place of those in there")
    chosen = parser.parse_args()
    made = tables()
    if chosen.page:
        chosen.page.write_text(put_into(chosen.page.read_text(), made))
    else:
        print("\n\n".join(made.values()))


if __name__ == "__main__":
    main()
