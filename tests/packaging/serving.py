"""A tracker that was installed in a Debian: it serves, and ends when told to."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.support.debian import Debian
from tests.support.waiting import eventually, free_port


def serves(machine: Debian, command: Sequence[str], log: Path) -> None:
    """It starts on memory, is probed over the network, and ends in order."""
    url = f"127.0.0.1:{free_port()}"
    process = machine.start(*command, "--listen", url, "--metrics", "off", log=log)
    try:
        eventually(lambda: f"listening on udp {url}" in log.read_text(), "the tracker to listen")
        assert "stop" in machine.run(*command, "probe", f"udp://{url}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30.0) == 0, log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
