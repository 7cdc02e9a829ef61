"""The standard streams of a program that was started without them. Lives in the commands."""

from __future__ import annotations

import os
import sys


def complete_standard_streams() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr, before anything else is opened.

    Otherwise the first file or socket would get the number of a stream, and what is printed would go there.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is given: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
