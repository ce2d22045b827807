"""README and docs as tests read them: their code blocks, and a stage on which those of the shell are run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support import servers
from tests.support.daemon import Daemon
from tests.support.servers import StoreServer
from tests.support.waiting import PATIENCE, eventually, free_port

REPOSITORY: Final = Path(__file__).parents[2]
DOCUMENTS: Final = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))

_FENCE: Final = re.compile(
    r"^(?:<!-- not run: (?P<excuse>.+) -->\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """Fenced code. `excuse` is why tests do not run it, empty if they do."""

    language: str
    code: str
    excuse: str

    @property
    def lines(self) -> list[str]:
        """Of a shell block: its commands, those over several lines as one, without comments."""
        joined = self.code.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def blocks(document: Path) -> list[Block]:
    """All of a document, in order."""
    found = []
    for match in _FENCE.finditer(document.read_text()):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        found.append(Block(match["language"], code, match["excuse"] or ""))
    return found


def arguments_of(line: str) -> list[str] | None:
    """What a line gives to our command; None if it runs another one."""
    words = shlex.split(line.removesuffix("&"), comments=True)
    return words[1:] if words and words[0].rpartition("/")[2] == "udptracker" else None


def is_daemon(line: str) -> bool:
    """Whether it starts what runs until it is told to stop."""
    given = arguments_of(line)
    if given is None:
        return line.startswith("redis-server ")
    return not given or given[0] == "serve" or (given[0].startswith("-") and given[0] != "--version")


class Stage:
    """A shell with our command, a Redis and a tracker on memory at hand; addresses of the documents lead to them.

    Args:
        directory: where the shell is, with the files of configs/.
        store: what listens at 127.0.0.1:6379 for the documents, and without a password.
        tracker: what is at 127.0.0.1:6969 and 127.0.0.1:6880.
    """

    def __init__(self, directory: Path, store: StoreServer, tracker: Daemon) -> None:
        self._directory = directory
        self._ports = {"6379": store.port, "6969": tracker.port, "6880": tracker.metrics_port}
        self._own = free_port(), free_port()
        self._output, self._marks = directory / "output", directory / "marks"
        self._ran = 0
        self._install(directory / "bin", store)
        for path in (REPOSITORY / "configs").glob("*.yaml"):
            (directory / path.name).write_text(self._here(path.read_text()))
        self.write_configuration((REPOSITORY / "configs" / "redis.yaml").read_text())

    def __enter__(self) -> Self:
        environment = os.environ | {
            "PATH": f"{self._directory / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "UDPTRACKER_UDP_ADDR": f'["127.0.0.1:{self._ports["6969"]}"]',
            "UDPTRACKER_METRICS_ADDR": f"127.0.0.1:{self._ports['6880']}",
        }
        with self._output.open("ab") as output:
            self._shell = subprocess.Popen(
                ["bash"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self._directory,
                env=environment,
                start_new_session=True,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._shell.pid, signal.SIGKILL)  # whatever is left of what it started
        self._shell.wait(PATIENCE)
        assert self._shell.stdin is not None
        self._shell.stdin.close()

    def write_configuration(self, text: str) -> None:
        """What `udptracker.yaml` is from now on."""
        (self._directory / "udptracker.yaml").write_text(self._here(text))

    def run(self, line: str) -> str:
        """Run one command as it stands; a daemon is waited for until it is ready, one in the foreground then stopped.

        Returns:
            What it printed, and what daemons said meanwhile.

        Raises:
            AssertionError: it did not end with status 0.
        """
        here = self._shortened(self._here(line))
        if not is_daemon(line):
            return self._do(here)
        in_front = not here.endswith("&")
        if in_front:
            udp, metrics = self._own
            settings = f"UDPTRACKER_UDP_ADDR='[\"127.0.0.1:{udp}\"]' UDPTRACKER_METRICS_ADDR=127.0.0.1:{metrics}"
            here = f"{settings} {here} &"
        said = self._do(here)
        port = self._port_of(here)
        if "redis-server" in here:
            eventually(lambda: _accepts(port), f"what {line!r} starts")
        else:
            eventually(lambda: _is_ready(port), f"what {line!r} starts; it said {self._output.read_text()}")
        return said + (self._do("kill $! && wait $!") if in_front else "")

    def _do(self, line: str) -> str:
        before = self._output.stat().st_size
        self._ran += 1
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{{ {line}\n}} </dev/null\necho $? >>{self._marks}\n")
        self._shell.stdin.flush()
        eventually(lambda: len(self._statuses()) == self._ran, f"{line!r} to end", timeout=3 * PATIENCE)
        said = self._output.read_bytes()[before:].decode()
        assert self._statuses()[-1] == "0", f"{line!r} ended with status {self._statuses()[-1]}: {said}"
        return said

    def _statuses(self) -> list[str]:
        return self._marks.read_text().split("\n")[:-1] if self._marks.exists() else []

    def _here(self, text: str) -> str:
        """Its addresses as they are on this stage."""
        for port in re.findall(r"\b(70\d\d)\b", text):
            self._ports.setdefault(port, free_port())
        known = "|".join(self._ports)
        return re.sub(rf"(?<![\d.])({known})\b|(?<=127\.0\.0\.1:)({known})\b", lambda m: str(self._ports[m[0]]), text)

    def _shortened(self, line: str) -> str:
        """Without what takes long, or a terminal."""
        line = re.sub(r"(udptracker load .*)--duration \d+", r"\1--duration 1 --torrents 100 --peers 200", line)
        given = arguments_of(line)
        return f"{line} --once" if given and given[0] == "top" and "--once" not in given else line

    def _port_of(self, line: str) -> int:
        given = re.search(r"--metrics \S+:(\d+)|redis-server --port (\d+)|METRICS_ADDR=\S+:(\d+)", line)
        assert given, line
        return int(next(filter(None, given.groups())))

    def _install(self, folder: Path, store: StoreServer) -> None:
        cli = store.binary.with_name(store.binary.name.replace("-server", "-cli"))
        ours = f'exec "{sys.executable}" -m udptracker "$@"'
        random = f'exec "{sys.executable}" -c "import secrets; print(secrets.token_hex(32))"'
        programs = {"udptracker": ours, "openssl": random}
        programs |= {
            "redis-server": f'exec "{servers.valkey()}" "$@"',
            "redis-cli": f'exec "{cli}" -p {store.port} "$@"',
        }
        folder.mkdir()
        for name, script in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)


def shell_blocks(document: Path) -> Iterator[tuple[Block, str]]:
    """Those that are to be run, each with the configuration that the document showed last before it."""
    shown = ""
    for block in blocks(document):
        if block.language == "yaml" and block.code.startswith("udptracker:"):
            shown = block.code
        if block.language == "sh" and not block.excuse:
            yield block, shown


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
