"""Steering: which of the sockets that share a port is given a datagram.

By itself the kernel spreads senders over them, by a hash of the addresses. A classic BPF program on the group of
sockets (SO_ATTACH_REUSEPORT_CBPF in socket(7), Linux 4.5, no privilege needed) is shown the UDP payload and returns a
place in the group, which is the order in which the sockets were bound. Ours sends all requests on a swarm to one place:
that of its info hash (see `swarm.place_of`), which announces and scrapes alike have at offset 16 (BEP 15). What is too
short to have one, a connect above all, goes anywhere.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

_SO_ATTACH_REUSEPORT_CBPF: Final = 51
"""asm-generic/socket.h; Python's socket module does not name it."""

_WORD_OFFSET: Final = 16
_WORD_BYTES: Final = 4

_LOAD_LENGTH: Final = 0x80
_LOAD_WORD: Final = 0x20
_JUMP: Final = 0x05
_JUMP_IF_AT_LEAST: Final = 0x35
_MODULO: Final = 0x94
_RETURN_ACCUMULATOR: Final = 0x16
"""Instructions of linux/bpf_common.h: BPF_LD|BPF_W with BPF_LEN or BPF_ABS, BPF_JMP with BPF_JA or BPF_JGE, BPF_ALU|
BPF_MOD, BPF_RET|BPF_A."""
_RANDOM: Final = 0xFFFF_F000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM: the offset of a load that gives a random word (linux/filter.h)."""


def steer(group: socket.socket, places: int) -> None:
    """Steer a group of sockets from now on.

    Args:
        group: any one of them, bound with SO_REUSEPORT.
        places: how many they are.

    Raises:
        OSError: the kernel refuses the program.
    """
    code = _program(places)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many instructions, and where they are
    program = struct.pack("HP", len(code) // len(_instruction(0)), ctypes.addressof(buffer))
    group.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


def _program(places: int) -> bytes:
    return b"".join(
        (
            _instruction(_LOAD_LENGTH),
            _instruction(_JUMP_IF_AT_LEAST, _WORD_OFFSET + _WORD_BYTES, if_true=2),
            _instruction(_LOAD_WORD, _RANDOM),
            _instruction(_JUMP, 1),
            _instruction(_LOAD_WORD, _WORD_OFFSET),
            _instruction(_MODULO, places),
            _instruction(_RETURN_ACCUMULATOR),
        )
    )


def _instruction(code: int, operand: int = 0, *, if_true: int = 0) -> bytes:
    """A struct sock_filter; jumps are relative to the next one."""
    return struct.pack("HBBI", code, if_true, 0, operand)
