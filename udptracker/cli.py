"""The command line: `udptracker [COMMAND]`, see `COMMANDS`. The only place that ends the process."""

from __future__ import annotations

import argparse
import logging
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from udptracker import build
from udptracker.core.text import printable

if TYPE_CHECKING:
    from udptracker import config

log = logging.getLogger(__name__)

Commands = argparse._SubParsersAction  # what `add_subparsers` returns; argparse has no public name for it

_BAD_USAGE: Final = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process with its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "-V", "--version")):
        given.insert(0, "serve")
    parsed = parser(given[0]).parse_args(given)
    run: Callable[[argparse.Namespace], int] = parsed.run
    try:
        sys.exit(run(parsed))
    except KeyboardInterrupt:
        sys.exit(130)


def parser(command: str = "") -> argparse.ArgumentParser:
    """The whole command line; of a command that is named, only that one, so that no other's code is loaded."""
    parser = argparse.ArgumentParser(
        prog="udptracker", description="A UDP BitTorrent tracker whose swarms live in Redis. Without a command: serve."
    )
    parser.add_argument("-V", "--version", action="version", version=build.describe())
    if command in ("-V", "--version"):
        return parser
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for register in dict.fromkeys([COMMANDS[command]] if command in COMMANDS else COMMANDS.values()):
        register(commands)
    return parser


def _register_serve(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.observe import logs

    serve = commands.add_parser("serve", help="run the tracker")
    serve.add_argument("--config", metavar="FILE", type=Path, help="YAML, see configs/; without one the defaults hold")
    serve.add_argument("--listen", metavar="ADDR", action="append", help="udp address, repeatable; replaces udp.addr")
    serve.add_argument("--storage", metavar="memory|URL", help="memory, or where Redis is: redis://host:6379/0")
    serve.add_argument("--metrics", metavar="ADDR|off", help="where /metrics, /healthz and /readyz are served")
    serve.add_argument("--workers", metavar="N", help="processes that share the ports")
    serve.add_argument("--log-level", metavar="LEVEL", help=", ".join(logs.LEVELS))
    serve.set_defaults(run=_serve)


def _register_check(commands: Commands[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="print the effective configuration, or every fault of a file")
    check.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="without one, the environment alone is looked at"
    )
    check.add_argument("--store", action="store_true", help="try every command that is needed on the store, too")
    check.add_argument("--access", action="store_true", help="read the lists and open the hooks, as a start does")
    check.set_defaults(run=_check)


def _register_key(commands: Commands[argparse.ArgumentParser]) -> None:
    key = commands.add_parser("key", help="the key of connection ids that nodes share through Redis")
    rotate = key.add_subparsers(required=True, metavar="ACTION").add_parser(
        "rotate", help="make a new one, for all nodes whose configuration has none"
    )
    rotate.add_argument("--config", metavar="FILE", type=Path, help="the configuration of a node; says where Redis is")
    rotate.add_argument("--storage", metavar="URL", help="where Redis is: redis://host:6379/0")
    rotate.set_defaults(run=_rotate_key)


def _register_client(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.client import cli

    cli.register(commands)


def _register_top(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.client import top

    top.register(commands)


def _register_probe(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.client import probe

    probe.register(commands)


def _register_swarms(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.client import swarms

    swarms.register(commands)


def _register_lists(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.client import lists

    lists.register(commands)


def _register_files(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.client import files

    files.register(commands)


def _register_load(commands: Commands[argparse.ArgumentParser]) -> None:
    from udptracker.load import cli

    cli.register(commands)


COMMANDS: Final[Mapping[str, Callable[[Commands[argparse.ArgumentParser]], None]]] = {
    "serve": _register_serve,
    "check": _register_check,
    "key": _register_key,
    "announce": _register_client,
    "scrape": _register_client,
    "probe": _register_probe,
    "swarm": _register_swarms,
    "swarms": _register_swarms,
    "torrent": _register_lists,
    "client": _register_lists,
    "network": _register_lists,
    "passkey": _register_lists,
    "top": _register_top,
    "files": _register_files,
    "load": _register_load,
}
"""Each command, and what puts it and its kin on the command line."""


def _serve(arguments: argparse.Namespace) -> int:
    from udptracker.config import ConfigError, flags
    from udptracker.observe import logs
    from udptracker.service import app, lifecycle

    lifecycle.take_news()
    loaded = _loaded(arguments.config, vars(arguments))
    if loaded is None:
        return _BAD_USAGE
    logs.configure(loaded.settings.log_level, form=loaded.settings.log_format)
    log.info("%s on Python %s", build.describe(), platform.python_version())
    for warning in loaded.warnings:
        log.warning("%s", warning)
    try:
        status = app.serve(loaded.settings, lambda: flags.read(arguments.config, vars(arguments)))
    except ConfigError as error:
        for fault in error.faults:
            log.error("%s", fault)
        return _BAD_USAGE
    lifecycle.end_at_the_latest()
    return status


def _check(arguments: argparse.Namespace) -> int:
    from udptracker import config

    loaded = _loaded(arguments.file, {})
    if loaded is None:
        return _BAD_USAGE
    for warning in loaded.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    print(config.dump(loaded.settings, loaded.origins), end="")
    status = _check_access(loaded.settings) if arguments.access else 0
    return max(status, _check_store(loaded.settings) if arguments.store else 0)


def _check_access(settings: config.Settings) -> int:
    """Say what keeps a start from deciding who may announce, on standard error; the exit status."""
    import asyncio

    from udptracker.access.access import make_parts
    from udptracker.access.base import AccessError
    from udptracker.core.counters import Counters

    async def faults() -> list[str]:
        found = []
        for part in make_parts(settings, Counters(), speaks=False):
            try:
                await part.open()
            except AccessError as error:
                found.append(str(error))
            finally:
                await part.close()
        return found

    found = asyncio.run(faults())
    for words in found or ["lists are read and hooks open"]:
        print(printable(f"access: {words}"), file=sys.stderr)
    return 1 if found else 0


def _check_store(settings: config.Settings) -> int:
    """Say what the store lacks, on standard error; the exit status."""
    import asyncio

    from udptracker import config
    from udptracker.core.swarm import StoreError

    if not isinstance(settings.storage.config, config.RedisSettings):
        return _check_snapshot(settings)
    from udptracker.client.reaching import reached
    from udptracker.storage.redis.needs import Lacks, acl_rules, lacks

    async def ask(redis: config.RedisSettings) -> Lacks:
        async with reached(redis) as topology:
            return await lacks(topology)

    where = settings.storage.describe()
    try:
        found = asyncio.run(ask(settings.storage.config))
    except StoreError as error:
        print(printable(f"store: {where}: {error}"), file=sys.stderr)
        return 1
    for words in found.needed:
        print(printable(f"store: needed: {words}"), file=sys.stderr)
    for words in found.wanted:
        print(printable(f"store: done without: {words}"), file=sys.stderr)
    if found.needed or found.wanted:
        print(f"store: ACL rules of a user who may do all of it: {acl_rules()}", file=sys.stderr)
    if not found.needed:
        print(printable(f"store: {where} does all that is needed"), file=sys.stderr)
    return 1 if found.needed else 0


def _check_snapshot(settings: config.Settings) -> int:
    """Say what a memory store would begin with, on standard error; the exit status."""
    from udptracker.service.snapshot_file import told
    from udptracker.storage.snapshot import SnapshotError

    path, _ = settings.storage.snapshot()
    try:
        words, status = (told(Path(path)), 0) if path else ("memory needs nothing", 0)
    except SnapshotError as error:
        words, status = f"{path}: {error}", 1
    except OSError as error:
        words, status = f"{path}: {error.strerror}", 1
    print(printable(f"store: {words}"), file=sys.stderr)
    return status


def _rotate_key(arguments: argparse.Namespace) -> int:
    from udptracker.core.swarm import StoreError
    from udptracker.service import keys

    loaded = _loaded(arguments.config, vars(arguments))
    if loaded is None:
        return _BAD_USAGE
    try:
        print(keys.rotate(loaded.settings))
    except StoreError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    return 0


def _loaded(path: Path | None, arguments: Mapping[str, Any]) -> config.Loaded | None:
    """The configuration, or None after a line for each fault on standard error."""
    from udptracker import config
    from udptracker.config import flags

    try:
        return flags.read(path, arguments)
    except config.ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
    except OSError as error:
        print(printable(f"{path}: {error.strerror}"), file=sys.stderr)
    return None
