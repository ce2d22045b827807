"""Who may announce, and what: `access:` in the file."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo

from udptracker.config.values import OFF, Part, checked_broker, one_or_more, whole
from udptracker.core import listed

MOST_INLINE: Final = 256
"""Entries of a list in the configuration itself: all of it is sent to each worker in one message."""

SHARED_BY_STORAGE: Final = "storage"
_SHARED_HELP: Final = "storage, for the Redis that peers are kept in, off, or the URL of another Redis"
_PREFIXES: Final = (64, 56, 48)
_MOST_A_MINUTE: Final = 60_000_000
_PEERS_OF_ONE: Final = 32
"""No source may have more peers than this part of all that are remembered."""


def _listed(which: str) -> AfterValidator:
    """An entry of a list as it is written."""

    def checked(text: str) -> str:
        try:
            listed.PARSE[which](text)
        except ValueError:
            raise ValueError(f"expected {listed.EXPECTED[which]}") from None
        return text

    return AfterValidator(checked)


def _many(value: Any) -> Any:
    value = () if value in ("", None) else one_or_more(value)
    if isinstance(value, tuple) and len(value) > MOST_INLINE:
        raise ValueError(f"at most {MOST_INLINE} entries here; a file may have any number of them")
    return value


def _checked_passkey(entry: SecretStr) -> SecretStr:
    passkey, _ = listed.split_passkey(entry.get_secret_value())
    listed.parse_passkey(passkey)
    return entry


def _checked_shared(where: SecretStr) -> SecretStr:
    text = where.get_secret_value()
    if text in (SHARED_BY_STORAGE, *OFF):
        return where
    if "://" not in text:
        raise ValueError(f"expected {_SHARED_HELP}")
    return checked_broker(where)


Torrents = Annotated[tuple[Annotated[str, _listed(listed.TORRENTS)], ...], BeforeValidator(_many)]
Clients = Annotated[tuple[Annotated[str, _listed(listed.CLIENTS)], ...], BeforeValidator(_many)]
Networks = Annotated[tuple[Annotated[str, _listed(listed.NETWORKS)], ...], BeforeValidator(_many)]
Passkeys = Annotated[tuple[Annotated[SecretStr, AfterValidator(_checked_passkey)], ...], BeforeValidator(_many)]
# YAML reads a bare `off` as false.
Shared = Annotated[
    SecretStr, BeforeValidator(lambda value: "off" if value is False else value), AfterValidator(_checked_shared)
]


def _checked_path(path: str) -> str:
    if path and not path.startswith("/"):
        raise ValueError("the absolute path of a file")
    return path


def _prefixes(value: Any) -> tuple[int, ...]:
    given = value if isinstance(value, list | tuple) else [value]
    if not given or any(one not in _PREFIXES for one in given) or len(set(given)) < len(given):
        raise ValueError("one or several of 64, 56 and 48, each once")
    return tuple(sorted(given, reverse=True))


def _enough(most: int, info: ValidationInfo) -> int:
    of_one = info.data.get("max_peers_in_all", 0)
    if most < _PEERS_OF_ONE * of_one:
        raise ValueError(f"at least {_PEERS_OF_ONE * of_one}, {_PEERS_OF_ONE} times max_peers_in_all")
    return most


File = Annotated[str, AfterValidator(_checked_path)]
Verdict = Literal["allow", "deny"]
# YAML reads a bare `off` as false.
Mode = Annotated[Literal["off", "watch", "enforce"], BeforeValidator(lambda value: "off" if value is False else value)]
Rate = Annotated[int, whole(0, _MOST_A_MINUTE)]
Burst = Annotated[int, whole(1, _MOST_A_MINUTE)]
Prefixes = Annotated[tuple[int, ...], BeforeValidator(_prefixes)]
Tracked = Annotated[int, whole(1000, 1_000_000_000), AfterValidator(_enough)]


class TorrentsSettings(Part):
    """Torrents by their info hashes. What is denied anywhere is denied, whoever allows it."""

    unlisted: Verdict = "allow"
    allow: Torrents = ()
    deny: Torrents = ()
    allow_from: File = ""
    deny_from: File = ""


class ClientsSettings(Part):
    """Clients by how their peer ids begin; of several entries that fit, the longest decides."""

    unlisted: Verdict = "allow"
    allow: Clients = ()
    deny: Clients = ()
    allow_from: File = ""
    deny_from: File = ""


class NetworksSettings(Part):
    """Networks that get no answer, and parts of them that do: the smallest network decides."""

    allow: Networks = ()
    deny: Networks = ()
    allow_from: File = ""
    deny_from: File = ""


class PasskeysSettings(Part):
    """Passkeys in announce URLs, each with the name of its user behind a blank; with `hashed` commands write hashes."""

    required: bool = False
    hashed: bool = False
    allow: Passkeys = ()
    allow_from: File = ""


class LimitsSettings(Part):
    """How much one source may ask, and how many peers it may have: an IPv4 address, or an IPv6 network of one of
    `v6_prefixes`. Rates of 0 and bounds of 0 are none. `max_addresses` are remembered in each process twice: proven
    ones, and those that a connect or a bad connection id names."""

    mode: Mode = "off"
    connects_per_minute: Rate = 1200
    connect_burst: Burst = 10_000
    announces_per_minute: Rate = 1200
    announce_burst: Burst = 10_000
    scrapes_per_minute: Rate = 600
    scrape_burst: Burst = 1000
    bad_ids_per_minute: Rate = 60
    bad_id_burst: Burst = 600
    max_peers_in_swarm: Annotated[int, whole(0)] = 0
    max_peers_in_all: Annotated[int, whole(0)] = 0
    v6_prefixes: Prefixes = (64,)
    exempt: Networks = ()
    max_addresses: Annotated[int, whole(1000, 100_000_000)] = 100_000
    max_tracked_peers: Tracked = 1_000_000


class AccessSettings(Part):
    """Lists, in this file, in files of their own, and shared by all nodes through Redis; limits."""

    shared: Shared = SecretStr(SHARED_BY_STORAGE)
    cache: File = ""
    torrents: TorrentsSettings = TorrentsSettings()
    clients: ClientsSettings = ClientsSettings()
    networks: NetworksSettings = NetworksSettings()
    passkeys: PasskeysSettings = PasskeysSettings()
    limits: LimitsSettings = LimitsSettings()

    def shares(self, storage: str) -> bool:
        """Whether there are lists that nodes share, with storage of this name."""
        said = self.shared.get_secret_value()
        return storage == "redis" if said == SHARED_BY_STORAGE else said not in OFF
