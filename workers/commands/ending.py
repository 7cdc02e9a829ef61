"""Waits until processes end that are not our children. Lives in the `stop` command."""

from __future__ import annotations

import contextlib
import time

import psutil

_POLL_S = 0.02


def family(pid: int) -> list[int]:
    """List a process and its children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return [pid]


def wait_until_gone(pids: list[int], timeout_s: float) -> list[int]:
    """Wait until these processes have ended (a zombie has); return those that still run after the timeout."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    deadline = time.monotonic() + timeout_s
    while processes and time.monotonic() < deadline:
        processes = [process for process in processes if _lives(process)]
        time.sleep(_POLL_S)
    return [process.pid for process in processes]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
