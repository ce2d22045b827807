"""`udptracker announce` and `udptracker scrape` as an operator runs them, on real trackers and on bad ones."""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.conftest import Daemons
from tests.support.daemon import Daemon
from udptracker.client import cli as client
from udptracker.client import output
from udptracker.client.conversation import NoAnswer, TrackerClient
from udptracker.client.targets import BadTarget, format_endpoint, parse_info_hash, parse_url, resolve
from udptracker.core import wire
from udptracker.core.text import printable

HASH = "0123456789abcdef0123456789ABCDEF01234567"


def command(*arguments: str) -> int:
    """What `udptracker` followed by these arguments exits with."""
    parser = argparse.ArgumentParser()
    client.register(parser.add_subparsers(required=True))
    args = parser.parse_args(arguments)
    status = args.run(args)
    assert isinstance(status, int)
    return status


@pytest.fixture
def daemon(daemons: Daemons) -> Daemon:
    return daemons("memory")


@pytest.mark.parametrize("family", [4, 6])
def test_announces_meet_and_scrape_counts_them(daemon: Daemon, family: int, capsys: pytest.CaptureFixture[str]) -> None:
    url = daemon.announce_url(family)
    assert command("announce", url, HASH, "--port", "1001", "--left", "0", "--event", "started", "--json") == 0
    capsys.readouterr()
    assert command("announce", url, HASH, "--port", "1002", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["peers"] == ["[::1]:1001" if family == 6 else "127.0.0.1:1001"]
    assert (answer["seeders"], answer["leechers"]) == (1, 1)
    assert answer["interval"] > 0

    assert command("scrape", url, HASH, "00" * 20, "--json") == 0
    swarms = json.loads(capsys.readouterr().out)["swarms"]
    assert [(row["info_hash"], row["seeders"], row["leechers"]) for row in swarms] == [
        (HASH.lower(), 1, 1),
        ("00" * 20, 0, 0),
    ]


def test_tables_show_what_was_answered(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"udp://localhost:{daemon.port}"
    assert command("announce", url, HASH, "--port", "1003", "--left", "0", "--family", "4") == 0
    assert command("announce", url, HASH, "--port", "1004", "--family", "4") == 0
    out = capsys.readouterr().out
    assert "interval" in out
    assert "127.0.0.1:1003" in out
    assert command("scrape", url, HASH, "--family", "4") == 0
    assert HASH.lower() in capsys.readouterr().out


def test_a_refusal_is_told_and_fails(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("announce", daemon.announce_url(), HASH, "--port", "0") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "invalid port" in err
    assert err.count("\n") == 1


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A bound socket that answers nothing by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10.0)
        yield sock


def test_silence_fails_after_four_attempts(mute: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"udp://127.0.0.1:{mute.getsockname()[1]}"
    assert command("scrape", url, HASH, "--timeout", "0.3") == 1
    assert "no answer" in capsys.readouterr().err
    requests = [mute.recv(100) for _ in range(4)]
    assert len(set(requests)) == 1  # the same request again, as BEP 15 has it
    assert len(requests[0]) == 16
    mute.setblocking(False)
    with pytest.raises(BlockingIOError):
        mute.recv(100)


def test_nobody_there_fails_at_once(mute: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"udp://127.0.0.1:{mute.getsockname()[1]}"
    mute.close()
    assert command("announce", url, HASH, "--timeout", "60") == 1
    assert "refused" in capsys.readouterr().err


def answer_first_then(mute: socket.socket, *answers: bytes) -> Thread:
    """Answers the next request with each of these; the last 4 bytes of its head replace `TTTT`."""

    def serve() -> None:
        data, source = mute.recvfrom(2000)
        for answer in answers:
            mute.sendto(answer.replace(b"TTTT", data[12:16]), source)

    thread = Thread(target=serve)
    thread.start()
    return thread


def test_strays_are_passed_over(mute: socket.socket) -> None:
    wrong = wire.encode_connect_response(wire.response_head(wire.Action.CONNECT, 1), b"WRONG_ID")
    right = b"\0\0\0\0TTTTRIGHT_ID"
    thread = answer_first_then(mute, b"short", wrong, right)
    with TrackerClient(4, mute.getsockname(), timeout=5.0) as tracker:
        assert tracker.connect() == b"RIGHT_ID"
    thread.join()


def test_an_answer_to_another_question_is_no_answer(mute: socket.socket) -> None:
    thread = answer_first_then(mute, b"\0\0\0\2TTTT")
    with (
        TrackerClient(4, mute.getsockname(), timeout=5.0) as tracker,
        pytest.raises(NoAnswer, match="ScrapeResponse"),
    ):
        tracker.scrape([bytes(20)])
    thread.join()


def test_any_number_of_swarms_is_scraped(daemons: Daemons, capsys: pytest.CaptureFixture[str]) -> None:
    """In parts of 74, and in smaller ones where the tracker answers for fewer at a time."""
    for limit in (74, 50):
        daemon = daemons(config=f"udptracker: {{udp: {{max_scrape_infohashes: {limit}}}}}")
        wanted = [number.to_bytes(20, "big").hex() for number in range(160)]
        assert command("announce", daemon.announce_url(), wanted[-1], "--json") == 0
        capsys.readouterr()
        assert command("scrape", daemon.announce_url(), *wanted, "--json") == 0
        swarms = json.loads(capsys.readouterr().out)["swarms"]
        assert [row["info_hash"] for row in swarms] == wanted
        assert [row["leechers"] for row in swarms] == [0] * 159 + [1]


@pytest.mark.parametrize("rows", [0, 2])
def test_rows_that_do_not_fit_are_no_answer(mute: socket.socket, rows: int) -> None:
    def serve() -> None:
        for answer in (b"\0\0\0\0TTTTRIGHT_ID", b"\0\0\0\2TTTT" + bytes(12 * rows)):
            data, source = mute.recvfrom(2000)
            mute.sendto(answer.replace(b"TTTT", data[12:16]), source)

    thread = Thread(target=serve)
    thread.start()
    with (
        TrackerClient(4, mute.getsockname(), timeout=5.0) as tracker,
        pytest.raises(NoAnswer, match=f"{rows} rows for 1 info hashes"),
    ):
        tracker.scrape([bytes(20)])
    thread.join()


HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\r\n[bold]\u202egnp.exe"


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize("name", ["announce", "scrape"])
def test_a_hostile_tracker_does_not_reach_the_terminal(
    mute: socket.socket, name: str, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    thread = answer_first_then(mute, b"\0\0\0\3TTTT" + HOSTILE.encode())
    url = f"udp://127.0.0.1:{mute.getsockname()[1]}"
    assert command(name, url, HASH, *flags) == 1
    thread.join()
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.isprintable()
    assert line.endswith(r"the tracker refuses: \x1b]0;owned\x07\x1b[31m\x9b2J\x7f\r\n[bold]\u202egnp.exe")


@pytest.mark.parametrize("text", ["", "plain, with ümlauts and 日本", HOSTILE, "\ud800\U000e0001"])
def test_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) is text.isprintable()


def test_an_ipv6_address_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(("peers",), [("[fe80::1]:6881\n[bold]:1",)])
    shown = capsys.readouterr().out
    assert "[fe80::1]:6881" in shown
    assert "[bold]:1" in shown


def test_json_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_json({"text": HOSTILE})
    shown = capsys.readouterr().out
    assert shown.strip().isascii()
    assert shown.strip().isprintable()
    assert json.loads(shown) == {"text": HOSTILE}


@pytest.mark.parametrize(
    ("url", "info_hash"),
    [
        ("http://127.0.0.1:1", HASH),
        ("udp://", HASH),
        ("udp://127.0.0.1:0", HASH),
        ("udp://127.0.0.1:65536", HASH),
        ("udp://127.0.0.1:port", HASH),
        ("udp://[::1", HASH),
        ("udp://no.such.host.invalid:1", HASH),
        ("udp://127.0.0.1:1", HASH[1:]),
        ("udp://127.0.0.1:1", HASH + "00"),
        ("udp://127.0.0.1:1", "x" * 40),
        ("udp://127.0.0.1:1", "é" * 40),
        ("udp://127.0.0.1:1", "1" * 32),
        ("udp://127.0.0.1:1", "magnet:?dn=name"),
        ("udp://127.0.0.1:1", f"magnet:?xt=urn:btih:{HASH[1:]}"),
        ("udp://127.0.0.1:1", f"magnet:?xt=urn:btmh:1220{HASH}"),
        ("udp://127.0.0.1:1", "magnet://[?xt=urn:btih:" + HASH),
        ("udp://127.0.0.1:1", " ".join([HASH[:20], HASH[20:]])),
    ],
)
def test_bad_targets_are_one_line_and_status_2(url: str, info_hash: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("announce", "scrape"):
        assert command(name, url, info_hash, "--timeout", "0.2") == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("udptracker: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize("flag", [["--left", "-1"], ["--port", "65536"], ["--num-want", "x"], ["--timeout", "0"]])
def test_bad_numbers_are_refused(flag: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command("announce", "udp://127.0.0.1:1", HASH, *flag)
    assert refused.value.code == 2


def test_targets() -> None:
    assert parse_url("udp://tracker.example:1337/announce?x=1") == ("tracker.example", 1337)
    assert parse_url("udp://[::1]") == ("::1", 6969)
    assert resolve("127.0.0.1", 80) == (4, ("127.0.0.1", 80))
    assert resolve("::1", 80) == (6, ("::1", 80))
    with pytest.raises(BadTarget):
        resolve("127.0.0.1", 80, family=6)
    assert format_endpoint(bytes([10, 0, 0, 1, 0x1A, 0xE1])) == "10.0.0.1:6881"
    assert format_endpoint(bytes(15) + b"\x01\x1a\xe1") == "[::1]:6881"


BASE32 = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH"
V2 = "abcdef0123456789" * 4


@pytest.mark.parametrize(
    "text",
    [
        HASH,
        BASE32,
        BASE32.lower(),
        f"magnet:?xt=urn:btih:{HASH}",
        f"MAGNET:?XT=URN:BTIH:{HASH.upper()}",
        f"magnet:?xt=urn:btih:{BASE32}&dn=a+name&tr=udp%3A%2F%2Ft.example",
        f"MAGNET:?dn=x&xt.1=urn%3Abtih%3A{HASH}",
        f"magnet:?xt=urn:btmh:1220{V2}&xt=urn:btih:{HASH}",
    ],
)
def test_ways_to_write_an_info_hash(text: str) -> None:
    assert parse_info_hash(text) == bytes.fromhex(HASH)


def test_a_torrent_of_version_2_is_announced_by_its_hash_cut_short() -> None:
    assert parse_info_hash(f"magnet:?xt=urn:btmh:1220{V2}") == bytes.fromhex(V2)[:20]
