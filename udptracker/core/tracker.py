"""The tracker without I/O: a turn of datagrams in; replies, and questions for the store, out.

`receive` is called for every turn and `respond` for every answer of the store. Neither blocks, reads a clock or draws
from a random source of its own: `now` and `draw` are arguments, so a test, a fuzzer or another transport can drive
them without an event loop. Where a reply goes is a handle that only whoever brought the datagram understands.

A sender is proven once it brings a connection id that was issued to its address. Until then nothing is sent to it
that is longer than what it sent, since its address may be somebody else's; and a bad id is answered once a minute for
each address, since clients exist that repeat a refused announce at once, for ever, but connect anew in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final
from urllib.parse import SplitResult

from udptracker.core import policy as rules
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import ANNOUNCED, CONNECTED, REFUSED, SCRAPED, Counters
from udptracker.core.networks import NetworkSet
from udptracker.core.policy import Policy
from udptracker.core.reasons import (
    BAD_CONNECTION_ID,
    CONNECT_WITHOUT_MAGIC,
    INTERNAL_ERROR,
    INVALID_PORT,
    MALFORMED_EVENT,
    SHORT_PACKET,
    UNFORESEEN,
    UNKNOWN_ACTION,
)
from udptracker.core.recent import Recent
from udptracker.core.swarm import (
    IPV4,
    IPV6,
    LEECHER,
    SEEDER,
    AnnounceOperation,
    AnnounceResult,
    Operation,
    Result,
    ScrapeOperation,
    ScrapeResult,
    StoreError,
    compact_endpoint,
    without_unreachable,
)
from udptracker.core.wire import (
    ANNOUNCE_ACTION,
    ANNOUNCE_NEWS,
    ANNOUNCE_REQUEST_BYTES,
    ANNOUNCE_V6_ACTION,
    ANNOUNCE_V6_NEWS,
    ANNOUNCE_V6_REQUEST_BYTES,
    CONNECT_ACTION,
    EVENTS,
    MALFORMED,
    MIN_REQUEST_BYTES,
    PROTOCOL_ID,
    SCRAPE_ACTION,
    STOPPED,
    WireError,
    announced_ip,
    decode_scrape,
    encode_announce_response,
    encode_connect_response,
    encode_error,
    encode_scrape_response,
    url_data,
)

_REFUSED_SECONDS: Final = 60
_MOST_REFUSED: Final = 65_536
"""For how long, and for how many addresses at the most, a refused connection id is remembered."""

_BAD_ID_BYTES: Final = len(encode_error(bytes(4), BAD_CONNECTION_ID))

_NOTHING_LEFT: Final = bytes(8)
_NO_PORT: Final = bytes(2)

Datagram = tuple[bytes, bytes, object]
"""What was received, the packed address it came from (4 bytes, also of an IPv4-mapped one, or 16), and the handle to
answer it by."""

Reply = tuple[bytes, object]
"""What to send, and the handle of the datagram that it answers."""


Admit = Callable[[int, bytes, float], str | None]
"""Who may ask: from what is asked (`CONNECTED`, `ANNOUNCED`, `SCRAPED`; `REFUSED` with a bad connection id), the packed
address it comes from and Unix seconds to the reason, one of `reasons.DROPS`, for which it is left without an answer;
None to go on. The address of a connect, and of what has a bad id, is not proven."""


@final
class Question:
    """A request that the store must answer first: its bytes, where it came from, and what the store is asked.

    What rules have decided about it (see `access`): `refusal` is why it is refused, in words for its sender, empty
    unless it is, counted as `refused_as`; `interval` is what an announce is answered with, in seconds, 0 for what the
    policy says; `hidden` are the places of swarms in a scrape whose counts are answered as zeros; `user` is whose
    announce it is, by its passkey, empty if that is not known.
    """

    __slots__ = ("data", "handle", "hidden", "interval", "operation", "refusal", "refused_as", "source", "user")

    def __init__(self, operation: Operation, data: bytes, source: bytes, handle: object) -> None:
        self.operation: Operation = operation
        self.data = data
        self.source = source
        self.handle = handle
        self.refusal = ""
        self.refused_as = ""
        self.interval = 0
        self.hidden: list[int] | None = None
        self.user = ""

    def refuse(self, reason: str, counted_as: str = "") -> None:
        """Have it refused with these words, counted by them or by another name from `Counters.refused`."""
        self.refusal = reason
        self.refused_as = counted_as or reason

    def options(self) -> bytes:
        """What stands behind the fixed part of an announce, raw (BEP 41)."""
        fixed = ANNOUNCE_V6_REQUEST_BYTES if self.data[8:12] == ANNOUNCE_V6_ACTION else ANNOUNCE_REQUEST_BYTES
        return self.data[fixed:]

    def url(self) -> SplitResult:
        """Path and query of the URL that was announced to (BEP 41), read only when somebody asks for it."""
        return url_data(self.options())


@final
class Turn:
    """What came of the datagrams that one readiness of a socket brought.

    `replies` are to be sent; `questions` are left for the store, whose answers become replies. `answered` counts the
    replies by what they are (`counters.ANSWER_NAMES`). `arrived` is when the turn was read, monotonic
    nanoseconds. `faults` are errors that nobody foresaw, a datagram lost for each.
    """

    __slots__ = ("answered", "arrived", "faults", "questions", "replies")

    def __init__(self, arrived: int) -> None:
        self.arrived = arrived
        self.replies: list[Reply] = []
        self.questions: list[Question] = []
        self.answered: list[int] = [0, 0, 0, 0]
        self.faults: list[Exception] = []

    def take_questions(self, most: int) -> Turn:
        """A turn with the first `most` questions of this one, whose replies go out without them."""
        later = Turn(self.arrived)
        later.questions = self.questions if most >= len(self.questions) else self.questions[:most]
        self.questions = []
        return later


@final
class Tracker:
    """Decides what every datagram is answered with.

    Args:
        connection_ids: issues and checks connection ids; may be replaced between two turns.
        policy: the operator's choices; replaced by `use`.
        draw: a source of uniform numbers in [0, 1).
        counters: where requests, refusals and drops are counted.
        tell_refusal: is told the reason for each error response, and the packed address it goes to.

    Attributes:
        admit: asked before a request is looked at, if there is one; may be replaced between two turns.
    """

    def __init__(
        self,
        connection_ids: ConnectionIds,
        policy: Policy,
        draw: Callable[[], float],
        counters: Counters,
        tell_refusal: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.connection_ids = connection_ids
        self._draw = draw
        self._counters = counters
        self.tell_refusal = tell_refusal
        self.admit: Admit | None = None
        self._requests = counters.requests
        self._refused = Recent(_REFUSED_SECONDS, _MOST_REFUSED)
        self.use(policy)

    def use(self, policy: Policy) -> None:
        """Decide by this policy from now on."""
        self._policy = policy
        self._interval = policy.announce_interval
        self._jittered = policy.interval_jitter > 0
        self._allow_ip_spoofing = policy.allow_ip_spoofing
        self._believed = NetworkSet(policy.ip_spoofing_networks) if policy.ip_spoofing_networks else None
        self._own_peer_when_alone = policy.return_own_peer_when_alone
        self._max_scrape = policy.max_scrape_infohashes
        self._default_v4, self._most_v4 = rules.num_want_limit(policy, IPV4)
        self._default_v6, self._most_v6 = rules.num_want_limit(policy, IPV6)

    def receive(self, datagrams: Sequence[Datagram], now: float, arrived: int) -> Turn:
        """What a turn of datagrams is answered with at `now` (Unix seconds), and what the store is to be asked."""
        turn = Turn(arrived)
        for data, source, handle in datagrams:
            try:
                reply = self._receive(turn, data, source, handle, now)
            except WireError as refusal:
                reply = self.refuse(turn, data, source, str(refusal))
            except Exception as error:  # whatever it is, it costs one datagram, and never the socket
                self._counters.dropped[UNFORESEEN] += 1
                turn.faults.append(error)
                continue
            if reply is not None:
                turn.replies.append((reply, handle))
        return turn

    def respond(self, question: Question, result: Result | StoreError, turn: Turn) -> None:
        """Add the reply to a question that the store has answered."""
        try:
            if isinstance(result, AnnounceResult):
                reply = self._announce_response(question, result)
                turn.answered[ANNOUNCED] += 1
            elif isinstance(result, ScrapeResult):
                if question.hidden is not None:
                    for place in question.hidden:
                        result.counts[3 * place : 3 * place + 3] = (0, 0, 0)
                reply = encode_scrape_response(question.data[8:16], result.counts)
                turn.answered[SCRAPED] += 1
            else:
                reply = self.refuse(turn, question.data, question.source, INTERNAL_ERROR)
        except Exception as error:  # what cannot be encoded is refused by itself, its neighbours are answered
            turn.faults.append(error)
            reply = self.refuse(turn, question.data, question.source, INTERNAL_ERROR)
        turn.replies.append((reply, question.handle))

    def turn_away(self, turn: Turn) -> None:
        """Refuse what rules have refused; the other questions of the turn stay."""
        left = []
        for question in turn.questions:
            if question.refusal:
                reply = self.refuse(turn, question.data, question.source, question.refusal, question.refused_as)
                turn.replies.append((reply, question.handle))
            else:
                left.append(question)
        turn.questions = left

    def refuse(self, turn: Turn, data: bytes, source: bytes, reason: str, counted_as: str = "") -> bytes:
        """An error response to a request, counted by its reason or by another name."""
        self._counters.refused[counted_as or reason] += 1
        turn.answered[REFUSED] += 1
        if self.tell_refusal is not None:
            self.tell_refusal(reason, source)
        return encode_error(data[12:16], reason)

    def _receive(self, turn: Turn, data: bytes, source: bytes, handle: object, now: float) -> bytes | None:
        """The reply to one datagram; None for silence, or for a question that is added to the turn.

        Raises:
            WireError: a proven sender's request is refused with these words.
        """
        if len(data) < MIN_REQUEST_BYTES:
            self._counters.dropped[SHORT_PACKET] += 1
            return None
        connection_id = data[:8]
        action = data[8:12]
        is_v6 = len(source) == 16
        if action == CONNECT_ACTION:
            if connection_id != PROTOCOL_ID:
                self._counters.dropped[CONNECT_WITHOUT_MAGIC] += 1
                return None
            if self._is_kept_out(CONNECTED, source, now):
                return None
            self._requests[2 * CONNECTED + is_v6] += 1
            turn.answered[CONNECTED] += 1
            return encode_connect_response(data[8:16], self.connection_ids.issue(source, now))
        if not self.connection_ids.valid(connection_id, source, now):
            return self._refuse_unproven(turn, data, source, now)
        if action in (ANNOUNCE_ACTION, ANNOUNCE_V6_ACTION):
            if self._is_kept_out(ANNOUNCED, source, now):
                return None
            turn.questions.append(Question(self._announce(data, action, source, is_v6), data, source, handle))
        elif action == SCRAPE_ACTION:
            if self._is_kept_out(SCRAPED, source, now):
                return None
            info_hashes = decode_scrape(data)
            self._requests[2 * SCRAPED + is_v6] += 1
            if len(info_hashes) > self._max_scrape:
                del info_hashes[self._max_scrape :]
            operation = ScrapeOperation(IPV6 if is_v6 else IPV4, info_hashes)
            turn.questions.append(Question(operation, data, source, handle))
        else:
            raise WireError(UNKNOWN_ACTION)
        return None

    def _is_kept_out(self, kind: int, source: bytes, now: float) -> bool:
        """Whether a request is left without an answer for where it comes from; if so, it is counted."""
        if self.admit is None:
            return False
        reason = self.admit(kind, source, now)
        if reason is None:
            return False
        self._counters.dropped[reason] += 1
        return True

    def _announce(self, data: bytes, action: bytes, source: bytes, is_v6: bool) -> AnnounceOperation:
        if action == ANNOUNCE_ACTION:
            if len(data) < ANNOUNCE_REQUEST_BYTES:
                raise WireError(MALFORMED)
            info_hash, peer_id, left, number, wanted, port = ANNOUNCE_NEWS(data)
        else:
            if len(data) < ANNOUNCE_V6_REQUEST_BYTES:
                raise WireError(MALFORMED)
            info_hash, peer_id, left, number, wanted, port = ANNOUNCE_V6_NEWS(data)
        if number >= len(EVENTS):
            raise WireError(MALFORMED_EVENT)
        event = EVENTS[number]
        if port == _NO_PORT:
            raise WireError(INVALID_PORT)
        self._requests[2 * ANNOUNCED + is_v6] += 1
        if self._allow_ip_spoofing:
            source = rules.announced_address(source, announced_ip(data), self._believed)
        if event is STOPPED:
            wanted = 0
        elif is_v6:
            if wanted < 0:
                wanted = self._default_v6
            elif wanted > self._most_v6:
                wanted = self._most_v6
        elif wanted < 0:
            wanted = self._default_v4
        elif wanted > self._most_v4:
            wanted = self._most_v4
        # Whatever the event: a `completed` with bytes left is a leecher's.
        role = SEEDER if left == _NOTHING_LEFT else LEECHER
        return AnnounceOperation(IPV6 if is_v6 else IPV4, info_hash, peer_id + port + source, role, event, wanted)

    def _announce_response(self, question: Question, result: AnnounceResult) -> bytes:
        operation = question.operation
        assert isinstance(operation, AnnounceOperation)
        peers = result.peers
        if not peers and operation.num_want and result.seeders + result.leechers <= 1 and self._own_peer_when_alone:
            peers = compact_endpoint(operation.peer)
        peers = without_unreachable(peers, operation.family)
        interval: int = question.interval
        if not interval:
            interval = rules.interval(self._policy, self._draw()) if self._jittered else self._interval
        return encode_announce_response(question.data[8:16], interval, result.leechers, result.seeders, peers)

    def _refuse_unproven(self, turn: Turn, data: bytes, source: bytes, now: float) -> bytes | None:
        if self._is_kept_out(REFUSED, source, now):
            return None
        if len(data) < _BAD_ID_BYTES or not self._refused.is_news(source, now):
            self._counters.dropped[BAD_CONNECTION_ID] += 1
            return None
        return self.refuse(turn, data, source, BAD_CONNECTION_ID)
