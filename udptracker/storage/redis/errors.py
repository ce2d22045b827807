"""What an error reply of the server means for the store: that one operation failed, or that this server cannot serve.

The first word of an error is its code. The codes are those of the sources of Redis 6.2 to 8 and Valkey 7.2 to 8,
without the ones that only answer commands we do not send (streams, transactions, MIGRATE, replication, Sentinel).
"""

from __future__ import annotations

import re
from typing import Any, Final

from hiredis import ReplyError

from udptracker.core.swarm import StoreError, StoreUnavailable

_AWAY: Final = frozenset(
    {
        "LOADING",  # it reads its data
        "BUSY",  # a script, a function or a module runs for too long
        "READONLY",  # it is a replica, or became one
        "REDIRECT",  # the same, of Valkey 8, with where to go
        "MASTERDOWN",  # a replica that is not to answer without its master
        "NOREPLICAS",  # too few replicas to take a write
        "MISCONF",  # it cannot save, and is not to take writes until it can
        "OOM",  # no memory left for a write
        "CLUSTERDOWN",  # some slots have no owner
        "TRYAGAIN",  # keys of one command are on two nodes while a slot moves
        "MOVED",  # redirections without an end
        "ASK",
        "UNBLOCKED",  # a client was let go of, as by a failover
        "NOMASTERLINK",  # in the middle of a failover
        "DENIED",  # protected mode
        "NOAUTH",  # a password was set, or the user taken away
        "WRONGPASS",
        "NOPERM",  # a command or a key that this user may not use
    }
)
_AWAY_WITHOUT_CODE: Final = (
    "ERR unknown command",  # older, a proxy, or the command was renamed
    "ERR unknown subcommand",
    "ERR unsupported command",
    "ERR command not supported",
    "ERR max number of clients",
    "ERR max daily request limit",
    "ERR max requests limit",
    "ERR operation not permitted",
)
_REFUSED: Final = ("NOPERM", "ERR unknown ", "ERR unsupported", "ERR command not supported", "ERR This instance has")
_IN_SCRIPT: Final = re.compile(r"@user_script:? ?\d+: -([A-Z]+) ")
_BROKEN: Final = ("WRONGTYPE", "not an integer", "out of range", "would overflow")
"""What is in an error reply that says that a value is broken, wherever: a script wraps the words of the command."""
_SCRIPT_MAY_NOT: Final = "The user executing the script can't"


def code_of(text: str) -> str:
    """The code of an error; of one that Redis 6.2 wraps in a script's, the inner one."""
    code = text.partition(" ")[0]
    if code != "ERR":
        return code
    if _SCRIPT_MAY_NOT in text:
        return "NOPERM"
    inner = _IN_SCRIPT.search(text)
    return code if inner is None else inner[1]


def store_error(error: ReplyError) -> StoreError:
    """An error reply as the store's own: of the one operation, or of the server as a whole."""
    text = str(error)
    away = code_of(text) in _AWAY or text.startswith(_AWAY_WITHOUT_CODE)
    return (StoreUnavailable if away else StoreError)(text)


def is_refusal(error: ReplyError) -> bool:
    """Whether this server will not do that command for us at all: not permitted, not known, or left out."""
    return str(error).startswith(_REFUSED)


def is_broken_value(reply: Any) -> bool:
    """Whether a reply says that one value in the store is broken, not that the command may not be run."""
    return isinstance(reply, ReplyError) and any(words in str(reply) for words in _BROKEN)
