"""Reads days and moments as operators write them. Pure: the caller passes today's date."""

from __future__ import annotations

import datetime
import re

from pylantir.errors import WrongUsage
from pylantir.programs.arguments import nearest

_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}")


def read_days(text: str, today: datetime.date) -> tuple[str | None, str | None]:
    """Read a day or a range of days: `today`, `2026-08-03`, `2026-08-01..2026-08-31`, `20260801-20260831`, `today..`.

    Returns:
        The first and the last day as YYYYMMDD; None for an open end.

    Raises:
        WrongUsage: The text is none of these, or the range ends before it begins.
    """
    low, dots, high = text.strip().partition("..")
    if not dots and _DAY.fullmatch(low) is None:
        # DICOM's own way to write a range.
        low, dots, high = low.partition("-")
    first, last = (_read_day(end, today) if end else None for end in (low, high))
    if not dots:
        last = first
    if first is None and last is None:
        raise WrongUsage(_advice(text))
    if first and last and last < first:
        raise WrongUsage(f'"{text}": the range ends before it begins')
    return first, last


def read_day(text: str, today: datetime.date) -> str:
    """Read a single day: `today`, `2026-08-03`, `20260803`.

    Returns:
        The day as YYYYMMDD.

    Raises:
        WrongUsage: The text is no day.
    """
    text = text.strip()
    if text not in _DAYS and _DAY.fullmatch(text) is None:
        raise WrongUsage(f'"{text}": expected one day, such as 2026-08-03 or today{_near(text)}')
    return _read_day(text, today)


def read_moment(text: str, now: datetime.datetime) -> str:
    """Read a day or a date with time, in local time unless it says otherwise.

    Args:
        text: `today`, `2026-08-03`, `2026-08-03 14:30`, `2026-08-03T12:30:00+00:00`.
        now: With its time zone.

    Returns:
        The moment as the database writes it: ISO 8601, UTC, microseconds.

    Raises:
        WrongUsage: The text is none of these.
    """
    if text in _DAYS:
        moment = datetime.datetime.combine(now.date() + datetime.timedelta(days=_DAYS[text]), datetime.time())
    else:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            advice = f"expected a day or a moment, such as 2026-08-03 or 2026-08-03T14:30{_near(text)}"
            raise WrongUsage(f'"{text}": {advice}') from None
    try:
        # A naive moment is local time; it takes that day's offset from UTC, which may differ from the offset of `now`.
        return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds")
    except OverflowError:
        raise WrongUsage(f'"{text}": too far away') from None


def _read_day(text: str, today: datetime.date) -> str:
    if text in _DAYS:
        return (today + datetime.timedelta(days=_DAYS[text])).strftime("%Y%m%d")
    if _DAY.fullmatch(text) is None:
        raise WrongUsage(_advice(text))
    try:
        return datetime.date.fromisoformat(text).strftime("%Y%m%d")
    except ValueError:
        raise WrongUsage(f'"{text}": there is no such day') from None


def _advice(text: str) -> str:
    return f'"{text}": expected a day (2026-08-03, today) or a range of two (2026-08-01..2026-08-31){_near(text)}'


def _near(text: str) -> str:
    near = nearest(text, _DAYS)
    return f'; did you mean "{near}"?' if near else ""
