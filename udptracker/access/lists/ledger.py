"""The shared lists as they are in Redis. All keys are in one slot, so that a change is one script on any topology:

    udptracker_{access}_torrents     hash: packed entry -> what is known of it; and the same of the other lists
    udptracker_{access}_version      when the lists were begun (a random word), a blank, and how often they were changed
    udptracker_{access}_changes      stream: the latest changes (`changes`), by the number of the change
    udptracker_{access}_log          stream: who changed what, and when

A value is `+` for allowed or `-` for denied, the Unix second in which that ends or 0, a blank, and as JSON what people
want to know: `by`, `at`, `reason`, of a passkey `user`, and `passkey` itself unless only its hash is kept.

A node reads the version once in a while, which is all as long as nothing changes; otherwise the changes since, and
where these are no longer there or the lists were begun anew, all of it, in slices.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from udptracker.access.lists.changes import DENY, REMOVE, Change, pack_change
from udptracker.access.lists.tables import GRACE
from udptracker.core.listed import LISTS, PASSKEYS, is_entry, is_user, show
from udptracker.core.swarm import StoreError, StoreUnavailable
from udptracker.redis.comprehending import comprehending

if TYPE_CHECKING:
    from udptracker.redis.topology import Topology

AT_ONCE: Final = 500
"""Entries that are read or written at once: a millisecond for either side."""
_KEPT_CHANGES: Final = 1_000
_KEPT_LOG: Final = 10_000
"""Records in the streams, about: of the one up to 20 KB each."""
_MOST_HEAD: Final = 1 + len(str(2**32))
_SHOWN: Final = 3
"""Entries that a record of the log names."""

_PREFIX: Final = b"udptracker_{access}_"
VERSION: Final = _PREFIX + b"version"
CHANGES: Final = _PREFIX + b"changes"
LOG: Final = _PREFIX + b"log"

_CHANGE: Final = """\
local version = redis.call('GET', KEYS[2])
local epoch, number = string.match(version or '', '^(%x+) (%d+)$')
if not epoch then
  epoch, number = ARGV[1], 0
  redis.call('DEL', KEYS[3])
end
number = string.format('%.0f', number + 1)
if ARGV[2] == 'put' then
  redis.call('HSET', KEYS[1], unpack(ARGV, 5))
else
  redis.call('HDEL', KEYS[1], unpack(ARGV, 5))
end
redis.call('SET', KEYS[2], epoch .. ' ' .. number)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', '%CHANGES%', number .. '-0', 'changes', ARGV[3])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', '%LOG%', '*', 'record', ARGV[4])
return number""".replace("%CHANGES%", str(_KEPT_CHANGES)).replace("%LOG%", str(_KEPT_LOG))

_DROP_UNCHANGED: Final = """\
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 0"""


class Version(NamedTuple):
    """`number` changes since the lists were begun; `epoch` is another word each time that they are."""

    epoch: str
    number: int


class Known(NamedTuple):
    """An entry as it stands in Redis: until a Unix second, 0 for always. `text` is JSON of what people want to know."""

    which: str
    entry: bytes
    denied: bool
    expires: int
    text: bytes

    def about(self) -> dict[str, Any]:
        """What people want to know of it; nothing if that cannot be read."""
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def user(self) -> str:
        """Whose passkey it is; empty of what is none, or of a name that nobody could have given."""
        user = self.about().get("user", "") if self.which == PASSKEYS else ""
        return user if isinstance(user, str) and is_user(user) else ""


class Command(NamedTuple):
    """What is the same for all entries that a command changes: `what` of `changes`, until when, by whom and why."""

    which: str
    what: int
    expires: int
    by: str
    reason: str
    number: str
    """A random word that its records in the log have in common."""


class Record(NamedTuple):
    """What a command did, or a part of that: `at` is Unix milliseconds, `entries` are the first of so many."""

    at: int
    which: str
    what: int
    entries: Sequence[str]
    of: int
    expires: int
    by: str
    reason: str
    command: str


class Gap(Exception):
    """The changes since a version are not there any more."""


class Ledger:
    """What is asked and changed. All of it raises `StoreUnavailable` when Redis does not answer or does not permit it,
    and `StoreError` when what stands there cannot be read."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    @comprehending
    async def version(self) -> Version | None:
        """Where the lists are; None if there are none."""
        held = await self._call(VERSION, "GET", VERSION)
        if held is None:
            return None
        epoch, _, number = held.decode("latin-1").partition(" ")
        if not number.isdecimal():
            raise StoreError(f"{VERSION.decode()} holds no version")
        return Version(epoch, int(number))

    @comprehending
    async def changes(self, since: int, most: int) -> list[tuple[int, bytes]]:
        """Number and content of the changes that follow one, at most so many.

        Raises:
            Gap: the next one is not there any more.
        """
        start = b"%d-0" % (since + 1)
        found = await self._call(CHANGES, "XRANGE", CHANGES, start, b"+", "COUNT", str(most))
        result = []
        for at, fields in found:
            number = int(at.partition(b"-")[0])
            since += 1
            if number != since or len(fields) != 2:
                raise Gap
            result.append((number, fields[1]))
        if not result:
            raise Gap
        return result

    async def entries(self, which: str) -> AsyncIterator[list[Known]]:
        """A whole list, a slice at a time, each entry at least once. Those that ended long ago are taken out."""
        key, cursor = key_of(which), b"0"
        while True:
            cursor, flat = await self._slice(key, cursor)
            for at in range(0, len(flat), 2 * AT_ONCE):
                part = flat[at : at + 2 * AT_ONCE]
                pairs = list(zip(part[::2], part[1::2], strict=True))
                known = [found for entry, value in pairs if (found := _read(which, entry, value)) is not None]
                long_ago = time.time() - GRACE
                ended = {found.entry for found in known if 0 < found.expires <= long_ago}
                if ended:
                    gone = [each for pair in pairs if pair[0] in ended for each in pair]
                    with suppress(StoreUnavailable):  # whoever may only read does without
                        await self._call(key, "EVAL", _DROP_UNCHANGED, "1", key, *gone)
                    known = [found for found in known if found.entry not in ended]
                yield known
            if cursor == b"0":
                return

    @comprehending
    async def _slice(self, key: bytes, cursor: bytes) -> tuple[bytes, list[bytes]]:
        """The next cursor, and entries with their values."""
        following, flat = await self._call(key, "HSCAN", key, cursor, "COUNT", str(AT_ONCE))
        if len(flat) % 2 or not all(isinstance(each, bytes) for each in (following, *flat)):
            raise TypeError("no entries in HSCAN")
        return following, flat

    @comprehending
    async def size(self, which: str) -> int:
        """How many entries a list has, those among them that have ended and were not taken out yet."""
        return int(await self._call(key_of(which), "HLEN", key_of(which)))

    @comprehending
    async def find(self, which: str, entries: Sequence[bytes]) -> list[Known | None]:
        """What is known of entries themselves."""
        key = key_of(which)
        values = await self._call(key, "HMGET", key, *entries) if entries else []
        pairs = zip(entries, values, strict=True)
        found = [None if value is None else _read(which, entry, value) for entry, value in pairs]
        now = time.time()
        return [None if each is None or 0 < each.expires <= now else each for each in found]

    @comprehending
    async def change(self, command: Command, entries: Sequence[bytes], about: Sequence[Mapping[str, str]]) -> int:
        """Change some entries, at most `AT_ONCE`; the number of the change.

        Args:
            about: of each entry, what people want to know of it besides what the command says.
        """
        which, what, expires, by, reason, number = command
        common = {"by": by, "at": int(time.time()), **({"reason": reason} if reason else {})}
        changes, arguments = [], []
        begin = b"%b%d " % (b"-" if what == DENY else b"+", expires)
        plain = begin + json.dumps(common).encode()
        for entry, more in zip(entries, about, strict=True):
            changes.append(pack_change(Change(which, what, entry, expires, more.get("user", ""))))
            arguments.append(entry)
            if what != REMOVE:
                arguments.append(begin + json.dumps({**common, **more}).encode() if more else plain)
        record = {
            "list": which,
            "what": what,
            "count": len(entries),
            "entries": [show(which, entry) for entry in entries[:_SHOWN]],
            "expires": expires,
            "by": by,
            "reason": reason,
            "command": number,
        }
        action = "remove" if what == REMOVE else "put"
        keys = (key_of(which), VERSION, CHANGES, LOG)
        fixed = (secrets.token_hex(8), action, b"".join(changes), json.dumps(record))
        return int(await self._call(VERSION, "EVAL", _CHANGE, "4", *keys, *fixed, *arguments))

    @comprehending
    async def log(self, most: int) -> list[Record]:
        """The latest records, newest first."""
        found = await self._call(LOG, "XREVRANGE", LOG, "+", "-", "COUNT", str(most))
        records = []
        for at, fields in found:
            try:
                said = json.loads(fields[1])
                records.append(
                    Record(
                        int(at.partition(b"-")[0]),
                        str(said["list"]),
                        int(said["what"]),
                        list(map(str, said["entries"])),
                        int(said["count"]),
                        int(said["expires"]),
                        str(said["by"]),
                        str(said["reason"]),
                        str(said["command"]),
                    )
                )
            except (ValueError, TypeError, LookupError):  # somebody else's
                continue
        return records

    async def _call(self, key: bytes, *command: Any) -> Any:
        from hiredis import ReplyError

        try:
            return await self._topology.call(key, *command)
        except ReplyError as error:
            raise StoreUnavailable(str(error)) from error


def key_of(which: str) -> bytes:
    """The key of the hash that holds a list."""
    assert which in LISTS
    return _PREFIX + which.encode()


def _read(which: str, entry: bytes, value: bytes) -> Known | None:
    """What is known of an entry; None if that cannot be read."""
    head, _, text = value.partition(b" ")
    if not is_entry(which, entry) or not head[1:].isdigit() or head[:1] not in (b"+", b"-") or len(head) > _MOST_HEAD:
        return None
    expires = int(head[1:])
    return Known(which, entry, head[:1] == b"-", expires, text) if expires < 1 << 32 else None
