"""A transport that sends nothing."""

from __future__ import annotations

import asyncio
from typing import Any


class RecordingTransport(asyncio.DatagramTransport):
    """Keeps what it is to send: data, and the handle or address that it goes to."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[Any, Any]] = []

    def sendto(self, data: Any, addr: Any = None) -> None:
        self.sent.append((data, addr))
