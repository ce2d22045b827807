"""What a hook written in Python is given, and gives back. Importing it loads nothing else of size.

A module or an entry point names a factory: something that is called with the `options` of the configuration, a
dictionary of its own, and returns a `PreHook` or a `PostHook`. Options that it does not like it refuses by an
`OptionError`, or by any other ValueError.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, ParamSpec, TypeVar, final
from urllib.parse import SplitResult, parse_qsl

from udptracker.aside import aside
from udptracker.core.swarm import AnnounceOperation
from udptracker.core.text import printable
from udptracker.core.tracker import Question
from udptracker.core.wire import Event, transferred

MOST_REASON_BYTES: Final = 100
"""Of a refusal, in UTF-8; what is longer is cut."""

MOST_THREADS: Final = 16
"""Of a hook, that have not ended."""

P = ParamSpec("P")
R = TypeVar("R")

MOST_INTERVAL_SECONDS: Final = 8760 * 3600


def client_of(peer_id: bytes) -> bytes:
    """The six bytes of a peer id that tell the client, by chihaya's rule: the first, without a dash before them."""
    return peer_id[1:7] if peer_id[:1] == b"-" else peer_id[:6]


def parameters(query: str) -> dict[str, str]:
    """The parameters of a query by their names in lower case, of several with a name the last, as in chihaya."""
    pairs = parse_qsl(query.replace(";", "&"), keep_blank_values=True)
    return {name.lower(): value for name, value in pairs}


@final
class Announce:
    """An announce, as a hook sees it. What it says is read when it is asked for.

    A pre-hook may `refuse` it or set its `interval`, until it returns; later, or in a post-hook, that does nothing.

    Args:
        question: what was asked.
        operation: the announce in it.
        at: when it came, Unix seconds.
    """

    def __init__(self, question: Question, operation: AnnounceOperation, at: float) -> None:
        self._question = question
        self._operation = operation
        self.at: Final = at
        """When it came, in Unix seconds."""
        self._refusal = ""
        self._interval = 0

    def refuse(self, reason: str) -> None:
        """Have the client told this reason, on one line of printable text, and not be let into the swarm."""
        text = printable(reason.strip()) or "refused"
        self._refusal = text.encode(errors="replace")[:MOST_REASON_BYTES].decode(errors="ignore")

    @property
    def refusal(self) -> str:
        """The reason it was refused for; empty unless it was."""
        return self._refusal

    @property
    def interval(self) -> int:
        """Seconds after which the client is told to come back; 0 for what the configuration says.

        Raises:
            ValueError: it is set to less than a second or more than a year.
        """
        return self._interval

    @interval.setter
    def interval(self, seconds: int) -> None:
        if not 1 <= seconds <= MOST_INTERVAL_SECONDS:
            raise ValueError(f"an interval of 1 to {MOST_INTERVAL_SECONDS} seconds, not {seconds}")
        self._interval = int(seconds)

    @property
    def info_hash(self) -> bytes:
        """20 bytes."""
        return self._operation.info_hash

    @property
    def peer_id(self) -> bytes:
        """20 bytes, of the client's choice."""
        return self._operation.peer[:20]

    @property
    def client(self) -> bytes:
        """Six bytes of the peer id that tell the client and its version, `UT2210`, if it is an honest one."""
        return client_of(self._operation.peer)

    @property
    def source(self) -> IPv4Address | IPv6Address:
        """Where the announce came from; proven by its connection id."""
        return ip_address(self._question.source)

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """Where other peers find this one: `source`, unless the tracker believes another (`udp.allow_ip_spoofing`)."""
        return ip_address(self._operation.peer[22:])

    @property
    def port(self) -> int:
        """The port at `address`."""
        return int.from_bytes(self._operation.peer[20:22], "big")

    @property
    def event(self) -> Event:
        """What has happened: `Event.STARTED`, `COMPLETED`, `STOPPED`, or `NONE` for a regular announce."""
        return self._operation.event

    @property
    def downloaded(self) -> int:
        """Bytes since the client started this torrent, as it says."""
        return transferred(self._question.data)[0]

    @property
    def left(self) -> int:
        """Bytes that it lacks, as it says; 0 for a seeder."""
        return transferred(self._question.data)[1]

    @property
    def uploaded(self) -> int:
        """Bytes since the client started this torrent, as it says."""
        return transferred(self._question.data)[2]

    @property
    def path(self) -> str:
        """Of the URL that was announced to (BEP 41), `/announce`; empty if the client does not say it."""
        return self._url.path

    @property
    def query(self) -> str:
        """Of that URL, as it came, without the question mark."""
        return self._url.query

    @cached_property
    def parameters(self) -> dict[str, str]:
        """What is in the query, by name in lower case; of several with a name the last."""
        return parameters(self._url.query)

    @property
    def user(self) -> str:
        """Whose passkey it has, if a list of passkeys says so (`access.passkeys`); empty otherwise."""
        return self._question.user

    @cached_property
    def _url(self) -> SplitResult:
        return self._question.url()


class _Hook:
    """What both kinds have."""

    _threads: set[object] | None = None

    async def open(self) -> None:
        """Get ready, before the first announce; whatever it raises refuses the start, or the reload."""

    async def close(self) -> None:
        """Let go of everything, after the last announce; it has 0.4 seconds."""

    async def in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What a function returns, or raises, that waits for something, called in a thread of its own.

        Unlike one of `asyncio.to_thread`, a thread that never ends holds up neither others nor the end of the tracker.

        Raises:
            RuntimeError: `MOST_THREADS` of this hook have not ended yet.
        """
        threads = self._threads
        if threads is None:
            threads = self._threads = set()
        if len(threads) >= MOST_THREADS:
            raise RuntimeError(f"{MOST_THREADS} threads of this hook do not end")
        call = object()
        threads.add(call)

        def run() -> R:
            try:
                return function(*args, **kwargs)
            finally:
                threads.discard(call)

        return await aside(run)


class PreHook(_Hook, ABC):
    """Decides about announces before they are answered."""

    @abstractmethod
    def judge(self, announces: Sequence[Announce]) -> Awaitable[None] | None:
        """Refuse some, set the interval of some, let the others be.

        As `async def` it may ask elsewhere, once for all: up to four calls are on their way at a time, and what comes
        meanwhile goes together with the next. As a plain `def` it decides at once, on the event loop of the tracker,
        which waits for it: it must not take longer than some microseconds an announce.
        """

    def recall(self, announces: Sequence[Announce]) -> Sequence[Announce]:
        """Decide at once what it remembers, and return those that an asynchronous `judge` is to be asked about.

        What is decided here stands, whatever becomes of the others. By default nothing is remembered.
        """
        return announces


class PostHook(_Hook, ABC):
    """Is shown announces that were let through, off the way of their answers."""

    @abstractmethod
    def see(self, announces: Sequence[Announce]) -> Awaitable[None] | None:
        """Do with them what is to be done; the next come when it has returned.

        Raises:
            TryAgain: it is to be given the same once more, in a while.
        """


class TryAgain(Exception):
    """From `PostHook.see`: not now. What comes meanwhile waits, and beyond `max_pending` it is dropped and counted."""


class HookFailure(Exception):
    """A failure that is to be expected, such as a service that is away. The text is for an operator, without secrets:
    it is told in one line, where whatever else a hook raises is told with where it came from."""


class OptionError(ValueError):
    """An option that is not as it should be.

    Args:
        option: its name, with dots for what is within it.
        expected: what it should be.
    """

    def __init__(self, option: str, expected: str) -> None:
        super().__init__(f"{option}: expected {expected}")
        self.option = option
        self.expected = expected


PreHookFactory = Callable[[dict[str, Any]], PreHook]
PostHookFactory = Callable[[dict[str, Any]], PostHook]
