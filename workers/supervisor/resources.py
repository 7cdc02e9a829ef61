"""What the machine gives: memory that a source may take, and how many descriptors there are for all children.

Lives in the supervisor; pure but for the measuring. A source is recycled between two cycles, where that costs nothing;
far over its ceiling it is killed in the middle of one: its batches are sent again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource

import psutil

FAR_OVER = 2.0
"""So many times its ceiling may a process hold in the middle of a cycle."""
MEASURE_EVERY_S = 2.0
PER_CHILD = 4
"""Descriptors that a child costs the supervisor: its channel, its output, its sentinel, and one while it starts."""
RESERVED = 48
"""Kept free for everything else: sockets, commands, a configuration that is checked, the log."""

logger = logging.getLogger(__name__)


def resident_mb(pid: int) -> float:
    """Resident memory in MiB; 0 for a process that has gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except (psutil.Error, OSError):
        return 0.0


def is_far_over(used_mb: float, max_memory_mb: float) -> bool:
    """Whether to kill."""
    return used_mb > FAR_OVER * max_memory_mb


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open files to the hard one; returns what holds then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A service manager may forbid the call.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def describe_shortage(children: int, limit: int) -> str | None:
    """Say in one line that there are too few descriptors for so many children; None if there are enough."""
    wanted = PER_CHILD * children + RESERVED
    if limit == resource.RLIM_INFINITY or wanted <= limit:
        return None
    return (
        f"{children} processes need {wanted} open files, and the limit is {limit}: raise it "
        "(under systemd LimitNOFILE=, else `ulimit -Hn`); until then not all of them can be started"
    )


def keep_reserve(highest_fd: int) -> None:
    """Leave descriptors for everything else but children.

    Args:
        highest_fd: A descriptor that was opened just now: the system gives the lowest that is free.

    Raises:
        OSError: What is left belongs to the reserve.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and highest_fd > limit - RESERVED:
        raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)} (the limit is {limit})")
