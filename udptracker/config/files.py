"""A file that holds one value, most often a secret, as systemd's credentials and containers' secrets are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MOST_BYTES: Final = 2**16


def value_in(file: Path) -> str:
    """The text of a file without the line ends behind it.

    Raises:
        ValueError: there is none; what is wrong with the file, in words without anything of what is in it.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # the latter of a name with a NUL
        raise ValueError(getattr(error, "strerror", None) or "no name of a file") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("no text") from None
    if not text.strip():
        raise ValueError("nothing in it")
    return text
