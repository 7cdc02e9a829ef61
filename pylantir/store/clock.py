"""The clock of whatever decides by the time: passed in, so that tests can set it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo

Clock = Callable[[], datetime]
"""Returns the time, with its zone."""


def system_time() -> datetime:
    """Return the machine's time."""
    return datetime.now(UTC)


def utc_now(clock: Clock = system_time) -> str:
    """Return the time in the database's form."""
    return clock().astimezone(UTC).isoformat(timespec="microseconds")


def local_day(clock: Clock, zone: tzinfo | None = None) -> str:
    """Return the day, YYYYMMDD, in a zone; None: this machine's."""
    return clock().astimezone(zone).strftime("%Y%m%d")
