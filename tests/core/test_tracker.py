"""The core driven without an event loop, over a real memory store."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import ip_address
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udptracker.core import reasons, wire
from udptracker.core.connection_id import ConnectionIds
from udptracker.core.counters import Counters
from udptracker.core.policy import Policy
from udptracker.core.swarm import (
    AnnounceOperation,
    AnnounceResult,
    Result,
    Role,
    ScrapeOperation,
    StoreError,
    StoreUnavailable,
)
from udptracker.core.tracker import Question, Tracker, Turn
from udptracker.core.wire import Action, AnnounceRequest, AnnounceResponse, Event, ScrapeResponse, SwarmStats
from udptracker.storage.memory import MemoryStore

NOW = 1_700_000_000.25
V4, V6, MAPPED = "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"
INFO_HASH, PEER_ID = bytes(range(20)), b"-UT0001-000000006881"
PORT = 6881
TRANSACTION = 0xFEEDBEEF
ARRIVED = 7
BAD_ID = reasons.BAD_CONNECTION_ID
DROPS = dict.fromkeys(reasons.DROPS, 0)
REFUSALS = dict.fromkeys(reasons.REFUSALS, 0)

sources = pytest.mark.parametrize("host", [V4, V6], ids=["ipv4", "ipv6"])


def packed(host: str) -> bytes:
    """As peers of this host are kept: an IPv4-mapped address is an IPv4 one."""
    address = ip_address(host)
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).packed


def request(**fields: Any) -> AnnounceRequest:
    """A leecher's first announce, but for the given fields."""
    start = AnnounceRequest(INFO_HASH, PEER_ID, 0, 1, 0, Event.STARTED, bytes(4), 0, -1, PORT)
    return start._replace(**fields)


class Core:
    """A tracker over a memory store, and a client that has a connection id at every address."""

    def __init__(self, policy: Policy | None = None, draw: float = 0.0) -> None:
        self.ids = ConnectionIds([b"secret"])
        self.counters = Counters()
        self.store = MemoryStore(random.Random(1).random)
        self.tracker = Tracker(self.ids, policy or Policy(), lambda: draw, self.counters)

    def id_for(self, host: str) -> bytes:
        return self.ids.issue(packed(host), NOW)

    def receive(self, data: bytes, host: str = V4, now: float = NOW) -> bytes | Question | None:
        """What a turn of one datagram comes to: a reply, a question, or silence."""
        turn = self.tracker.receive([(data, packed(host.partition("%")[0]), host)], now, ARRIVED)
        assert (turn.arrived, turn.faults) == (ARRIVED, [])
        if turn.questions:
            (question,) = turn.questions
            assert (question.data, question.handle, turn.replies) == (data, host, [])
            return question
        if turn.replies:
            ((reply, handle),) = turn.replies
            assert (handle, sum(turn.answered)) == (host, 1)
            return reply
        return None

    def respond(self, question: Question, result: Result | StoreError) -> bytes:
        """The reply to a question that the store has answered."""
        turn = Turn(ARRIVED)
        self.tracker.respond(question, result, turn)
        ((reply, handle),) = turn.replies
        assert handle == question.handle
        return reply

    def proven(self, action: int, body: bytes, host: str = V4) -> bytes | Question | None:
        """The outcome of a request with a good connection id."""
        return self.receive(self.id_for(host) + pack(">II", action, TRANSACTION) + body, host)

    def asked(self, host: str = V4, **fields: Any) -> AnnounceOperation:
        """What the store is asked for an announce."""
        data = wire.encode_announce_request(self.id_for(host), TRANSACTION, request(**fields))
        outcome = self.receive(data, host)
        assert isinstance(outcome, Question)
        assert isinstance(outcome.operation, AnnounceOperation)
        return outcome.operation

    def answer(self, data: bytes, host: str = V4) -> bytes:
        """The reply to a request that may need the store."""
        outcome = self.receive(data, host)
        if isinstance(outcome, Question):
            outcome = self.respond(outcome, self.store.apply(outcome.operation))
        assert outcome is not None
        return outcome

    def announce(self, host: str = V4, **fields: Any) -> AnnounceResponse:
        data = wire.encode_announce_request(self.id_for(host), TRANSACTION, request(**fields))
        response = wire.decode_response(self.answer(data, host))
        assert isinstance(response, AnnounceResponse)
        assert response.transaction_id == TRANSACTION
        return response

    def scrape(self, info_hashes: Iterable[bytes], host: str = V4) -> tuple[SwarmStats, ...]:
        data = wire.encode_scrape_request(self.id_for(host), TRANSACTION, list(info_hashes))
        response = wire.decode_response(self.answer(data, host))
        assert isinstance(response, ScrapeResponse)
        assert response.transaction_id == TRANSACTION
        return response.swarms

    def fill(self, count: int, host: str = V4) -> None:
        """Announce this many leechers on ports from 10000 on."""
        for port in range(10_000, 10_000 + count):
            self.announce(host, port=port)


@pytest.fixture
def core() -> Core:
    return Core()


def refusal(reason: str) -> bytes:
    """An error response with these words, byte by byte."""
    return pack(">II", 3, TRANSACTION) + reason.encode() + b"\0"


ANNOUNCE_BODY = wire.encode_announce_request(bytes(8), 0, request())[16:]


class TestConnect:
    @pytest.mark.parametrize("host", [V4, V6, MAPPED])
    def test_issues_an_id_for_the_source(self, core: Core, host: str) -> None:
        reply = core.receive(wire.encode_connect_request(TRANSACTION), host)
        assert reply == pack(">II", 0, TRANSACTION) + core.id_for(host)
        assert core.counters.requests == [int(host != V6), int(host == V6), 0, 0, 0, 0]

    def test_what_follows_the_16_bytes_changes_nothing(self, core: Core) -> None:
        plain = wire.encode_connect_request(TRANSACTION)
        assert core.receive(plain + bytes(200)) == core.receive(plain)

    @pytest.mark.parametrize("magic", [bytes(8), b"\xff" * 8, (0x41727101980 + 1).to_bytes(8, "big")])
    def test_without_the_magic_there_is_silence(self, core: Core, magic: bytes) -> None:
        assert core.receive(magic + pack(">II", 0, TRANSACTION)) is None
        assert core.counters.dropped == DROPS | {"connect without magic": 1}

    def test_a_connection_id_is_no_magic(self, core: Core) -> None:
        assert core.proven(Action.CONNECT, b"") is None

    @pytest.mark.parametrize("size", range(16))
    def test_short_packets_are_met_with_silence(self, core: Core, size: int) -> None:
        assert core.receive(wire.encode_connect_request(TRANSACTION)[:size]) is None
        assert core.counters.dropped == DROPS | {"short packet": 1}


class TestUnproven:
    """A sender without a good connection id is answered with nothing longer than what it sent."""

    @sources
    @pytest.mark.parametrize("action", [1, 2, 3, 4, 5, 0xFFFFFFFF])
    def test_a_long_packet_is_refused(self, core: Core, host: str, action: int) -> None:
        reply = core.receive(bytes(8) + pack(">II", action, TRANSACTION) + bytes(98), host)
        assert reply == refusal("bad connection ID")
        assert core.counters.refused == REFUSALS | {"bad connection ID": 1}

    @pytest.mark.parametrize(("size", "answered"), [(16, False), (25, False), (26, True), (27, True)])
    def test_a_refusal_is_never_longer_than_its_cause(self, core: Core, size: int, answered: bool) -> None:
        reply = core.receive((bytes(8) + pack(">II", 2, TRANSACTION)).ljust(size, b"\0"))
        assert reply == (refusal("bad connection ID") if answered else None)
        assert core.counters.refused["bad connection ID"] == int(answered)
        assert core.counters.dropped["bad connection ID"] == int(not answered)

    @pytest.mark.parametrize(("issued_to", "used_by"), [(V4, "192.0.2.2"), (V4, V6), (V6, V4), (V6, "2001:db8::2")])
    def test_the_id_of_another_address_proves_nothing(self, core: Core, issued_to: str, used_by: str) -> None:
        data = wire.encode_announce_request(core.id_for(issued_to), TRANSACTION, request())
        assert core.receive(data, used_by) == refusal("bad connection ID")

    def test_an_id_expires(self, core: Core) -> None:
        data = wire.encode_announce_request(core.id_for(V4), TRANSACTION, request())
        assert isinstance(core.receive(data, V4, NOW + 119), Question)
        assert core.receive(data, V4, NOW + 121) == refusal("bad connection ID")

    @given(st.binary(max_size=200), st.sampled_from([V4, V6, MAPPED, "fe80::1%lo"]))
    def test_any_bytes_amplify_nothing(self, data: bytes, host: str) -> None:
        reply = Core().receive(data, host)
        assert reply is None or (isinstance(reply, bytes) and len(reply) <= len(data))

    @given(st.integers(0, 2**32 - 1), st.binary(max_size=200))
    def test_any_request_amplifies_nothing(self, action: int, body: bytes) -> None:
        data = wire.PROTOCOL_ID + pack(">II", action, TRANSACTION) + body
        reply = Core().receive(data)
        assert reply is None or (isinstance(reply, bytes) and len(reply) <= len(data))


class TestProven:
    @sources
    @pytest.mark.parametrize("action", [3, 5, 256, 0x01000000, 0xFFFFFFFF])
    def test_unknown_actions(self, core: Core, host: str, action: int) -> None:
        assert core.proven(action, b"", host) == refusal("unknown action ID")
        assert core.counters.refused == REFUSALS | {"unknown action ID": 1}

    @sources
    @pytest.mark.parametrize("size", [0, 1, 81])
    def test_a_short_announce(self, core: Core, host: str, size: int) -> None:
        assert core.proven(Action.ANNOUNCE, ANNOUNCE_BODY[:size], host) == refusal("malformed packet")

    def test_an_old_ipv6_announce_must_be_longer(self, core: Core) -> None:
        body = wire.encode_announce_request(bytes(8), 0, request(ip=bytes(16)))[16:]
        assert core.proven(Action.ANNOUNCE_V6, body[:-1], V6) == refusal("malformed packet")
        assert isinstance(core.proven(Action.ANNOUNCE_V6, body, V6), Question)

    @pytest.mark.parametrize("event", [4, 0x100, 0x10000, 0x01000002, 0xFFFFFFFF])
    def test_an_event_is_the_whole_field(self, core: Core, event: int) -> None:
        data = wire.encode_announce_request(core.id_for(V4), TRANSACTION, request(event=event))
        assert core.receive(data) == refusal("malformed event ID")

    def test_port_zero(self, core: Core) -> None:
        data = wire.encode_announce_request(core.id_for(V4), TRANSACTION, request(port=0))
        assert core.receive(data) == refusal("invalid port")

    @pytest.mark.parametrize("body", [b"", bytes(1), bytes(19), bytes(21), bytes(39)])
    def test_a_scrape_of_no_whole_hashes(self, core: Core, body: bytes) -> None:
        assert core.proven(Action.SCRAPE, body) == refusal("malformed packet")

    def test_refused_requests_are_not_counted_as_requests(self, core: Core) -> None:
        core.proven(Action.ANNOUNCE, b"")
        core.proven(Action.SCRAPE, b"")
        core.proven(9, b"")
        assert core.counters.requests == [0] * 6
        assert core.counters.refused == REFUSALS | {"malformed packet": 2, "unknown action ID": 1}

    @pytest.mark.parametrize("error", [StoreError("secret detail"), StoreUnavailable("redis://:secret@host")])
    def test_an_internal_failure_keeps_its_text(self, core: Core, error: StoreError) -> None:
        pending = core.proven(Action.ANNOUNCE, ANNOUNCE_BODY)
        assert isinstance(pending, Question)
        assert core.respond(pending, error) == refusal("internal error")
        assert core.counters.refused == REFUSALS | {"internal error": 1}

    @given(st.integers(0, 2**32 - 1) | st.sampled_from(Action), st.binary(max_size=300), st.sampled_from([V4, V6]))
    def test_any_bytes_are_answered_or_asked_about(self, action: int, body: bytes, host: str) -> None:
        core = Core()
        outcome = core.proven(action, body, host)
        if isinstance(outcome, Question):
            outcome = core.respond(outcome, core.store.apply(outcome.operation))
        if action == Action.CONNECT:
            assert outcome is None
        else:
            assert outcome is not None
            assert wire.decode_response(outcome).transaction_id == TRANSACTION


class TestWhatTheStoreIsAsked:
    @pytest.mark.parametrize(("host", "family"), [(V4, 4), (V6, 6), (MAPPED, 4), ("fe80::1%lo", 6)])
    def test_the_family_and_the_peer_follow_from_the_source(self, core: Core, host: str, family: int) -> None:
        operation = core.asked(host)
        address = packed(host.partition("%")[0])
        assert operation == AnnounceOperation(
            family, INFO_HASH, PEER_ID + pack(">H", PORT) + address, Role.LEECHER, Event.STARTED, 50
        )
        assert core.counters.requests[2 + (family == 6)] == 1

    @pytest.mark.parametrize("event", Event)
    @pytest.mark.parametrize(
        ("left", "role"), [(0, Role.SEEDER), (1, Role.LEECHER), (2**63, Role.LEECHER), (2**64 - 1, Role.LEECHER)]
    )
    def test_event_and_role(self, core: Core, event: Event, left: int, role: Role) -> None:
        operation = core.asked(event=event, left=left)
        assert (operation.event, operation.role) == (event, role)

    @sources
    @pytest.mark.parametrize(
        ("num_want", "v4", "v6"), [(-1, 50, 50), (-(2**31), 50, 50), (0, 0, 0), (1, 1, 1), (2**31 - 1, 242, 79)]
    )
    def test_num_want(self, host: str, num_want: int, v4: int, v6: int) -> None:
        core = Core(Policy(max_numwant=1000))
        assert core.asked(host, num_want=num_want).num_want == (v6 if host == V6 else v4)

    def test_num_want_above_the_operators_maximum(self, core: Core) -> None:
        assert core.asked(num_want=101).num_want == 100

    def test_who_stops_wants_nobody(self, core: Core) -> None:
        assert core.asked(event=Event.STOPPED, num_want=50).num_want == 0

    @pytest.mark.parametrize("options", [b"\x02\xff", b"\x09\x03abc", b"\x01" * 50, bytes(1000)])
    def test_options_refuse_nothing(self, core: Core, options: bytes) -> None:
        assert core.asked(options=options) == core.asked()

    @pytest.mark.parametrize(("host", "field"), [(V4, packed("198.51.100.7")), (V6, packed("2001:db8::7"))])
    def test_the_address_field_counts_only_where_it_is_allowed(self, host: str, field: bytes) -> None:
        assert Core().asked(host, ip=field).peer[22:] == packed(host)
        assert Core(Policy(allow_ip_spoofing=True)).asked(host, ip=field).peer[22:] == field

    @pytest.mark.parametrize(
        ("host", "field"),
        [(V4, bytes(4)), (V6, bytes(16)), (V4, packed(V6)), (V6, packed("198.51.100.7"))],
        ids=["zero", "zero-v6", "v6-field", "v4-field"],
    )
    def test_even_then_not_zeros_or_the_other_family(self, host: str, field: bytes) -> None:
        assert Core(Policy(allow_ip_spoofing=True)).asked(host, ip=field).peer[22:] == packed(host)

    def test_nor_of_a_sender_that_may_not(self) -> None:
        policy = Policy(allow_ip_spoofing=True, ip_spoofing_networks=("192.0.2.0/24",))
        field = packed("198.51.100.7")
        assert Core(policy).asked("192.0.2.200", ip=field).peer[22:] == field
        assert Core(policy).asked("192.0.3.1", ip=field).peer[22:] == packed("192.0.3.1")
        assert Core(policy).asked(V6, ip=packed("2001:db8::7")).peer[22:] == packed(V6)

    def test_a_mapped_source_may_name_an_ipv4_address(self) -> None:
        operation = Core(Policy(allow_ip_spoofing=True)).asked(MAPPED, ip=packed("198.51.100.7"))
        assert (operation.family, operation.peer[22:]) == (4, packed("198.51.100.7"))

    @pytest.mark.parametrize("limit", [1, 74, 120])
    def test_a_scrape_is_cut_to_its_limit(self, limit: int) -> None:
        hashes = [bytes((number,)) * 20 for number in range(limit + 1)]
        for given_hashes in (hashes, hashes[:limit]):
            pending = Core(Policy(max_scrape_infohashes=limit)).proven(Action.SCRAPE, b"".join(given_hashes))
            assert isinstance(pending, Question)
            assert pending.operation == ScrapeOperation(4, hashes[:limit])


class TestAnswers:
    @sources
    def test_bytes_of_an_announce_response(self, core: Core, host: str) -> None:
        peers = b"".join(packed(host) + pack(">H", port) for port in (2, 3))
        pending = core.proven(Action.ANNOUNCE, ANNOUNCE_BODY, host)
        assert isinstance(pending, Question)
        reply = core.respond(pending, AnnounceResult(3, 5, peers))
        assert reply == pack(">IIIII", 1, TRANSACTION, 1800, 5, 3) + peers

    @sources
    def test_the_old_ipv6_announce_is_answered_in_kind(self, core: Core, host: str) -> None:
        """The address field is its whole difference: who sends it over IPv4 is an IPv4 peer."""
        data = wire.encode_announce_request(core.id_for(host), TRANSACTION, request(ip=bytes(16)))
        assert core.answer(data, host) == pack(">IIIII", 4, TRANSACTION, 1800, 1, 0) + packed(host) + pack(">H", PORT)

    @sources
    def test_a_lone_announcer_gets_itself(self, core: Core, host: str) -> None:
        for left in (0, 1):
            assert core.announce(host, left=left).peers == packed(host) + pack(">H", PORT)

    @pytest.mark.parametrize("fields", [{"num_want": 0}, {"event": Event.STOPPED}])
    def test_unless_it_wants_nobody_or_leaves(self, core: Core, fields: dict[str, Any]) -> None:
        assert core.announce(**fields).peers == b""

    def test_or_the_option_is_off(self) -> None:
        answer = Core(Policy(return_own_peer_when_alone=False)).announce()
        assert (answer.leechers, answer.peers) == (1, b"")

    def test_a_seeder_among_seeders_gets_nobody(self, core: Core) -> None:
        core.announce(left=0, port=2)
        assert core.announce(left=0, port=3).peers == b""

    @sources
    def test_who_says_port_1_counts_and_is_given_to_nobody(self, core: Core, host: str) -> None:
        first = core.announce(host, port=1, left=0)
        assert (first.seeders, first.leechers, first.peers) == (1, 0, b""), "not even to itself"
        second = core.announce(host, port=257)
        assert (second.seeders, second.leechers, second.peers) == (1, 1, b"")
        third = core.announce(host, port=256)
        assert (third.seeders, third.leechers, third.peers) == (1, 2, packed(host) + pack(">H", 257))

    @sources
    def test_nor_are_those_that_others_have_put_into_the_store(self, core: Core, host: str) -> None:
        pending = core.proven(Action.ANNOUNCE, ANNOUNCE_BODY, host)
        assert isinstance(pending, Question)
        ports = (1, 2, 1, 256, 1, 257, 1)
        peers = [packed(host) + pack(">H", port) for port in ports]
        reply = core.respond(pending, AnnounceResult(7, 1, b"".join(peers)))
        assert reply is not None
        assert reply[20:] == b"".join(peers[1::2])

    @pytest.mark.parametrize(("host", "most"), [(V4, 242), (V6, 79)])
    def test_the_fullest_answer_fits_a_datagram(self, host: str, most: int) -> None:
        core = Core(Policy(max_numwant=1000))
        core.fill(300, host)
        data = wire.encode_announce_request(core.id_for(host), TRANSACTION, request(num_want=1000))
        reply = core.answer(data, host)
        family = 6 if host == V6 else 4
        assert len(wire.split_peers(reply[20:], family)) == most
        assert len(reply) <= (wire.MAX_PAYLOAD_IPV6 if host == V6 else wire.MAX_PAYLOAD_IPV4)

    def test_families_never_mix(self, core: Core) -> None:
        core.fill(3, V4)
        assert core.announce(V6).leechers == 1
        assert core.scrape([INFO_HASH], V4) == (SwarmStats(0, 0, 3),)
        assert core.announce(MAPPED, port=1).leechers == 4

    def test_jitter_is_drawn_for_each_answer(self) -> None:
        policy = Policy(announce_interval=900, interval_jitter=60)
        assert [Core(policy, draw).announce().interval for draw in (0.0, 0.5, 0.999)] == [900, 930, 960]

    def test_a_life(self, core: Core) -> None:
        started = core.announce()
        assert (started.seeders, started.leechers) == (0, 1)
        done = core.announce(event=Event.COMPLETED, left=0)
        assert (done.seeders, done.leechers) == (1, 0)
        assert core.scrape([INFO_HASH]) == (SwarmStats(1, 1, 0),)
        again = core.announce(event=Event.NONE, left=5)
        assert (again.seeders, again.leechers) == (0, 1)
        gone = core.announce(event=Event.STOPPED, left=5)
        assert (gone.seeders, gone.leechers, gone.peers) == (0, 0, b"")

    @sources
    def test_a_scrape_keeps_the_order_and_the_repeats(self, core: Core, host: str) -> None:
        unknown = b"\xee" * 20
        core.announce(host)
        row, zeros = SwarmStats(0, 0, 1), SwarmStats(0, 0, 0)
        assert core.scrape([INFO_HASH, unknown, INFO_HASH], host) == (row, zeros, row)
        assert core.counters.requests[4 + (host == V6)] == 1


UNPROVEN = wire.encode_announce_request(bytes(8), TRANSACTION, request())


def test_refusals_are_told_to_whoever_wants_to_know() -> None:
    told: list[tuple[str, bytes]] = []
    counters = Counters()
    tracker = Tracker(
        ConnectionIds([b"secret"]), Policy(), lambda: 0.0, counters, lambda *refusal: told.append(refusal)
    )
    source = packed(V4)
    for _ in range(2):
        tracker.receive([(UNPROVEN, source, None)], NOW, ARRIVED)
    assert told == [(BAD_ID, source)]


class TestRepeatedRefusals:
    """A client that repeats a refused announce at once, for ever, is met with silence, in which it connects anew."""

    def test_one_a_minute_for_each_address(self, core: Core) -> None:
        refused = [core.receive(UNPROVEN, V4, NOW + at) is not None for at in (0, 0.001, 30, 59, 130, 131)]
        assert refused == [True, False, False, False, True, False]
        assert core.receive(UNPROVEN, V6, NOW + 59) == refusal(BAD_ID)
        assert core.counters.dropped[BAD_ID] == 4

    def test_even_one_that_never_stops_is_told_now_and_then(self, core: Core) -> None:
        told = sum(core.receive(UNPROVEN, V4, NOW + at) is not None for at in range(3600))
        assert 20 <= told <= 60

    def test_what_is_remembered_is_bounded(self, core: Core) -> None:
        for number in range(200_000):
            core.tracker.receive([(UNPROVEN, number.to_bytes(4, "big"), None)], NOW, ARRIVED)
        assert core.counters.refused[BAD_ID] == 200_000


@pytest.mark.parametrize(("host", "ip"), [(V4, bytes(4)), (V6, bytes(16))])
def test_the_announced_url_is_there_for_whoever_asks(core: Core, host: str, ip: bytes) -> None:
    options = wire.encode_url_data("udp://tracker.example:6969/announce?passkey=" + "x" * 300)
    data = wire.encode_announce_request(core.id_for(host), TRANSACTION, request(ip=ip, options=options))
    question = core.receive(data, host)
    assert isinstance(question, Question)
    assert (question.url().path, question.url().query) == ("/announce", "passkey=" + "x" * 300)
