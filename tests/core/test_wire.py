"""The codec: vectors laid out by hand from BEP 15, round trips of every message, and any bytes at any length."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udptracker.core import wire
from udptracker.core.wire import (
    Action,
    AnnounceRequest,
    AnnounceResponse,
    ConnectResponse,
    ErrorResponse,
    Event,
    Head,
    ScrapeResponse,
    SwarmStats,
    WireError,
)

CONNECTION_ID = bytes.fromhex("0102030405060708")
TRANSACTION_ID = 0xDEADBEEF
INFO_HASH = bytes(range(20))
PEER_ID = b"-UT0001-abcdefghijkl"


def head(action: int, transaction_id: int = TRANSACTION_ID) -> bytes:
    """What a response begins with."""
    return wire.response_head(action, transaction_id)


ANNOUNCE = AnnounceRequest(
    info_hash=INFO_HASH,
    peer_id=PEER_ID,
    downloaded=1,
    left=2**64 - 1,
    uploaded=2,
    event=Event.STARTED,
    ip=bytes(4),
    key=0xCAFEF00D,
    num_want=-1,
    port=6881,
)
ANNOUNCE_V6 = ANNOUNCE._replace(ip=bytes(15) + b"\x01")

# Field by field, offsets as in BEP 15.
CONNECT_REQUEST_BYTES = bytes.fromhex(
    "0000041727101980"  # 0 protocol id
    "00000000"  # 8 action: connect
    "deadbeef"  # 12 transaction id
)
CONNECT_RESPONSE_BYTES = bytes.fromhex(
    "00000000"  # 0 action: connect
    "deadbeef"  # 4 transaction id
    "0102030405060708"  # 8 connection id
)
ANNOUNCE_BEFORE_IP = bytes.fromhex(
    "000102030405060708090a0b0c0d0e0f10111213"  # 16 info hash
    "2d5554303030312d6162636465666768696a6b6c"  # 36 peer id
    "0000000000000001"  # 56 downloaded
    "ffffffffffffffff"  # 64 left
    "0000000000000002"  # 72 uploaded
    "00000002"  # 80 event: started
)
ANNOUNCE_AFTER_IP = bytes.fromhex(
    "cafef00d"  # 88 key
    "ffffffff"  # 92 num_want: -1
    "1ae1"  # 96 port
)
ANNOUNCE_REQUEST_BYTES = (
    bytes.fromhex("010203040506070800000001deadbeef") + ANNOUNCE_BEFORE_IP + bytes(4) + ANNOUNCE_AFTER_IP
)
ANNOUNCE_V6_REQUEST_BYTES = (
    bytes.fromhex("010203040506070800000004deadbeef") + ANNOUNCE_BEFORE_IP + (bytes(15) + b"\x01") + ANNOUNCE_AFTER_IP
)
ANNOUNCE_RESPONSE_BYTES = bytes.fromhex(
    "00000001"  # 0 action: announce
    "deadbeef"  # 4 transaction id
    "00000708"  # 8 interval: 1800
    "00000003"  # 12 leechers
    "00000002"  # 16 seeders
    "c0000201"
    "1ae1"  # 20 address and port
    "c0000202"
    "1ae2"  # 26
)
SCRAPE_REQUEST_BYTES = bytes.fromhex(
    "0102030405060708"
    "00000002"
    "deadbeef"
    "000102030405060708090a0b0c0d0e0f10111213"  # 16 info hash
    "ffffffffffffffffffffffffffffffffffffffff"  # 36
)
SCRAPE_RESPONSE_BYTES = bytes.fromhex(
    "00000002"  # 0 action: scrape
    "deadbeef"  # 4 transaction id
    "00000005"
    "00000007"
    "00000006"  # 8 seeders, completed, leechers
    "00000000"
    "00000000"
    "00000000"  # 20
)
ERROR_RESPONSE_BYTES = bytes.fromhex("00000003deadbeef") + b"malformed packet\0"

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


connection_ids = exactly(8)
info_hashes = exactly(20)
announces = st.builds(
    AnnounceRequest,
    info_hash=info_hashes,
    peer_id=exactly(20),
    downloaded=u64,
    left=u64,
    uploaded=u64,
    event=u32,
    ip=exactly(4) | exactly(16),
    key=u32,
    num_want=i32,
    port=u16,
    options=st.binary(max_size=600),
)


class TestRequests:
    def test_connect_vector(self) -> None:
        assert wire.encode_connect_request(TRANSACTION_ID) == CONNECT_REQUEST_BYTES
        assert wire.decode_head(CONNECT_REQUEST_BYTES) == Head(wire.PROTOCOL_ID, Action.CONNECT, TRANSACTION_ID)

    @pytest.mark.parametrize(
        ("request_", "action", "data"),
        [
            (ANNOUNCE, Action.ANNOUNCE, ANNOUNCE_REQUEST_BYTES),
            (ANNOUNCE_V6, Action.ANNOUNCE_V6, ANNOUNCE_V6_REQUEST_BYTES),
        ],
    )
    def test_announce_vector(self, request_: AnnounceRequest, action: Action, data: bytes) -> None:
        assert len(data) == {Action.ANNOUNCE: 98, Action.ANNOUNCE_V6: 110}[action]
        assert wire.encode_announce_request(CONNECTION_ID, TRANSACTION_ID, request_) == data
        assert wire.decode_head(data) == Head(CONNECTION_ID, action, TRANSACTION_ID)
        assert wire.decode_announce(data, action) == request_

    def test_scrape_vector(self) -> None:
        hashes = [INFO_HASH, b"\xff" * 20]
        assert wire.encode_scrape_request(CONNECTION_ID, TRANSACTION_ID, hashes) == SCRAPE_REQUEST_BYTES
        assert wire.decode_head(SCRAPE_REQUEST_BYTES) == Head(CONNECTION_ID, Action.SCRAPE, TRANSACTION_ID)
        assert wire.decode_scrape(SCRAPE_REQUEST_BYTES) == hashes

    @given(u32)
    def test_connect_round_trip(self, transaction_id: int) -> None:
        data = wire.encode_connect_request(transaction_id)
        assert wire.decode_head(data) == (wire.PROTOCOL_ID, Action.CONNECT, transaction_id)

    @given(connection_ids, u32, announces)
    def test_announce_round_trip(self, connection_id: bytes, transaction_id: int, request: AnnounceRequest) -> None:
        data = wire.encode_announce_request(connection_id, transaction_id, request)
        action = Action.ANNOUNCE_V6 if len(request.ip) == 16 else Action.ANNOUNCE
        assert wire.decode_head(data) == Head(connection_id, action, transaction_id)
        assert wire.decode_announce(data, action) == request

    @given(connection_ids, u32, st.lists(info_hashes, min_size=1, max_size=80))
    def test_scrape_round_trip(self, connection_id: bytes, transaction_id: int, hashes: list[bytes]) -> None:
        data = wire.encode_scrape_request(connection_id, transaction_id, hashes)
        assert wire.decode_head(data) == (connection_id, Action.SCRAPE, transaction_id)
        assert wire.decode_scrape(data) == hashes

    def test_decoders_give_plain_immutable_tuples_of_their_type(self) -> None:
        """They are made without their constructor, which must not show."""
        head, announce = wire.decode_head(ANNOUNCE_REQUEST_BYTES), wire.decode_announce(ANNOUNCE_REQUEST_BYTES)
        assert (type(head), type(announce)) == (Head, AnnounceRequest)
        assert (len(head), len(announce)) == (len(Head._fields), len(AnnounceRequest._fields))

    def test_a_truncated_option_does_not_refuse_the_announce(self) -> None:
        decoded = wire.decode_announce(ANNOUNCE_REQUEST_BYTES + b"\x02\xff/")
        assert decoded == ANNOUNCE._replace(options=b"\x02\xff/")


class TestResponses:
    def test_connect_vector(self) -> None:
        assert wire.encode_connect_response(head(Action.CONNECT), CONNECTION_ID) == CONNECT_RESPONSE_BYTES
        assert len(CONNECT_RESPONSE_BYTES) == 16
        assert wire.decode_response(CONNECT_RESPONSE_BYTES) == ConnectResponse(TRANSACTION_ID, CONNECTION_ID)

    def test_announce_vector(self) -> None:
        first, second = bytes.fromhex("c00002011ae1"), bytes.fromhex("c00002021ae2")
        encoded = wire.encode_announce_response(head(Action.ANNOUNCE), 1800, 3, 2, first + second)
        assert encoded == ANNOUNCE_RESPONSE_BYTES
        decoded = wire.decode_response(encoded)
        assert decoded == AnnounceResponse(TRANSACTION_ID, 1800, 3, 2, first + second)
        assert isinstance(decoded, AnnounceResponse)
        assert wire.split_peers(decoded.peers, 4) == [first, second]

    def test_scrape_vector(self) -> None:
        rows = (SwarmStats(seeders=5, downloads=7, leechers=6), SwarmStats(0, 0, 0))
        assert wire.encode_scrape_response(head(Action.SCRAPE), [*chain.from_iterable(rows)]) == SCRAPE_RESPONSE_BYTES
        assert wire.decode_response(SCRAPE_RESPONSE_BYTES) == ScrapeResponse(TRANSACTION_ID, rows)

    def test_error_vector(self) -> None:
        assert wire.encode_error(TRANSACTION_ID.to_bytes(4, "big"), "malformed packet") == ERROR_RESPONSE_BYTES
        assert wire.decode_response(ERROR_RESPONSE_BYTES) == ErrorResponse(TRANSACTION_ID, "malformed packet")

    @given(u32, connection_ids)
    def test_connect_round_trip(self, transaction_id: int, connection_id: bytes) -> None:
        data = wire.encode_connect_response(head(Action.CONNECT, transaction_id), connection_id)
        assert len(data) == 16
        assert wire.decode_response(data) == ConnectResponse(transaction_id, connection_id)

    @given(u32, u32, u32, u32, st.binary(max_size=1452), st.sampled_from([Action.ANNOUNCE, Action.ANNOUNCE_V6]))
    def test_announce_round_trip(
        self, transaction_id: int, interval: int, leechers: int, seeders: int, peers: bytes, action: Action
    ) -> None:
        data = wire.encode_announce_response(head(action, transaction_id), interval, leechers, seeders, peers)
        assert int.from_bytes(data[:4], "big") == action
        assert wire.decode_response(data) == AnnounceResponse(transaction_id, interval, leechers, seeders, peers)

    @given(u32, st.lists(st.tuples(u32, u32, u32), max_size=80))
    def test_scrape_round_trip(self, transaction_id: int, rows: list[tuple[int, int, int]]) -> None:
        data = wire.encode_scrape_response(head(Action.SCRAPE, transaction_id), [*chain.from_iterable(rows)])
        assert wire.decode_response(data) == ScrapeResponse(transaction_id, tuple(SwarmStats(*row) for row in rows))

    @given(u32, st.text().filter(lambda text: not text.endswith("\0")))
    def test_error_round_trip(self, transaction_id: int, message: str) -> None:
        data = wire.encode_error(transaction_id.to_bytes(4, "big"), message)
        assert data.endswith(b"\0")
        assert wire.decode_response(data) == ErrorResponse(transaction_id, message)

    @pytest.mark.parametrize("message", [b"", b"no NUL", b"several\0\0\0"])
    def test_an_error_of_another_tracker_need_not_be_terminated(self, message: bytes) -> None:
        decoded = wire.decode_response(ERROR_RESPONSE_BYTES[:8] + message)
        assert decoded == ErrorResponse(TRANSACTION_ID, message.rstrip(b"\0").decode())

    @pytest.mark.parametrize(("family", "size"), [(4, 6), (6, 18)])
    @given(st.data())
    def test_peers_split_into_whole_endpoints_or_not_at_all(self, family: int, size: int, data: st.DataObject) -> None:
        peers = data.draw(st.binary(max_size=200))
        if len(peers) % size:
            with pytest.raises(WireError):
                wire.split_peers(peers, family)
        else:
            split = wire.split_peers(peers, family)
            assert b"".join(split) == peers
            assert all(len(peer) == size for peer in split)


class TestAnyBytes:
    """Either a message or `WireError`; any other exception is a bug."""

    @pytest.mark.parametrize(
        "decode",
        [
            wire.decode_head,
            wire.decode_announce,
            lambda data: wire.decode_announce(data, Action.ANNOUNCE_V6),
            wire.decode_scrape,
            wire.decode_response,
            lambda data: wire.split_peers(data, 4),
            lambda data: wire.split_peers(data, 6),
        ],
        ids=["head", "announce", "announce v6", "scrape", "response", "peers", "peers v6"],
    )
    @given(data=st.binary(max_size=300))
    def test_parse_or_raise(self, decode: Callable[[bytes], object], data: bytes) -> None:
        try:
            decode(data)
        except WireError as error:
            assert str(error) == "malformed packet"  # noqa: PT017  the property is "this error or none"

    @given(st.sampled_from(Action), st.binary(max_size=300))
    def test_any_body_of_a_known_response(self, action: Action, body: bytes) -> None:
        try:
            response = wire.decode_response(action.to_bytes(4, "big") + body)
        except WireError:
            return
        assert response.transaction_id == int.from_bytes(body[:4], "big")

    @given(st.binary(max_size=300))
    def test_options_never_raise(self, options: bytes) -> None:
        wire.url_data(options)

    @given(st.integers(min_value=5, max_value=2**32 - 1))
    def test_an_unknown_action_is_no_response(self, action: int) -> None:
        with pytest.raises(WireError):
            wire.decode_response(action.to_bytes(4, "big") + bytes(100))


class TestTruncated:
    """Every message has its twin that is cut off."""

    @pytest.mark.parametrize("size", range(16))
    def test_head(self, size: int) -> None:
        with pytest.raises(WireError, match="malformed packet"):
            wire.decode_head(CONNECT_REQUEST_BYTES[:size])

    @pytest.mark.parametrize("size", range(98))
    def test_announce(self, size: int) -> None:
        with pytest.raises(WireError, match="malformed packet"):
            wire.decode_announce(ANNOUNCE_REQUEST_BYTES[:size])

    @pytest.mark.parametrize("size", range(98, 110))
    def test_announce_v6_is_twelve_bytes_longer(self, size: int) -> None:
        with pytest.raises(WireError, match="malformed packet"):
            wire.decode_announce(ANNOUNCE_V6_REQUEST_BYTES[:size], Action.ANNOUNCE_V6)

    @pytest.mark.parametrize("size", [size for size in range(56) if size != 36])
    def test_scrape(self, size: int) -> None:
        with pytest.raises(WireError, match="malformed packet"):
            wire.decode_scrape(SCRAPE_REQUEST_BYTES[:size])

    @pytest.mark.parametrize(
        ("data", "whole"),
        [
            (CONNECT_RESPONSE_BYTES, {16}),
            (ANNOUNCE_RESPONSE_BYTES, set(range(20, 33))),
            (SCRAPE_RESPONSE_BYTES, {8, 20, 32}),
            (ERROR_RESPONSE_BYTES, set(range(8, 26))),
        ],
        ids=["connect", "announce", "scrape", "error"],
    )
    def test_responses(self, data: bytes, whole: set[int]) -> None:
        """`whole` are the lengths that are messages in themselves."""
        for size in range(len(data) + 1):
            if size in whole:
                assert wire.decode_response(data[:size]).transaction_id == TRANSACTION_ID
            else:
                with pytest.raises(WireError):
                    wire.decode_response(data[:size])
