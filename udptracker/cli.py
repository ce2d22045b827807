"""The command line: `udptracker [serve | check | key | announce | scrape | load]`. All that ends the process."""

from __future__ import annotations

import argparse
import logging
import os
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
_BROKER: Final = "storage.config.redis_broker"
_FLAGS: Final = {
    "udp.addr": "listen",
    _BROKER: "storage",
    "metrics_addr": "metrics",
    "workers": "workers",
    "log_level": "log_level",
}
"""The key that each flag of `serve` stands for, and the flag as argparse names it."""


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
    serve.add_argument("--workers", metavar="N", help="processes that share the ports, on Redis")
    serve.add_argument("--log-level", metavar="LEVEL", help=", ".join(logs.LEVELS))
    serve.set_defaults(run=_serve)


def _register_check(commands: Commands[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="print the effective configuration, or every fault of a file")
    check.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="without one, the environment alone is looked at"
    )
    check.set_defaults(run=_check)


def _register_key(commands: Commands[argparse.ArgumentParser]) -> None:
    key = commands.add_parser("key", help="the key of connection ids that nodes share through Redis")
    rotate = key.add_subparsers(required=True, metavar="ACTION").add_parser(
        "rotate", help="make a new one, for all nodes whose configuration has none"
    )
    rotate.add_argument("--config", metavar="FILE", type=Path, help="the configuration of a node; says where Redis is")
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
    "top": _register_top,
    "load": _register_load,
}
"""Each command, and what puts it and its kin on the command line."""


def _serve(arguments: argparse.Namespace) -> int:
    from udptracker.observe import logs
    from udptracker.service import app

    loaded = _loaded(arguments.config, _overrides(arguments))
    if loaded is None:
        return _BAD_USAGE
    logs.configure(loaded.settings.log_level, form=loaded.settings.log_format)
    log.info("%s on Python %s", build.describe(), platform.python_version())
    for warning in loaded.warnings:
        log.warning("%s", warning)
    return app.serve(loaded.settings, lambda: _read(arguments.config, _overrides(arguments)))


def _check(arguments: argparse.Namespace) -> int:
    from udptracker import config

    loaded = _loaded(arguments.file, {})
    if loaded is None:
        return _BAD_USAGE
    for warning in loaded.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    print(config.dump(loaded.settings, loaded.origins), end="")
    return 0


def _rotate_key(arguments: argparse.Namespace) -> int:
    from udptracker.core.swarm import StoreError
    from udptracker.service import keys

    loaded = _loaded(arguments.config, {})
    if loaded is None:
        return _BAD_USAGE
    try:
        print(keys.rotate(loaded.settings))
    except StoreError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    return 0


def _loaded(path: Path | None, overrides: Mapping[str, Any]) -> config.Loaded | None:
    """The configuration, or None after a line for each fault on standard error."""
    from udptracker import config

    try:
        return _read(path, overrides)
    except config.ConfigError as error:
        for fault in error.faults:
            print(_by_flag(fault, overrides), file=sys.stderr)
    except OSError as error:
        print(printable(f"{path}: {error.strerror}"), file=sys.stderr)
    return None


def _read(path: Path | None, overrides: Mapping[str, Any]) -> config.Loaded:
    """The configuration.

    Raises:
        ConfigError: it is refused.
        OSError: the file cannot be read.
    """
    from udptracker import config

    if path is None:
        return config.from_tree({}, config.ROOTS[0], os.environ, overrides)
    return config.load(path, overrides)


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """What flags say, by the path of the key each stands for."""
    given = {path: getattr(arguments, flag) for path, flag in _FLAGS.items()}
    overrides = {path: value for path, value in given.items() if value is not None}
    if arguments.storage == "memory":
        overrides["storage.name"] = overrides.pop(_BROKER)
    elif arguments.storage is not None:
        overrides["storage.name"] = "redis"
    if arguments.workers is not None and arguments.workers.isdecimal():
        overrides["workers"] = int(arguments.workers)
    return overrides


def _by_flag(fault: config.Fault, overrides: Mapping[str, Any]) -> config.Fault:
    """The fault by the name of the flag that brought it, if one did."""
    from udptracker import config

    _, _, path = fault.path.partition(".")
    for key in overrides.keys() & _FLAGS.keys():
        if path == key or path.startswith(f"{key}."):
            flag = "--" + _FLAGS[key].replace("_", "-")
            expected = f"memory or {fault.expected}" if key == _BROKER else fault.expected
            return config.Fault(flag, fault.found, expected)
    return fault
