"""Limits of the machine: the memory that a source may take, and the descriptors for all children.

Lives in the supervisor; pure except for the measuring. A source over its ceiling is restarted between two cycles, which
costs nothing; far over its ceiling it is killed during a cycle, and its batches are sent again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource

import psutil

FAR_OVER = 2.0
"""How many times its ceiling a process may hold during a cycle."""
MEASURE_EVERY_S = 2.0
PER_CHILD = 4
"""Descriptors that the supervisor needs per child: channel, output, sentinel, and one while the child starts."""
RESERVED = 48
"""Descriptors kept free for everything else: sockets, commands, the check of a configuration, the log.

At most a third of all are kept."""
_WOULD_GO_ON = {psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP}
"""What a process does that waits for nothing but a processor, or a disk."""

logger = logging.getLogger(__name__)


def resident_mb(pid: int) -> float:
    """Resident memory in MiB; 0 for a process that has gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except (psutil.Error, OSError):
        return 0.0


def lacks_processor(pid: int | None, used_less_than_s: float) -> bool:
    """Tell whether a process would go on but has got hardly any processor time: on a busy machine it does not hang."""
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        used = process.cpu_times()
        return process.status() in _WOULD_GO_ON and used.user + used.system < used_less_than_s
    except (psutil.Error, OSError):
        return False


def is_far_over(used_mb: float, max_memory_mb: float) -> bool:
    """Whether a process holds so much memory that it must be killed."""
    return used_mb > FAR_OVER * max_memory_mb


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open files to the hard one; return the resulting limit."""
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
    """Keep descriptors free for everything except sources.

    Args:
        highest_fd: A descriptor that was opened just now: the system always gives the lowest free one.

    Raises:
        OSError: Only the reserve is left.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and highest_fd > limit - min(RESERVED, limit // 3):
        raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)} (the limit is {limit})")
