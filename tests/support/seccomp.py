"""`python seccomp.py PROGRAM ARGUMENT...` runs a program in a kernel that says it has no IPv6.

As with `ipv6.disable=1`, socket(AF_INET6) fails with EAFNOSUPPORT: by a seccomp filter (seccomp(2)), which needs no
privilege and holds for the program and its children.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_SOCKET_CALL: Final = {"x86_64": 41, "aarch64": 198}
_NUMBER_OFFSET: Final = 0
_FIRST_ARGUMENT_OFFSET: Final = 16
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_ipv6() -> None:
    """From now on this process and its children have no IPv6."""
    code = [
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_JUMP_IF_EQUAL, 0, 3, _SOCKET_CALL[platform.machine()]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        (_JUMP_IF_EQUAL, 0, 1, socket.AF_INET6),
        (_RETURN, 0, 0, _FAIL | errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = _Program(len(code), b"".join(struct.pack("=HBBI", *instruction) for instruction in code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*(ctypes.byref(each) if each is program else each for each in arguments)):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse_ipv6()
    os.execv(sys.argv[1], sys.argv[1:])
