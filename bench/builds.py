"""Our tracker twice, from one source: compiled, as `pip install .` makes it, and as the plain files are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from udptracker.client.files import FOLDERS
from udptracker.load import LoadError

_REPOSITORY: Final = Path(__file__).parents[1]
_BUILT_FROM: Final = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
_PATIENCE: Final = 600.0
"""Seconds for a build."""


class Builds:
    """Where each is imported from: made below `directory` when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cached_property
    def plain(self) -> Path:
        """The sources, without anything compiled that lies beside them."""
        return _copied(self._directory / "plain")

    @cached_property
    def compiled(self) -> Path:
        """What is installed from them where a compiler is at hand.

        Raises:
            LoadError: it cannot be built, or not be compiled.
        """
        source, target = _copied(self._directory / "source"), self._directory / "compiled"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
        environment = {name: value for name, value in os.environ.items() if name != "UDPTRACKER_PURE"}
        _output(command, environment)
        said = _output([sys.executable, "-m", "udptracker", "--version"], environment | {"PYTHONPATH": str(target)})
        if "compiled" not in said:
            raise LoadError(f"{said.strip()}: is there a C compiler, with Python's headers?")
        return target


def _output(command: list[str], environment: dict[str, str]) -> str:
    """What a command says; it runs where none of our sources are.

    Raises:
        LoadError: it fails.
    """
    with TemporaryDirectory() as elsewhere:
        ended = subprocess.run(
            command,
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    if ended.returncode:
        raise LoadError(f"udptracker cannot be built here: {ended.stderr.strip()}")
    return ended.stdout


def _copied(directory: Path) -> Path:
    without = shutil.ignore_patterns("__pycache__", *(f"*{suffix}" for suffix in EXTENSION_SUFFIXES))
    for folder in ("udptracker", *FOLDERS):
        shutil.copytree(_REPOSITORY / folder, directory / folder, ignore=without)
    for name in _BUILT_FROM:
        if (_REPOSITORY / name).exists():
            shutil.copy(_REPOSITORY / name, directory)
    return directory
