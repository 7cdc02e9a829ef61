"""The first process's duty in a container: to reap whatever lost its parent.

Lives in the supervisor, where it is process 1; elsewhere somebody else does this.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal


def is_init() -> bool:
    """Whether orphans come to us."""
    return os.getpid() == 1


def hear_of_deaths() -> None:
    """Let the death of any child wake the loop; to be called after the wake-up descriptor is set."""
    if is_init():
        signal.signal(signal.SIGCHLD, lambda *_: None)


def reap_orphans() -> None:
    """Reap every dead child that is not one of our own: those have somebody who wants to know how they ended."""
    if not is_init():
        return
    ours = {process.pid for process in multiprocessing.active_children()}
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in ours:
                return
            os.waitpid(dead.si_pid, os.WNOHANG)
