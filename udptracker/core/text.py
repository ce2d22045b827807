"""Text from strangers (trackers, stores, files) as it may be shown on a terminal or in a log."""

from __future__ import annotations

from urllib.parse import urlsplit


def printable(text: str) -> str:
    """The text with whatever is no visible character or space as its escape in Python (`\\x1b`), on one line.

    Terminals act on control characters: they move the cursor, rewrite what stands there, set titles, and some can be
    made to type. Marks of direction and other characters without a shape of their own are shown as escapes, too.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(count: int, things: str) -> str:
    """`1 torrent`, `1,204 torrents`.

    Args:
        things: their plural, which ends with an s.
    """
    return f"{count:,} {things.removesuffix('s') if count == 1 else things}"


def is_url(text: str) -> bool:
    """Whether it is a URL of http or https, with a host, and without user, password and fragment."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
            and "#" not in text
        )
    except ValueError:
        return False
