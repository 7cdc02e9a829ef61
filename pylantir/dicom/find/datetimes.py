"""Dates and times in a query: what DA and TM values, and ranges of them, mean for the stored forms.

Lives in the server process. Text comes in, bounds in stored form (YYYYMMDD, HHMMSS) go out; None is open.
Each function raises ValueError, without the value, for text that is no date, time or range.

Source: DICOM PS3.4 C.2.2.2.5 (range matching), K.4.1.1.3 (one period); PS3.5 6.2 (DA, TM).
"""

from __future__ import annotations

import datetime
import re

Bounds = tuple[str | None, str | None]

_DATE = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")
_TIME = re.compile(
    r"([01][0-9]|2[0-3])(?::?([0-5][0-9])(?::?([0-5][0-9]|60)(?:\.([0-9]{1,6}))?)?)?",
)
_END_OF_DAY = re.compile(r"24(?::?00(?::?00(?:\.0{1,6})?)?)?")


def single_date(text: str) -> str:
    """Read one date, YYYYMMDD or the older YYYY.MM.DD."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a date YYYYMMDD or a range of two")
    year, _, month, day = match.groups()
    try:
        datetime.date(int(year), int(month), int(day))
    except ValueError:
        raise ValueError("there is no such day") from None
    return year + month + day


def single_times(text: str) -> tuple[str, ...]:
    """Read one time by its meaning (2230 is 223000): the stored values it equals, none for a split second."""
    hour, minute, second, fraction = _time_parts(text)
    return () if fraction.strip("0") else (hour + (minute or "00") + (second or "00"),)


def date_bounds(text: str) -> Bounds:
    """Read a range of dates."""
    low, high = _ends(text)
    return (single_date(low) if low else None, single_date(high) if high else None)


def time_bounds(text: str) -> Bounds:
    """Read a range of times. The upper end covers the hour or minute that it names: 2359 and 24 are to midnight."""
    low, high = _ends(text)
    if _END_OF_DAY.fullmatch(high):
        high = "2359"
    bounds: list[str | None] = []
    for end, missing in ((low, "00"), (high, "59")):
        hour, minute, second, _ = _time_parts(end) if end else ("", "", "", "")
        bounds.append(hour + (minute or missing) + (second or missing) if hour else None)
    return (bounds[0], bounds[1])


def combined_period(dates: Bounds, times: Bounds) -> Bounds:
    """Join a range of dates and a range of times to one period: from the first day's time to the last's."""
    low = dates[0] + (times[0] or "000000") if dates[0] else None
    high = dates[1] + (times[1] or "235959") if dates[1] else None
    return (low, high)


def _ends(text: str) -> tuple[str, str]:
    low, _, high = (part.strip() for part in text.partition("-"))
    if not low and not high:
        raise ValueError("a range needs at least one end")
    return low, high


def _time_parts(text: str) -> tuple[str, str, str, str]:
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a time HHMMSS or a range of two")
    hour, minute, second, fraction = (part or "" for part in match.groups())
    return hour, minute, second, fraction
