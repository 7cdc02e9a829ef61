"""What to do about a source whose memory grows. Lives in the supervisor; pure but for the measuring.

A source is recycled between two cycles, where that costs nothing; far over its ceiling it is killed in the middle
of one: its batches are sent again.
"""

from __future__ import annotations

import psutil

FAR_OVER = 2.0
"""So many times its ceiling may a process hold in the middle of a cycle."""
MEASURE_EVERY_S = 2.0


def resident_mb(pid: int) -> float:
    """Resident memory in MiB; 0 for a process that has gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except (psutil.Error, OSError):
        return 0.0


def is_far_over(used_mb: float, max_memory_mb: float) -> bool:
    """Whether to kill."""
    return used_mb > FAR_OVER * max_memory_mb
