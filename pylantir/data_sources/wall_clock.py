"""Computes the local time that a server's clock showed some time ago, for servers that compare local times. Pure.

Lives in the workers of sources that ask for changes.
"""

from __future__ import annotations

import datetime


def wall_clock_before(server_now: datetime.datetime, seconds: float, zone_name: str) -> datetime.datetime:
    """Say what a server's wall clock showed some time ago, or a little earlier.

    When summer time ends, a clock shows an hour twice: the earlier of the two readings is given, so that no change is
    missed.

    Args:
        server_now: The server's clock, with a time zone.
        seconds: How long ago.
        zone_name: The server's time zone; "" is this machine's.

    Returns:
        A time without a zone.
    """
    zone = None
    if zone_name:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(zone_name)
    begin = server_now - datetime.timedelta(seconds=seconds)
    readings = [
        (begin + datetime.timedelta(hours=hours)).astimezone(zone).replace(tzinfo=None)
        - datetime.timedelta(hours=hours)
        for hours in (0, 1)
    ]
    return min(readings)
