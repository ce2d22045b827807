"""The configuration: one frozen settings object a part, composed here; what is not known is refused by its path.

A file has one root, `udptracker:` or, so that chihaya's own file works as it is, `chihaya:`. Durations are Go's
(`14m`, `1h30m`, `500ms`) in the file and seconds in the settings. `${NAME}` in a string takes an environment
variable, `${file:PATH}` in a secret what is in a file, `$${` stands for `${`.

`settings` is what the rest of the program sees. `reading` makes it of a file (`yaml`), of the `files` it names, of the
`environment` above it, and of `flags` above that. `faults` words what is wrong, `writing` shows what it comes to,
without its secrets.
"""

from udptracker.config.faults import ConfigError, Fault
from udptracker.config.reading import ROOTS, Loaded, from_tree, load, parse
from udptracker.config.settings import (
    Listen,
    MemorySettings,
    RedisSettings,
    Settings,
    StorageSettings,
    StoreSettings,
    UdpSettings,
)
from udptracker.config.writing import dump

__all__ = [
    "ROOTS",
    "ConfigError",
    "Fault",
    "Listen",
    "Loaded",
    "MemorySettings",
    "RedisSettings",
    "Settings",
    "StorageSettings",
    "StoreSettings",
    "UdpSettings",
    "dump",
    "from_tree",
    "load",
    "parse",
]
