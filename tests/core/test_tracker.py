"""What the core makes of the requests of those who are proven: questions for the store, and answers."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.driven import (
    ANNOUNCE_BODY,
    INFO_HASH,
    MAPPED,
    PEER_ID,
    PORT,
    REFUSALS,
    TRANSACTION,
    V4,
    V6,
    Core,
    packed,
    refusal,
    request,
    sources,
)
from udptracker.core import wire
from udptracker.core.policy import Policy
from udptracker.core.swarm import (
    AnnounceOperation,
    AnnounceResult,
    Role,
    ScrapeOperation,
    StoreError,
    StoreUnavailable,
)
from udptracker.core.tracker import Question
from udptracker.core.wire import Action, Event, SwarmStats


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


@pytest.mark.parametrize(("host", "ip"), [(V4, bytes(4)), (V6, bytes(16))])
def test_the_announced_url_is_there_for_whoever_asks(core: Core, host: str, ip: bytes) -> None:
    options = wire.encode_url_data("udp://tracker.example:6969/announce?passkey=" + "x" * 300)
    data = wire.encode_announce_request(core.id_for(host), TRANSACTION, request(ip=ip, options=options))
    question = core.receive(data, host)
    assert isinstance(question, Question)
    assert (question.url().path, question.url().query) == ("/announce", "passkey=" + "x" * 300)
