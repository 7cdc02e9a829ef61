"""Calculates when a source is asked next, and how far back. Pure: the clock is passed in.

Lives in source workers and in the supervisor (backoff). In: times and settings; out: seconds.
"""

from __future__ import annotations

import datetime
import math

from pylantir.settings import OperationWindow

TEN_YEARS_S = 10 * 365.25 * 86400.0
OVERLAP_S = 300.0
"""How far to look back beyond the last sync: clocks differ, and a source's own commit takes time."""


def next_start(previous_start: float, interval_s: float, now: float) -> float:
    """Say when the next cycle starts: on the grid of the previous start, at the first point not yet past.

    Args:
        previous_start: When the last cycle was due, on a monotonic clock, in seconds.
        interval_s: From start to start, in seconds; greater than 0.
        now: The same clock.

    Returns:
        The first multiple after `previous_start` that is `now` or later. Missed ones are skipped, and the
        duration of a cycle does not shift the grid.
    """
    missed = max(1, math.ceil((now - previous_start) / interval_s))
    return previous_start + missed * interval_s


def window_is_open(window: OperationWindow, minute_of_day: int) -> bool:
    """Say whether a source may be asked in this minute after local midnight; both ends are inclusive."""
    start, end = window.start_minute, window.end_minute
    if start <= end:
        return start <= minute_of_day <= end
    return minute_of_day >= start or minute_of_day <= end


def seconds_until_open(window: OperationWindow, local_now: datetime.datetime) -> float:
    """Say how long to wait for the window.

    Args:
        window: When the source may be asked.
        local_now: The source's local time. With a time zone the seconds are real ones, also across a change
            of the clocks; an opening that the change skips comes right after it.

    Returns:
        Seconds, 0 if it is open.
    """
    minute = local_now.hour * 60 + local_now.minute
    if window_is_open(window, minute):
        return 0.0
    hour, start_minute = divmod(window.start_minute, 60)
    opening = local_now.replace(hour=hour, minute=start_minute, second=0, microsecond=0)
    if window.start_minute <= minute:
        opening += datetime.timedelta(days=1)
    if local_now.tzinfo is None:
        return (opening - local_now).total_seconds()
    # Python subtracts two times of one zone as wall-clock times and ignores an hour that is skipped or repeated.
    return opening.timestamp() - local_now.timestamp()


def look_back_s(last_success: datetime.datetime | None, now: datetime.datetime, interval_s: float) -> float:
    """Say how far back a source has to look: to the start of the last sync that succeeded, and a little more.

    Args:
        last_success: When that sync began, or None if there was none.
        now: When this one begins; both with or both without a time zone.
        interval_s: The source's interval: never less than this, were the clock set back.

    Returns:
        Seconds; ten years without an earlier sync.
    """
    if last_success is None:
        return TEN_YEARS_S
    return max((now - last_success).total_seconds(), interval_s, 0.0) + OVERLAP_S


def is_ahead(moment: datetime.datetime, now: datetime.datetime) -> bool:
    """Say whether a past moment lies in the future, by more than clocks commonly differ: a clock is or was wrong."""
    return (moment - now).total_seconds() > OVERLAP_S


def backoff_delay(failures: int, cap_s: float, jitter: float = 0.0) -> float:
    """Say how long to wait after so many failures in a row: 0, 1, 2, 4 … seconds.

    Args:
        failures: Failures in a row, 1 for the first.
        cap_s: The longest delay, before jitter.
        jitter: Between -0.2 and 0.2: the share to add, so that many retries do not come at the same moment.
    """
    if failures <= 1:
        return 0.0
    return min(2.0 ** min(failures - 2, 64), cap_s) * (1.0 + jitter)
