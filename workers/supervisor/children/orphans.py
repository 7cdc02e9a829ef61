"""Ends what plugins leave behind, notices the end of any process at once, and ends all children as a last resort.

Lives in the supervisor. A plugin may start processes, which nobody ends with it. Each source worker therefore leads a
process group, and the supervisor inherits every process of the family whose parent has ended (on Linux). What stays in
the group of a worker that has ended, or comes to the supervisor with that end, is ended: SIGTERM, then SIGKILL. A
daemon that a plugin started in a session of its own is let be until everything ends, as its worker still needs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 1.0
"""How long a process that was left behind may take to end after SIGTERM."""
_LOOK_EVERY_S = 1.0
_LOOK_AGAIN_S = 0.02
_CANNOT_BE_SEEN = (psutil.Error, OSError)
"""It has gone, is another user's, or there is no descriptor left to look at it."""

logger = logging.getLogger(__name__)


def inherit_orphans() -> None:
    """Become the parent of every process of the family whose parent ends, as process 1 is by nature."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def hear_of_deaths() -> None:
    """Make the death of any child wake the loop; call this after the wake-up descriptor is set.

    Waiting for the end of a child's pipes is not enough: processes that a plugin has forked keep them open.
    """
    signal.signal(signal.SIGCHLD, lambda *_: None)


def choose_ended(orphans: Mapping[int, int], known: Collection[int], living: Collection[int]) -> set[int]:
    """Choose the orphans that were left behind by a worker that has just ended. Pure.

    Args:
        orphans: Processes that the supervisor has inherited -> their process groups.
        known: Those that were there before the worker ended: daemons of others.
        living: The groups of the workers that run.

    Returns:
        Their process ids. A daemon that another worker's plugin started in the same moment is among them: nothing tells
        whose it is.
    """
    return {pid for pid, group in orphans.items() if pid not in known and group not in living}


class Orphans:
    """The processes that the supervisor has inherited, or that are to end with their worker."""

    def __init__(self) -> None:
        self._known: frozenset[int] = frozenset()
        self._ending: list[psutil.Process] = []
        self._look_at = self._kill_at = 0.0

    def deadline(self) -> float | None:
        """When the next one must be killed (monotonic seconds)."""
        return self._kill_at if self._ending else None

    def service(self, ended: Mapping[str, int], living: Collection[int], now: float) -> None:
        """Reap orphans, and end what workers have left behind.

        Args:
            ended: The source workers that have ended since the last call: name -> process group.
            living: The process groups of those that run.
            now: Monotonic seconds.
        """
        if not ended and now < self._look_at:
            return
        self._look_at = min(now + _LOOK_EVERY_S, self.deadline() or math.inf)
        _reap()
        orphans = _groups_of(_inherited())
        for name, group in ended.items():
            left = _processes(choose_ended(orphans, self._known, living) | _members(group))
            if left:
                logger.info("%s has left %d processes of its plugin behind; they are ended", name, len(left))
                _send(left, signal.SIGTERM)
                self._ending += left
                self._look_at = self._kill_at = now + GRACE_S
        self._known = frozenset(orphans)
        self._ending = [process for process in self._ending if _is_alive(process)]
        if self._ending and now >= self._kill_at:
            _send(self._ending, signal.SIGKILL)
            self._ending = []

    def end_all(self) -> None:
        """End every process that is still there: the whole program ends. Waits at most twice `GRACE_S`."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline, told = time.monotonic() + GRACE_S, set[int]()
            while time.monotonic() < deadline:
                _reap()
                left = [*_processes(_inherited()), *filter(_is_alive, self._ending)]
                if not left:
                    return
                # A process that ends leaves its own children to us.
                _send([process for process in left if process.pid not in told], number)
                told.update(process.pid for process in left)
                time.sleep(_LOOK_AGAIN_S)


def end_all_children(grace_s: float) -> None:
    """End all children, even unknown ones: send SIGTERM to each, and SIGKILL after `grace_s` seconds."""
    children = multiprocessing.active_children()
    for end in (BaseProcess.terminate, BaseProcess.kill):
        for child in children:
            end(child)
        deadline = time.monotonic() + grace_s
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))


def _children() -> set[int]:
    """List this process's children, dead ones too; none where the system does not tell."""
    found = set[int]()
    with contextlib.suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            found |= set(map(int, (thread / "children").read_text(encoding="ascii").split()))
    return found


def _inherited() -> set[int]:
    """List the children that somebody else has started: only those have left our process group."""
    own = os.getpgrp()
    ours = {process.pid for process in multiprocessing.active_children()}
    return {pid for pid, group in _groups_of(_children() - ours).items() if group != own}


def _reap() -> None:
    """Reap every dead child except those that we started: other code reads their exit status."""
    ours = {process.pid for process in multiprocessing.active_children()}
    for pid in _children() - ours:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _groups_of(pids: Iterable[int]) -> dict[int, int]:
    groups = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            groups[pid] = os.getpgid(pid)
    return groups


def _members(group: int) -> set[int]:
    """List the processes of a group, whoever is their parent."""
    with contextlib.suppress(*_CANNOT_BE_SEEN):
        return {pid for pid, its in _groups_of(psutil.pids()).items() if its == group}
    return set()


def _processes(pids: Iterable[int]) -> list[psutil.Process]:
    """Give the living processes of these numbers, each with all that descend from it."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with contextlib.suppress(*_CANNOT_BE_SEEN):
            process = psutil.Process(pid)
            found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return list(filter(_is_alive, found.values()))


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except _CANNOT_BE_SEEN:
        return False


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        # psutil makes sure that the number has not passed to another process. One of another user cannot be ended.
        with contextlib.suppress(*_CANNOT_BE_SEEN):
            process.send_signal(number)
