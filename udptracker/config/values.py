"""Types of values in a configuration: what is taken, within which bounds, and the words for what is not.

Validators word what they expect in full, since their text is what an operator is shown.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated, Any, Final

import durationpy
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from udptracker.redis.url import parse_broker


class Part(BaseModel):
    """Settings of one part: unknown keys and other types than the declared are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


_GO_DURATION: Final = re.compile(r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+|[-+]?0")
_LONGEST: Final = 8760 * 3600.0
OFF: Final = ("", "off")


def duration(
    least: float, words: str, most: float = _LONGEST, most_words: str = "8760h", *, or_none: bool = False
) -> BeforeValidator:
    """Seconds from `least` to `most` (their words in a file) of a Go duration; as in Go, only 0 needs no unit.

    Args:
        or_none: 0 is taken, too.
    """

    def seconds(value: Any) -> float:
        text = "0" if value == 0 and not isinstance(value, bool) else value
        # The library alone would also take units that Go does not know, `mm` for months among them.
        if isinstance(text, str) and _GO_DURATION.fullmatch(text):
            try:
                found = float(durationpy.from_str(text).total_seconds())
            except durationpy.DurationError:
                found = -1.0
            if least <= found <= most or (or_none and found == 0):
                return found
        example = "14m, 1h30m or 500ms" if most == _LONGEST else "5ms"
        also = "0s for never, or " if or_none else ""
        raise ValueError(f"{also}a duration from {words} to {most_words}, such as {example}")

    return BeforeValidator(seconds)


def whole(least: int, most: int | None = None) -> BeforeValidator:
    """An integer within bounds."""

    def whole(value: Any) -> int:
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and least <= value
            and (most is None or value <= most)
        ):
            return value
        raise ValueError(f"an integer of {least} or more" if most is None else f"an integer from {least} to {most}")

    return BeforeValidator(whole)


def one_or_more(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


def _keys(value: Any) -> Any:
    """As in chihaya, an empty text is no key."""
    return () if value == "" else one_or_more(value)


def endpoint(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `[v6 host]:port`, `:port`.

    Raises:
        ValueError: it is none of them.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]*)):([0-9]{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535 or (match[1] and not _is_v6(match[1])):
        raise ValueError("an address such as 0.0.0.0:6969, [::]:6969 or :6969")
    return match[1] or match[2], int(match[3])


def _is_v6(host: str) -> bool:
    try:
        IPv6Address(host)
    except AddressValueError:
        return False
    return True


def unmapped(host: str) -> str:
    """An IPv4-mapped IPv6 address as the IPv4 one it is."""
    return str((":" in host and IPv6Address(host).ipv4_mapped) or host)


def is_any_v6(host: str) -> bool:
    return ":" in host and IPv6Address(host).is_unspecified


def _checked_address(address: str) -> str:
    endpoint(address)
    return address


def _checked_file(path: str) -> str:
    if path and (not path.startswith("/") or path.endswith("/") or "\0" in path):
        raise ValueError("the absolute path of a file, or an empty text for none")
    return path


def _checked_metrics(address: str) -> str:
    try:
        return address if address in OFF else _checked_address(address)
    except ValueError:
        raise ValueError("an address such as 127.0.0.1:6880, or off") from None


def checked_broker(broker: SecretStr) -> SecretStr:
    url = broker.get_secret_value()
    credentials, _, _ = url.partition("://")[2].rpartition("@")
    try:
        if "#" in url:
            raise ValueError
        parse_broker(url)
    except ValueError:
        # A password that is not encoded ends up in other parts of the URL, and so in what is said about them.
        if "#" in url or not re.fullmatch(r"[!-~]*", credentials) or re.search(r"[/?\[\]]", credentials):
            raise ValueError("a URL with %23 for #, %2F for /, %3F for ? and so on in user and password") from None
        raise
    return broker


Interval = Annotated[float, duration(1.0, "1s")]
Positive = Annotated[float, duration(0.001, "1ms")]
NotNegative = Annotated[float, duration(0.0, "0")]
Seldom = Annotated[float, duration(1.0, "1s", or_none=True)]
Pace = Annotated[float, duration(0.0, "0", 0.1, "100ms")]
Address = Annotated[str, AfterValidator(_checked_address)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(one_or_more), Field(min_length=1)]
FilePath = Annotated[str, AfterValidator(_checked_file)]
Key = Annotated[SecretStr, Field(min_length=1)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(_keys)]
# YAML reads a bare `off` as false.
MetricsAddress = Annotated[
    str, BeforeValidator(lambda value: "off" if value is False else value), AfterValidator(_checked_metrics)
]
