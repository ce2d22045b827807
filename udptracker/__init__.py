"""udptracker: a UDP BitTorrent tracker (BEP 15) whose swarms live in Redis, so that any node may die."""

__version__ = "0.1.0"
