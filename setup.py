"""What is compiled: the hot path, from the same source that runs interpreted where nothing can be compiled.

`pip install .` compiles where a C compiler and Python's headers are at hand, and installs the plain files otherwise.
`UDPTRACKER_PURE=1` forces plain. An editable install stays plain: a compiled module would hide the edited file.
Metadata is in setup.cfg.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

HOT_PATH = (
    "core/connection_id",
    "core/recent",
    "core/swarm",
    "core/tracker",
    "core/wire",
    "net/endpoint",
    "redis/segment",
    "service/batcher",
    "storage/base",
    "storage/memory",
    "storage/redis/answers",
    "storage/redis/context",
    "storage/redis/plan",
    "storage/redis/registry",
    "storage/redis/rounds",
    "storage/redis/samples",
)
"""Modules that mypyc compiles. All of them together, since calls between compiled modules are direct."""


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


setup(ext_modules=_extensions())
