"""`python activation.py NAMES DESCRIPTOR... -- PROGRAM ARGUMENT...` runs a program with sockets, as systemd does.

NAMES are joined by colons (sd_listen_fds(3)).
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import Final

_OUT_OF_THE_WAY: Final = 100


def main() -> None:
    """Put the descriptors in their places, and become the program."""
    end = sys.argv.index("--")
    # Copies out of the way first: a place may be taken by another one of them.
    given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, _OUT_OF_THE_WAY) for number in sys.argv[2:end]]
    for place, number in enumerate(given, start=3):
        os.dup2(number, place)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": sys.argv[1]}
    os.execv(sys.argv[end + 1], sys.argv[end + 1 :])


if __name__ == "__main__":
    main()
