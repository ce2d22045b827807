"""The packet generator, for programs: `run(LoadOptions(host=..., port=...)) -> LoadReport`."""

from udptracker.load.options import LoadError, LoadOptions
from udptracker.load.report import Interval, Latency, LoadReport
from udptracker.load.runner import LoadInterrupted, run
from udptracker.load.world import InfoHashes

__all__ = ["InfoHashes", "Interval", "Latency", "LoadError", "LoadInterrupted", "LoadOptions", "LoadReport", "run"]
