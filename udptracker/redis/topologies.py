"""The topology that a URL calls for."""

from __future__ import annotations

from udptracker.redis.link import Timeouts
from udptracker.redis.sentinel import master_of
from udptracker.redis.server import fixed
from udptracker.redis.topology import OneServer, Topology
from udptracker.redis.url import Broker


def make_topology(broker: Broker, timeouts: Timeouts, *, quiet: bool = False) -> Topology:
    """One server, wherever it is, or a cluster; not started.

    Args:
        quiet: connections that come and go are not told.
    """
    if broker.kind == "cluster":
        from udptracker.redis.cluster import Cluster  # which loads redis-py: 10 MB

        return Cluster(broker, timeouts, quiet=quiet)
    if broker.kind == "sentinel":
        return OneServer(broker, master_of(broker, timeouts), timeouts, quiet=quiet)
    host, port = broker.hosts[0] if broker.hosts else (broker.path, 0)
    return OneServer(broker, fixed(host, port), timeouts, quiet=quiet)
