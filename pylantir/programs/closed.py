"""Closes a process that holds secrets to the other processes of its user: its memory, and its environment in /proc.

Called at the start of both programs, and by every child but the source workers. A plugin runs under the same user, so
it could otherwise read every secret from `/proc/PID/environ` or `/proc/PID/mem` of the supervisor. Root can still read
the memory.

Source: prctl(2) PR_SET_DUMPABLE; proc_pid_environ(5), proc_pid_stat(5).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_DUMPABLE = 4
_ENV_START, _ENV_END = 50 - 3, 51 - 3
"""Fields of /proc/PID/stat, counted from the one after the command's name."""


def forbid_inspection() -> None:
    """Forbid debuggers, core dumps, and the user's other processes to look into this process."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def wipe_initial_environment() -> None:
    """Overwrite the environment that this process was started with, which /proc shows; `os.environ` stays as it is.

    Call it after the first use of setproctitle, which finds the process title by the place of the environment.
    """
    if sys.platform != "linux":
        return
    # To set a variable makes the C library copy it: nothing refers to the old place afterwards.
    for name, value in list(os.environb.items()):
        os.environb[name] = value
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


@contextmanager
def without_variables(names: Iterable[str]) -> Iterator[None]:
    """Hide environment variables from the processes that are started within this context."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
