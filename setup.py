"""What setup.cfg cannot say: what is compiled, and what is made of the command line.

The hot path is compiled from the same source that runs interpreted where nothing can be compiled.
`pip install .` compiles where a C compiler and Python's headers are at hand, and installs the plain files otherwise.
`UDPTRACKER_PURE=1` forces plain. An editable install stays plain: a compiled module would hide the edited file.

The man page and the completions of shells are made of the command line itself, so that none of them can be wrong. They
go where shells and man look for them, and with units, configurations and dashboards into the package, from which
`udptracker files` copies them out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

HOT_PATH = (
    "access/guard",
    "access/lists/rules",
    "access/lists/tables",
    "access/limits/door",
    "access/limits/offenders",
    "access/limits/peers",
    "access/limits/table",
    "core/connection_id",
    "core/networks",
    "core/recent",
    "core/swarm",
    "core/tracker",
    "core/wire",
    "net/endpoint",
    "redis/segment",
    "service/batcher",
    "service/sharing",
    "storage/base",
    "storage/blocks",
    "storage/memory",
    "storage/redis/answers",
    "storage/redis/context",
    "storage/redis/plan",
    "storage/redis/registry",
    "storage/redis/rounds",
    "storage/redis/samples",
    "storage/swarms",
)
"""Modules that mypyc compiles. All of them together, since calls between compiled modules are direct. Not
`net/steering`, whose buffer compiled code lets go of before the kernel has read it."""

HERE: Final = Path(__file__).parent
BASH: Final = "share/bash-completion/completions/udptracker"
ZSH: Final = "share/zsh/site-functions/_udptracker"
MAN: Final = "share/man/man1/udptracker.1"
ABOUT: Final = "a UDP BitTorrent tracker whose swarms live in Redis"


def _why_plain() -> str | None:
    """Why nothing is compiled, None if it is."""
    if os.environ.get("UDPTRACKER_PURE", "0") not in ("", "0"):
        return "UDPTRACKER_PURE is set"
    if any("editable" in argument or argument == "develop" for argument in sys.argv):
        return "the install is editable"
    if sys.implementation.name != "cpython":
        return f"{sys.implementation.name} is not CPython"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if not (shutil.which(compiler) or shutil.which("cc")):
        return "there is no C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "there are no headers of this Python"
    return None


def _extensions() -> list[Extension]:
    if not any(argument.startswith(("bdist", "build", "install")) for argument in sys.argv):
        return []  # an sdist, or a question about metadata
    why = _why_plain()
    if why is not None:
        print(f"udptracker is installed plain, since {why}")
        return []
    from mypyc.build import mypycify  # what asks for no build need not have it

    compiled = mypycify(
        ["--config-file=", "--ignore-missing-imports", *(f"udptracker/{module}.py" for module in HOT_PATH)],
        opt_level="3",
        debug_level="0",
        group_name="udptracker",
    )
    burst = Extension("udptracker.net._burst", ["udptracker/net/_burst.c"], extra_compile_args=["-O3"])
    for extension in (burst, *compiled):
        extension.optional = True  # what does not compile is served by the plain file
    return [burst, *compiled]


def made_of_the_command_line() -> dict[str, str]:
    """Texts of files, by where shells and man look for them below a prefix."""
    import shtab
    from argparse_manpage.manpage import Manpage

    from udptracker import __version__
    from udptracker.cli import parser

    about = {"project_name": "udptracker", "version": __version__, "manual_title": "udptracker", "description": ABOUT}
    completed = parser()
    complete_files(completed, shtab.FILE)
    return {
        BASH: shtab.complete(completed, "bash"),
        ZSH: shtab.complete(completed, "zsh"),
        MAN: str(Manpage(parser(), about)),
    }


def complete_files(parser: argparse.ArgumentParser, files: dict[str, str]) -> None:
    """Let every argument that names a file be completed as one."""
    for action in parser._actions:
        if action.type is Path:
            action.complete = files  # type: ignore[attr-defined]  # where shtab looks for it
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                complete_files(command, files)


class BuildPy(build_py):
    """Also makes what a wheel carries beside the code; an editable install has the repository's."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        sys.path.insert(0, str(HERE))
        from udptracker.client.files import FOLDERS, PACKED

        packed = Path(self.build_lib) / "udptracker" / PACKED
        shutil.rmtree(packed, ignore_errors=True)  # an earlier build's
        for folder in FOLDERS:
            shutil.copytree(HERE / folder, packed / folder)
        try:
            made = made_of_the_command_line()
        except ImportError as error:  # built without isolation, and without these tools
            print(f"no man page and no completions: {error}", file=sys.stderr)
            return
        base = Path(self.get_finalized_command("build").build_base)
        placed: dict[str, list[str]] = {}
        for name, text in made.items():
            for file in (packed / name, base / name):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            placed.setdefault(str(Path(name).parent), []).append(str(base / name))
        self.distribution.data_files = [*(self.distribution.data_files or []), *placed.items()]


setup(ext_modules=_extensions(), cmdclass={"build_py": BuildPy})
