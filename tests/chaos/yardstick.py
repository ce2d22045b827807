"""How long this machine lets a process wait that has work to do: what no tracker can be blamed for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import Final, Self

_PROGRAM: Final = """\
import signal, sys, time
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
worst = 0.0
while not ended:
    due = time.monotonic() + 0.004
    time.sleep(0.004)
    begun = time.process_time()
    while time.process_time() - begun < 0.001:
        pass
    worst = max(worst, time.monotonic() - due - 0.001)
print(worst)
"""


class Yardstick:
    """A process that works for a millisecond in five and notes how much later than that it was done."""

    def __enter__(self) -> Self:
        self._output = tempfile.TemporaryFile()
        self._process = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=self._output)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    def worst(self) -> float:
        """Seconds, at the worst until now; it ends by this."""
        self._process.terminate()
        self._process.wait()
        self._output.seek(0)
        return float(self._output.read())
