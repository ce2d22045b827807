"""Bound sockets."""

from __future__ import annotations

import socket

import pytest

from udptracker.net.sockets import bind

BUFFER = 1 << 18


class TestBind:
    def test_an_address_in_use(self) -> None:
        with bind("127.0.0.1", 0, share_port=False, receive_buffer=BUFFER) as first:
            with pytest.raises(OSError, match="in use"):
                bind(*first.getsockname(), share_port=False, receive_buffer=BUFFER)
            with pytest.raises(OSError, match="in use"):
                bind(*first.getsockname(), share_port=True, receive_buffer=BUFFER)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_a_shared_port(self, host: str) -> None:
        with bind(host, 0, share_port=True, receive_buffer=BUFFER) as first:
            port = first.getsockname()[1]
            with bind(host, port, share_port=True, receive_buffer=BUFFER) as second:
                assert second.getsockname()[1] == port

    def test_the_receive_buffer_is_asked_for(self) -> None:
        sizes = []
        for asked in (8192, 65536):
            with bind("127.0.0.1", 0, share_port=False, receive_buffer=asked) as sock:
                sizes.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
                assert sock.getblocking() is False
        assert sizes[0] < sizes[1]

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(OSError, match="assign"):
            bind("192.0.2.1", 0, share_port=False, receive_buffer=BUFFER)
