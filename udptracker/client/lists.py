"""`udptracker torrent`, `client`, `network` and `passkey`: the lists that all nodes share.

They are changed where they are, in Redis, and every node follows within a second. What is to be changed is read as a
whole before anything is, so that a bad line in a file of a million changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from udptracker.access.base import AccessError
from udptracker.access.lists import changes
from udptracker.access.lists.ledger import AT_ONCE, Command, Known, Ledger, Record
from udptracker.client.arguments import integer
from udptracker.client.output import fail, progress_bar, show_json, show_table
from udptracker.client.targets import BadTarget
from udptracker.core.listed import (
    CLIENTS,
    EXPECTED,
    NETWORKS,
    PARSE,
    PASSKEYS,
    TORRENTS,
    candidates,
    show,
    split_passkey,
)
from udptracker.core.swarm import StoreError
from udptracker.core.text import counted

if TYPE_CHECKING:
    from udptracker.config import Settings

_LISTS: Final = {"torrent": TORRENTS, "client": CLIENTS, "network": NETWORKS, "passkey": PASSKEYS}
_WHAT: Final = {"allow": changes.ALLOW, "deny": changes.DENY, "remove": changes.REMOVE}
_SAID: Final = {changes.ALLOW: "allowed", changes.DENY: "denied", changes.REMOVE: "removed"}
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LAST_SECOND: Final = (1 << 32) - 1
_IN_FLIGHT: Final = 4
"""Changes on their way at once."""
_MOST_SHOWN: Final = 1_000
_LOG_READ: Final = 10_000
_MOST_REASON: Final = 200

Ask = Callable[[argparse.Namespace, "Settings", Ledger], Coroutine[Any, Any, int]]


class _Beginnings(argparse.ArgumentParser):
    """Takes what begins with one hyphen as it is: most peer ids do, and all options here have two."""

    def _parse_optional(self, arg_string: str) -> Any:
        is_peer_id = arg_string[:2] != "--" and arg_string != "-h"
        return None if is_peer_id else super()._parse_optional(arg_string)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add a command for each list to the command line."""
    for name, which in _LISTS.items():
        about = f"the {which} that are allowed and denied on all nodes that share a Redis"
        kind = _Beginnings if which == CLIENTS else argparse.ArgumentParser
        command = commands.add_parser(name, help=about)
        actions = command.add_subparsers(required=True, metavar="ACTION", parser_class=kind)
        for action, words in (("allow", "have"), ("deny", "refuse"), ("remove", "let nothing be known of")):
            change = actions.add_parser(action, help=f"{words} them")
            change.add_argument("entries", metavar=name.upper(), nargs="*", help=EXPECTED[which])
            change.add_argument(
                "--from", dest="file", metavar="FILE", help="more of them, one a line; - is standard input"
            )
            change.add_argument("--reason", type=_reason, default="", help="why, for whoever asks later")
            change.add_argument("--by", type=_reason, default="", help="who does it (default: user and machine)")
            if action != "remove":
                change.add_argument("--expires", type=_duration, metavar="30d", help="for how long (default: for good)")
                if which == PASSKEYS:
                    change.add_argument("--user", type=_user, default="", help="whose passkey it is")
            _add_common(change, which, _change, action=action)
        listing = actions.add_parser("list", help="show all of them")
        listing.add_argument("--top", type=integer(1, 10_000_000), default=_MOST_SHOWN, help="at most so many")
        _add_common(listing, which, _list)
        check = actions.add_parser("check", help="say what decides over one of them, and how")
        check.add_argument("entry", metavar=name.upper(), help=EXPECTED[which])
        _add_common(check, which, _check)
        log = actions.add_parser("log", help="show who changed what, and when")
        log.add_argument("--top", type=integer(1, 10_000), default=20, help="at most so many changes (default: 20)")
        _add_common(log, which, _log)


def _add_common(parser: argparse.ArgumentParser, which: str, ask: Ask, **defaults: Any) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="of a node; says where Redis is")
    parser.add_argument("--storage", metavar="URL", help="where Redis is: redis://host:6379/0")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a line")
    parser.set_defaults(run=lambda args: _run(args, ask), which=which, **defaults)


def _run(args: argparse.Namespace, ask: Ask) -> int:
    from udptracker.access.lists.shared import where_shared
    from udptracker.config import ConfigError
    from udptracker.config.flags import read

    try:
        settings = read(args.config, vars(args)).settings
        where = where_shared(settings)
        if where is None and ask is _check and args.config is not None:
            return asyncio.run(_check(args, settings, None))
        if where is None:
            raise BadTarget(
                "lists are shared through Redis: give --storage URL, or the --config of a node that has one"
            )
        return asyncio.run(_reach(args, settings, where.url, where.timeouts, ask))
    except ConfigError as error:
        for fault in error.faults:
            fail(str(fault), 2)
        return 2
    except OSError as error:
        return fail(f"{error.filename or args.config}: {error.strerror}", 2)
    except (BadTarget, AccessError) as error:
        return fail(str(error), 2)
    except StoreError as error:
        return fail(f"the shared lists: {error}", 1)


async def _reach(args: argparse.Namespace, settings: Settings, url: str, timeouts: Any, ask: Ask) -> int:
    from udptracker.client.reaching import connected

    async with connected(url, timeouts) as topology:
        return await ask(args, settings, Ledger(topology))


async def _change(args: argparse.Namespace, settings: Settings, ledger: Ledger) -> int:
    hashed = settings.access.passkeys.hashed
    found = dict(_parsed(args.which, _lines(args), getattr(args, "user", ""), hashed))
    if not found:
        raise BadTarget(f"nothing to {args.action}: name some, or a file with --from")
    duration = getattr(args, "expires", None)
    expires = 0 if duration is None else min(int(time.time()) + duration, _LAST_SECOND)
    by = args.by or f"{getpass.getuser()}@{socket.gethostname()}"
    what = _WHAT[args.action]
    command = Command(args.which, what, expires, by, args.reason, secrets.token_hex(6))
    number = await _change_all(ledger, command, list(found.items()))
    if args.json:
        show_json({"list": args.which, "change": args.action, "entries": len(found), "version": number})
    else:
        print(f"{counted(len(found), args.which)} {_SAID[what]}")
    return 0


async def _change_all(ledger: Ledger, command: Command, found: list[tuple[bytes, Mapping[str, str]]]) -> int:
    """Change them, several slices at once, with a bar on a terminal; the number of the last change."""
    number = 0
    slices = iter(range(0, len(found), AT_ONCE))
    with progress_bar() as progress:
        task = progress.add_task(f"changing {command.which}", total=len(found))

        async def work() -> None:
            nonlocal number
            for at in slices:
                part = found[at : at + AT_ONCE]
                done = await ledger.change(command, [entry for entry, _ in part], [about for _, about in part])
                number = max(number, done)
                progress.advance(task, len(part))

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
    return number


def _lines(args: argparse.Namespace) -> Iterable[tuple[str, str]]:
    """What is named: where each entry stands, and its text."""
    for text in args.entries:
        yield "", text
    if args.file is None:
        return
    if args.file == "-":
        yield from _lines_of("standard input", sys.stdin.buffer)
    else:
        with open(args.file, "rb") as file:
            yield from _lines_of(args.file, file)


def _lines_of(name: str, lines: Iterable[bytes]) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        text = line.decode("utf-8", "backslashreplace").partition(" #")[0].strip()
        if text and not text.startswith("#"):
            yield f"{name}, line {number}: ", text


def _parsed(
    which: str, lines: Iterable[tuple[str, str]], user: str, hashed: bool
) -> Iterable[tuple[bytes, Mapping[str, str]]]:
    """Packed entries, with what is known of each besides.

    Raises:
        BadTarget: one is none.
    """
    nothing: Mapping[str, str] = {}
    parse = PARSE[which]
    for where, text in lines:
        try:
            if which != PASSKEYS:
                yield parse(text), nothing
                continue
            passkey, its_user = split_passkey(text)
            about = {"user": its_user or user} if its_user or user else {}
            if not hashed and not passkey.startswith("sha256:"):
                about["passkey"] = passkey
            yield parse(passkey), about
        except ValueError:
            found = "what is none" if which == PASSKEYS else repr(text)
            raise BadTarget(f"{where}found {found}, expected {EXPECTED[which]}") from None


async def _list(args: argparse.Namespace, settings: Settings, ledger: Ledger) -> int:
    rows: list[Known] = []
    count = 0
    seen: set[bytes] = set()
    now = time.time()
    with progress_bar() as progress:
        task = progress.add_task(f"reading {args.which}", total=await ledger.size(args.which))
        async for part in ledger.entries(args.which):
            progress.advance(task, len(part))
            for known in part:
                if known.entry in seen or 0 < known.expires <= now:
                    continue
                seen.add(known.entry)
                count += 1
                if count > args.top:
                    continue
                if args.json:
                    show_json(_fields(known))
                else:
                    rows.append(known)
    if not args.json:
        show_table(("entry", "verdict", "until", "user", "reason", "by", "at"), [_row(known) for known in rows])
    if count > args.top:
        print(f"{count - args.top:,} more: --top {count}", file=sys.stderr)
    return 0


async def _check(args: argparse.Namespace, settings: Settings, ledger: Ledger | None) -> int:
    """What decides: of all sources of the node's configuration, as its rules do.

    Args:
        ledger: None where no lists are shared.
    """
    from udptracker.access.lists.part import inline_sources, read_files

    which = args.which
    if which == PASSKEYS:
        passkey, _ = split_passkey(args.entry)
        ((entry, _),) = _parsed(which, [("", passkey)], "", True)
    else:
        ((entry, _),) = _parsed(which, [("", args.entry)], "", False)
    places = candidates(which, entry)
    tables = [("configuration", source) for source in inline_sources(settings.access)]
    tables += [(file.path, file) for file in await read_files(settings.access, [])]
    now = int(time.time())
    found: list[tuple[int, bool, dict[str, Any]]] = []
    shared = [None] * len(places) if ledger is None else await ledger.find(which, places)
    for place, (candidate, known) in enumerate(zip(places, shared, strict=True)):
        if known is not None:
            found.append((-place, known.denied, {"source": "shared", **_fields(known)}))
        for name, source in tables:
            local = source.table.find(candidate, now) if source.which == which else None
            if local is not None:
                fields = {"entry": show(which, candidate), "verdict": _verdict(local.denied), "user": local.user}
                found.append((-place, local.denied, {"source": name, **fields}))
    found.sort(key=lambda each: each[:2], reverse=True)
    verdict = _verdict(found[0][1]) if found else _unlisted(settings, which)
    if args.json:
        show_json({"entry": show(which, entry), "verdict": verdict, "because": [fields for *_, fields in found]})
        return 0
    print(f"{show(which, entry)}: {verdict}{'' if found else ', as it is on no list'}")
    if found:
        columns = ("source", "entry", "verdict", "until", "user", "reason", "by", "at")
        show_table(columns, [[str(fields.get(column) or "") for column in columns] for *_, fields in found])
    return 0


async def _log(args: argparse.Namespace, settings: Settings, ledger: Ledger) -> int:
    shown = [one for one in _joined(await ledger.log(_LOG_READ)) if one.which == args.which][: args.top]
    if args.json:
        for one in shown:
            fields = {"at": _iso(one.at / 1000), "change": _SAID[one.what], "entries": list(one.entries), "of": one.of}
            show_json({**fields, "until": _until(one.expires), "reason": one.reason, "by": one.by})
        return 0
    rows = []
    for one in shown:
        more = [f"and {one.of - len(one.entries):,} more"] if one.of > len(one.entries) else []
        entries = "\n".join([*one.entries, *more])
        rows.append((_iso(one.at / 1000), _SAID[one.what], entries, _until(one.expires), one.reason, one.by))
    show_table(("at", "change", "entries", "until", "reason", "by"), rows)
    return 0


def _joined(records: Iterable[Record]) -> list[Record]:
    """The records of a command as one."""
    commands: dict[str, Record] = {}
    for record in records:  # newest first: what a command began with comes last
        later = commands.get(record.command)
        commands[record.command] = record if later is None else record._replace(of=record.of + later.of)
    return list(commands.values())


def _unlisted(settings: Settings, which: str) -> str:
    if which == PASSKEYS:
        return "deny" if settings.access.passkeys.required else "allow"
    return str(getattr(getattr(settings.access, which), "unlisted", "allow"))


def _fields(known: Known) -> dict[str, Any]:
    about = known.about()
    at = about.get("at")
    return {
        "entry": str(about.get("passkey") or show(known.which, known.entry)),
        "verdict": _verdict(known.denied),
        "until": _until(known.expires),
        "user": str(about.get("user", "")),
        "reason": str(about.get("reason", "")),
        "by": str(about.get("by", "")),
        "at": _iso(at) if isinstance(at, int) else "",
    }


def _row(known: Known) -> list[str]:
    return list(map(str, _fields(known).values()))


def _verdict(denied: bool) -> str:
    return "deny" if denied else "allow"


def _until(expires: int) -> str:
    return _iso(expires) if expires else ""


def _iso(second: float) -> str:
    try:
        return datetime.fromtimestamp(second, UTC).isoformat(" ", "seconds").removesuffix("+00:00") + "Z"
    except (ValueError, OverflowError, OSError):  # whatever stands there
        return "?"


def _duration(text: str) -> int:
    """Seconds of a length of time such as 30d or 1h30m."""
    if not re.fullmatch(r"(?:[0-9]{1,9}[smhdw])+", text):
        raise argparse.ArgumentTypeError("expected a length of time such as 30d, 12h or 1w2d")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhdw])", text))


def _reason(text: str) -> str:
    if len(text) > _MOST_REASON:
        raise argparse.ArgumentTypeError(f"expected at most {_MOST_REASON} characters")
    return text


def _user(text: str) -> str:
    try:
        _, user = split_passkey(f"x {text}")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return user
