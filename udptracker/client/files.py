"""`udptracker files`: what comes beside the code (units, configurations, dashboards, man page), listed or copied out.

A build puts it into the package, as `files/`. A checkout has it where it is written, but for what a build makes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from udptracker.client.output import fail
from udptracker.core.text import printable

FOLDERS: Final = ("systemd", "configs")
"""Of the repository, which a build takes as they are."""
PACKED: Final = "files"
"""Where in the package a build puts them, and what it makes."""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `files` to the command line."""
    parser = commands.add_parser(
        "files",
        help="list or copy out systemd units, sample configurations, alerts, dashboard, completions, man page",
        description="List the files that come with the tracker: systemd units and a sysctl file, sample "
        "configurations, alerts and a dashboard, and as far as a build has made them, completions and a man page.",
    )
    parser.add_argument(
        "--to", metavar="DIR", type=Path, help="copy them into this directory, which is made if need be"
    )
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    parser.set_defaults(run=_run)


def shipped() -> dict[str, Traversable]:
    """Every file by its name below the directory it is copied to, in order."""
    package = resources.files("udptracker")
    packed = package / PACKED
    if packed.is_dir():
        found = dict(_below(packed, ""))
    else:
        checkout = Path(str(package)).parent
        found = {name: file for folder in FOLDERS for name, file in _below(checkout / folder, f"{folder}/")}
    return dict(sorted(found.items()))


def _below(folder: Traversable, above: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{above}{entry.name}/")
        else:
            yield f"{above}{entry.name}", entry


def _run(args: argparse.Namespace) -> int:
    files = shipped()
    if args.to is None:
        for name in files:
            print(name)
        return 0
    there = [name for name in files if (args.to / name).exists() or (args.to / name).is_symlink()]
    if there and not args.force:
        return fail(f"nothing is copied, as {args.to} has {', '.join(there)} (--force writes over them)", 1)
    try:
        for name, file in files.items():
            target = args.to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb" if args.force else "xb") as out:
                out.write(file.read_bytes())
            print(printable(str(target)))
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}", 1)
    return 0
