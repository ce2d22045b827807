"""What can be configured of hooks: chihaya's under its names for them and their options, those shipped besides, and
others' by the name of their module or entry point."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from udptracker.config.values import Interval, Part, Positive, checked_broker, whole
from udptracker.core.text import is_url
from udptracker.redis.url import redacted

SHARE: Final = "a share of 1, where other numbers with a fraction are durations"
"""Stands in the metadata of a field that is one."""

_LONGEST_SECONDS: Final = 8760 * 3600
_CLIENT_ID_BYTES: Final = 6


def _listed(value: Any) -> Any:
    """As in chihaya, nothing is an empty list."""
    return () if value is None else tuple(value) if isinstance(value, list) else value


def _text(expected: str, is_one: Callable[[str], bool]) -> BeforeValidator:
    """A text that is one of those; a number of so many digits needs quotes, since YAML drops its leading zeros."""

    def text(value: Any) -> str:
        if isinstance(value, str) and is_one(value):
            return value
        raise ValueError(f"{expected}, in quotes if YAML would read it as a number")

    return BeforeValidator(text)


def _share(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:  # of the width that chihaya keeps it in
            (rounded,) = struct.unpack("f", struct.pack("f", value))
        except (OverflowError, struct.error):
            rounded = 0.0
        if 0 < rounded <= 1:
            return float(value)
    raise ValueError("a number above 0, and 1 at the most")


def _url(url: str) -> str:
    if not is_url(url):
        raise ValueError("a URL such as https://example.org/path, without user, password and fragment")
    return url


def _token(token: SecretStr) -> SecretStr:
    if re.fullmatch("[!-~]*", token.get_secret_value()):
        return token
    raise ValueError("a token of visible ASCII characters")


_InfoHash = Annotated[str, _text("40 hexadecimal digits", lambda text: bool(re.fullmatch("[0-9A-Fa-f]{40}", text)))]
_InfoHashes = Annotated[tuple[_InfoHash, ...], BeforeValidator(_listed)]
_ClientId = Annotated[str, _text("six bytes, such as UT2210", lambda text: len(text.encode()) == _CLIENT_ID_BYTES)]
_ClientIds = Annotated[tuple[_ClientId, ...], BeforeValidator(_listed)]
_NotEmpty = Annotated[str, _text("a text that is not empty", bool)]
_Url = Annotated[str, AfterValidator(_url)]


class HookOptions(Part):
    """`options` of a hook that is ours. Durations are seconds."""

    secrets: ClassVar[Mapping[str, Callable[[str], str]]] = {}
    """Keys whose values nobody is shown, and what makes a value of each fit to be seen."""


class _Approval(HookOptions):
    """Only those of a list may announce, or all but those."""

    @model_validator(mode="after")
    def _is_one_list(self) -> _Approval:
        if all(value for _, value in self):
            raise ValueError("whitelist or blacklist, not both")
        return self


class TorrentApproval(_Approval):
    """`torrent approval` of chihaya."""

    whitelist: _InfoHashes = ()
    blacklist: _InfoHashes = ()


class ClientApproval(_Approval):
    """`client approval` of chihaya."""

    whitelist: _ClientIds = ()
    blacklist: _ClientIds = ()


class IntervalVariation(HookOptions):
    """`interval variation` of chihaya; BEP 15 has no place for a minimal interval."""

    modify_response_probability: Annotated[float, BeforeValidator(_share), SHARE]
    max_increase_delta: Annotated[int, whole(1, _LONGEST_SECONDS)]
    modify_min_interval: bool = False


class Jwt(HookOptions):
    """`jwt` of chihaya."""

    issuer: _NotEmpty
    audience: _NotEmpty
    jwk_set_url: _Url
    jwk_set_update_interval: Interval = 300.0


class HttpApproval(HookOptions):
    """`http approval`: asks another service."""

    url: _Url
    bearer_token: Annotated[SecretStr, AfterValidator(_token)] = SecretStr("")
    max_cached: Annotated[int, whole(0)] = 65_536

    secrets = MappingProxyType({"bearer_token": lambda token: "***" if token else ""})


class AnnounceStream(HookOptions):
    """`announce stream`: what was announced, to a stream of Redis. Without a broker it is the storage's."""

    redis_broker: Annotated[SecretStr, AfterValidator(checked_broker)] | None = None
    key: _NotEmpty = "udptracker_announces"
    max_length: Annotated[int, whole(1)] = 1_000_000
    addresses: bool = False

    secrets = MappingProxyType({"redis_broker": redacted})


class Hook(Part):
    """A hook that decides by itself. `options` are `HookOptions` if it is ours, a mapping if it is not."""

    name: str
    options: Any = Field(repr=False)


class AskingHook(Hook):
    """A pre-hook that may ask elsewhere: how long, how many announces may wait for it, and what holds for those that
    it does not decide."""

    timeout: Positive = 1.0
    on_failure: Literal["refuse", "allow"] = "refuse"
    max_pending: Annotated[int, whole(1)] = 4096


class WatchingHook(Hook):
    """A post-hook: how long it may take for what it is given at once, and how many announces may wait for it."""

    timeout: Positive = 10.0
    max_pending: Annotated[int, whole(1)] = 10_000


class Place(NamedTuple):
    """A list of hooks: those that are ours by name, what each is with its options, and what others' are. `group` is
    that of their entry points."""

    ours: Mapping[str, tuple[type[Hook], type[HookOptions]]]
    others: type[Hook]
    group: str


PLACES: Final[Mapping[str, Place]] = {
    "prehooks": Place(
        {
            "jwt": (Hook, Jwt),
            "client approval": (Hook, ClientApproval),
            "interval variation": (Hook, IntervalVariation),
            "torrent approval": (Hook, TorrentApproval),
            "http approval": (AskingHook, HttpApproval),
        },
        AskingHook,
        "udptracker.prehooks",
    ),
    "posthooks": Place(
        {"announce stream": (WatchingHook, AnnounceStream)},
        WatchingHook,
        "udptracker.posthooks",
    ),
}

SECRETS: Final = tuple(
    key for place in PLACES.values() for _, options in place.ours.values() for key in options.secrets
)
"""Options whose values nobody is shown."""
