"""Notices the end of any process at once, ends all children as a last resort, and reaps orphans.

Lives in the supervisor. As the first process of a container it inherits orphans; elsewhere the system's init process
reaps them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time


def is_init() -> bool:
    """Whether this process inherits orphans."""
    return os.getpid() == 1


def hear_of_deaths() -> None:
    """Make the death of any child wake the loop; call this after the wake-up descriptor is set.

    Waiting for the end of a child's pipes is not enough: processes that a plugin has forked keep them open.
    """
    signal.signal(signal.SIGCHLD, lambda *_: None)


def reap_orphans() -> None:
    """Reap every dead child except those that we started: other code reads their exit status."""
    if not is_init():
        return
    ours = {process.pid for process in multiprocessing.active_children()}
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in ours:
                return
            os.waitpid(dead.si_pid, os.WNOHANG)


def end_all_children(grace_s: float) -> None:
    """End all children, even unknown ones: send SIGTERM to each, and SIGKILL after `grace_s` seconds."""
    children = multiprocessing.active_children()
    for end in (multiprocessing.Process.terminate, multiprocessing.Process.kill):
        for child in children:
            end(child)
        deadline = time.monotonic() + grace_s
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))
