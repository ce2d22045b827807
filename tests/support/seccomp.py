"""`python seccomp.py WHAT PROGRAM ARGUMENT...` runs a program in a kernel that says it does not have WHAT.

`ipv6`: as with `ipv6.disable=1`, socket(AF_INET6) fails with EAFNOSUPPORT. `steering`: as before Linux 4.5,
setsockopt(SO_ATTACH_REUSEPORT_CBPF) fails with ENOPROTOOPT. By a seccomp filter (seccomp(2)), which needs no privilege
and holds for the program and its children.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from typing import Final, NamedTuple

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_NUMBER_OFFSET: Final = 0
_ARGUMENTS_OFFSET: Final = 16
_ARGUMENT_BYTES: Final = 8
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000


class Absence(NamedTuple):
    """A call that fails where one argument, counted from 0, has this value: its number by machine, and how it fails."""

    call: dict[str, int]
    argument: int
    value: int
    error: int


ABSENCES: Final = {
    "ipv6": Absence({"x86_64": 41, "aarch64": 198}, 0, socket.AF_INET6, errno.EAFNOSUPPORT),
    "steering": Absence({"x86_64": 54, "aarch64": 208}, 2, 51, errno.ENOPROTOOPT),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(absent: Absence) -> None:
    """From now on this process and its children do without it."""
    code = [
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_JUMP_IF_EQUAL, 0, 3, absent.call[platform.machine()]),
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET + _ARGUMENT_BYTES * absent.argument),
        (_JUMP_IF_EQUAL, 0, 1, absent.value),
        (_RETURN, 0, 0, _FAIL | absent.error),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = _Program(len(code), b"".join(struct.pack("=HBBI", *instruction) for instruction in code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*(ctypes.byref(each) if each is program else each for each in arguments)):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(ABSENCES[sys.argv[1]])
    os.execv(sys.argv[2], sys.argv[2:])
