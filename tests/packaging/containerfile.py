"""The steps of a Containerfile, done in directories where no container engine is.

Each stage is a Debian made by debootstrap, which is what Debian's own images are. `hadolint` sees to the syntax; what
is not used by ours is refused here.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.debian import Debian

_BASE: Final = re.compile(r"docker\.io/library/debian:([a-z]+)-slim(?: AS ([a-z]+))?")


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Instructions with their arguments, each on one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, argument = line.strip().partition(" ")
            yield name, " ".join(argument.split())


class Image:
    """What a Containerfile makes, from `with` to its end.

    Attributes:
        root: the last stage.
        settings: what is said of how it is run, by instruction.
        environment: of its processes.
    """

    def __init__(self, containerfile: Path, scratch: Path) -> None:
        self._containerfile = containerfile
        self._context = containerfile.parent
        self._scratch = scratch
        self._stages: dict[str, Debian] = {}
        self._kept = ExitStack()
        self._directory = "/"
        self.settings: dict[str, str] = {}
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as made:
            self._kept = made
            self._make()
            self._kept = made.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.close()

    def _make(self) -> None:
        for name, argument in steps(self._containerfile.read_text()):
            if name == "FROM":
                self._begin(argument)
            elif name == "RUN":
                self.root.run("sh", "-ec", f"cd {self._directory} && {argument}", environment=self.environment)
            elif name == "COPY":
                self._copy(shlex.split(argument))
            elif name == "WORKDIR":
                self._directory = argument
                self.root.path(argument).mkdir(parents=True, exist_ok=True)
            elif name == "ENV":
                key, _, value = argument.partition("=")
                self.environment[key] = value
            else:
                assert name in ("USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"), name
                self.settings[name] = argument

    @property
    def user(self) -> str:
        """Who its processes are: `uid:gid`."""
        return self.settings["USER"]

    @property
    def command(self) -> list[str]:
        """What it runs when nothing is said."""
        return [*json.loads(self.settings["ENTRYPOINT"]), *json.loads(self.settings["CMD"])]

    @property
    def health_check(self) -> list[str]:
        """The command that says whether it is well."""
        _, _, command = self.settings["HEALTHCHECK"].partition(" CMD ")
        found: list[str] = json.loads(command)
        return found

    def _begin(self, argument: str) -> None:
        base = _BASE.fullmatch(argument)
        assert base, argument
        self.root = self._kept.enter_context(Debian(self._scratch / f"stage-{len(self._stages)}", base[1]))
        self._stages[base[2] or "last"] = self.root
        self._directory = "/"
        self.settings, self.environment = {}, {}

    def _copy(self, words: list[str]) -> None:
        """As `COPY` does: the contents of a directory, or files into one that ends in a slash."""
        source = self._context
        if words[0].startswith("--from="):
            source = self._stages[words.pop(0).removeprefix("--from=")].folder
        *names, place = words
        into = self.root.path(f"{self._directory}/{place}" if not place.startswith("/") else place)
        for name in names:
            found = source / name.lstrip("/")
            if found.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.so") if source == self._context else None
                shutil.copytree(found, into, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                target = into / found.name if place.endswith("/") else into
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, target)
