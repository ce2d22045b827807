"""Who may announce, and what: `access:` in the file."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr

from udptracker.config.values import OFF, Part, checked_broker, one_or_more
from udptracker.core import listed

MOST_INLINE: Final = 256
"""Entries of a list in the configuration itself: all of it is sent to each worker in one message."""

SHARED_BY_STORAGE: Final = "storage"
_SHARED_HELP: Final = "storage, for the Redis that peers are kept in, off, or the URL of another Redis"


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


File = Annotated[str, AfterValidator(_checked_path)]
Verdict = Literal["allow", "deny"]


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


class AccessSettings(Part):
    """Lists, in this file, in files of their own, and shared by all nodes through Redis."""

    shared: Shared = SecretStr(SHARED_BY_STORAGE)
    cache: File = ""
    torrents: TorrentsSettings = TorrentsSettings()
    clients: ClientsSettings = ClientsSettings()
    networks: NetworksSettings = NetworksSettings()
    passkeys: PasskeysSettings = PasskeysSettings()
