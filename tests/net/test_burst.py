"""Turns on real sockets, by the compiled burst where there is one, and by its plain twin everywhere."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from udptracker.core.tracker import Reply
from udptracker.net.burst import RECEIVE_BYTES, TURN, Burst, PlainBurst, make_burst
from udptracker.net.sockets import bind

COMPILED = importlib.util.find_spec("udptracker.net._burst") is not None
KINDS = ["compiled", "plain"] if COMPILED else ["plain"]

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

NOBODY = {4: socket.inet_aton("127.0.0.1"), 6: socket.inet_pton(socket.AF_INET6, "::1")}


class Scene:
    """A burst on a socket, and clients of it."""

    def __init__(self, kind: str, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self._kind = kind
        self._stack = stack
        self._monkeypatch = monkeypatch

    def serve(self, host: str, *, dual: bool = False) -> Burst:
        """A burst on a free port of an address; with `dual`, an IPv6 one that takes IPv4, too."""
        if dual:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((host, 0))
        else:
            sock = bind(host, 0, share_port=False, receive_buffer=1 << 20)
        self.sock = self._stack.enter_context(sock)
        self.port: int = self.sock.getsockname()[1]
        if self._kind == "compiled":
            made = make_burst(self.sock)
            assert not isinstance(made, PlainBurst)
            return made
        with self._monkeypatch.context() as patch:
            patch.setitem(sys.modules, "udptracker.net._burst", None)
            made = make_burst(self.sock)
        assert isinstance(made, PlainBurst)
        return made

    def client(self, asked: str, source: str = "") -> socket.socket:
        """A client that takes answers only from the address it asked."""
        family = socket.AF_INET6 if ":" in asked else socket.AF_INET
        client = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        client.settimeout(10.0)
        if source:
            client.bind((source, 0))
        client.connect((asked, self.port))
        return client


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(request.param, stack, monkeypatch)


def addresses() -> list[tuple[str, bool, str, bytes]]:
    """(listen address, whether it takes both families, asked address, packed source)."""
    return [
        ("127.0.0.1", False, "127.0.0.1", NOBODY[4]),
        ("::1", False, "::1", NOBODY[6]),
        ("0.0.0.0", False, "127.0.0.9", NOBODY[4]),
        ("::", False, "::1", NOBODY[6]),
        ("::", True, "::1", NOBODY[6]),
        ("::", True, "127.0.0.9", NOBODY[4]),
    ]


@pytest.mark.parametrize(("listen", "dual", "asked", "source"), addresses())
def test_a_reply_leaves_from_the_address_that_was_asked(
    scene: Scene, listen: str, dual: bool, asked: str, source: bytes
) -> None:
    served = scene.serve(listen, dual=dual)
    client = scene.client(asked, "::1" if ":" in asked else "127.0.0.1")
    client.send(b"question")
    ((data, from_, handle),) = served.receive()
    assert (data, from_) == (b"question", source)
    assert served.send([(b"answer", handle)]) == (0, 0)
    assert client.recv(100) == b"answer", "a connected socket takes it only from there"


def test_nothing_has_arrived(scene: Scene) -> None:
    assert scene.serve("127.0.0.1").receive() == []


def test_a_turn_is_bounded_and_in_order(scene: Scene) -> None:
    served = scene.serve("127.0.0.1")
    client = scene.client("127.0.0.1")
    for number in range(TURN + 3):
        client.send(b"%d" % number)
    first, second = served.receive(), served.receive()
    assert [data for data, _, _ in first] == [b"%d" % number for number in range(TURN)]
    assert [data for data, _, _ in second] == [b"%d" % (TURN + number) for number in range(3)]
    replies: list[Reply] = [(data, handle) for data, _, handle in first + second]
    assert served.send(replies) == (0, 0)
    assert [client.recv(100) for _ in replies] == [data for data, _ in replies]


@pytest.mark.parametrize("size", [0, 1, RECEIVE_BYTES - 1, RECEIVE_BYTES, RECEIVE_BYTES + 1, 60_000])
def test_what_is_too_long_is_cut(scene: Scene, size: int) -> None:
    served = scene.serve("0.0.0.0")
    scene.client("127.0.0.1").send(b"x" * size)
    ((data, _, _),) = served.receive()
    assert data == b"x" * min(size, RECEIVE_BYTES)


def test_what_the_kernel_refuses_is_passed_over(scene: Scene) -> None:
    """A datagram longer than UDP takes (EMSGSIZE), between two that can be sent."""
    served = scene.serve("127.0.0.1")
    client = scene.client("127.0.0.1")
    client.send(b"question")
    ((_, _, handle),) = served.receive()
    too_long = (bytes(70_000), handle)
    assert served.send([too_long, (b"1", handle), too_long, (b"2", handle), too_long]) == (0, 3)
    assert [client.recv(100), client.recv(100)] == [b"1", b"2"]


class FaultySocket(socket.socket):
    """A socket whose kernel refuses what says so: a datagram `errno=11` fails with error 11."""

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        (data,) = buffers
        if data.startswith(b"errno="):
            number = int(data[6:])
            raise OSError(number, os.strerror(number))
        return super().sendmsg(buffers, *args)


def made(kind: str, sock: socket.socket) -> Burst:
    """A burst of this kind on an IPv4 socket of one address."""
    return PlainBurst(sock, False, False) if kind == "plain" else make_burst(sock)


def run_apart(
    check: Callable[..., None],
    kind: str,
    told: Path,
    *args: bool,
    entering: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Call a function of this module in a process of its own, which says at the end of it that all is well.

    Args:
        entering: the command that runs the process, if it is to be somewhere else.
    """
    code = f"import sys; sys.path = {sys.path!r}; from pathlib import Path; import runpy; "
    code += f"runpy.run_path({__file__!r})[{check.__name__!r}]({kind!r}, Path({str(told)!r}), *{args!r})"
    subprocess.run([*entering, sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert told.read_text() == "as it should be"


def send_with_faults(kind: str, path: Path) -> None:
    """Send, in a process whose kernel refuses what says so, and check what came of it."""
    with ExitStack() as stack:
        server = stack.enter_context(FaultySocket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        server.bind(("127.0.0.1", 0))
        client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client.settimeout(10.0)
        client.connect(server.getsockname())
        client.send(b"question")
        served = made(kind, server)
        ((_, _, handle),) = served.receive()

        def send(*texts: str) -> tuple[tuple[int, int], list[str]]:
            result = served.send([(text.encode(), handle) for text in texts])
            client.send(b"end")
            ((end, _, handle_),) = served.receive()
            served.send([(end, handle_)])
            return result, list(iter(lambda: client.recv(100).decode(), "end"))

        refused = [f"errno={number}" for number in (errno.EPERM, errno.ENOBUFS, errno.EINVAL, errno.ENETUNREACH)]
        assert send("1", *refused, "2") == ((0, 4), ["1", "2"])
        assert send("1", f"errno={errno.EAGAIN}", "2", "3") == ((3, 0), ["1"])
        assert send(f"errno={errno.EAGAIN}") == ((1, 0), [])
        many = [str(number) for number in range(100)]
        assert send(*many, refused[0], *many) == ((0, 1), many * 2)
        assert send(*many, f"errno={errno.EAGAIN}", *many) == ((101, 0), many)
        assert send() == ((0, 0), [])
    path.write_text("as it should be")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_kernel_has_no_room_for_or_refuses(kind: str, tmp_path: Path) -> None:
    environment = dict(os.environ)
    if kind == "compiled":
        library = tmp_path / "faulty_sendmmsg.so"
        source = Path(__file__).with_name("faulty_sendmmsg.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        environment["LD_PRELOAD"] = f"{environment.get('LD_PRELOAD', '')} {library}".strip()
    run_apart(send_with_faults, kind, tmp_path / "told", environment=environment)


def receive_from_port_0(kind: str, path: Path, own_network: bool) -> None:
    """Send from there by a raw socket, in a process that may have one, and check what came of it."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        if own_network:  # in which nothing is up
            fcntl.ioctl(server, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
        server.bind(("127.0.0.1", 0))
        served = made(kind, server)
        assert served.unanswerable == 0
        raw = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP))
        port: int = server.getsockname()[1]
        raw.sendto(struct.pack(">HHHH", 0, port, 12, 0) + b"zero", ("127.0.0.1", 0))
        client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client.sendto(b"good", ("127.0.0.1", port))
        assert [data for data, _, _ in served.receive()] == [b"good"]
        assert served.unanswerable == 1
    path.write_text("as it should be")


@pytest.mark.parametrize("kind", KINDS)
def test_from_port_0_is_counted_and_left_out(kind: str, tmp_path: Path) -> None:
    """Only a raw socket can send from there. Whoever is not root may have one in a network of its own."""
    is_root = os.geteuid() == 0
    entering = [] if is_root else ["unshare", "--user", "--map-root-user", "--net"]
    run_apart(receive_from_port_0, kind, tmp_path / "told", not is_root, entering=entering)


if COMPILED:

    def test_foreign_replies_are_refused() -> None:
        with bind("127.0.0.1", 0, share_port=False, receive_buffer=4096) as sock:
            served = make_burst(sock)
            wrong: list[object] = [(b"x", b"short"), (b"x",), b"x", ("x", bytes(16)), (b"x", None)]
            for reply in wrong:
                with pytest.raises(TypeError):
                    served.send([reply])  # type: ignore[list-item]  # what only a bug can send
            with pytest.raises(SystemError):
                served.send(())  # type: ignore[arg-type]  # the same

    def test_a_million_datagrams_leave_nothing_behind() -> None:
        """Also of those that are refused on the way."""
        with ExitStack() as stack:
            server = stack.enter_context(bind("0.0.0.0", 0, share_port=False, receive_buffer=1 << 22))
            client = stack.enter_context(bind("127.0.0.1", 0, share_port=False, receive_buffer=1 << 22))
            served, asking = make_burst(server), make_burst(client)
            ours = struct.pack("=H2s4s8x", socket.AF_INET, server.getsockname()[1].to_bytes(2, "big"), NOBODY[4])
            questions: list[Reply] = [(b"question", ours)] * TURN

            def converse(turns: int) -> int:
                answered = 0
                for _ in range(turns):
                    asking.send(questions)
                    served.send([(data, handle) for data, _, handle in served.receive()])
                    answered += len(asking.receive())
                    with suppress(TypeError):
                        served.send([(b"x", ours), None])  # type: ignore[list-item]  # what only a bug can send
                return answered

            converse(100)
            before = sys.getallocatedblocks()
            assert converse(1_000_000 // TURN) > 990_000
            assert abs(sys.getallocatedblocks() - before) < 100
