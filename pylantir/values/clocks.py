"""Reads times of day and offsets from UTC in the forms that people and programs write. Pure."""

from __future__ import annotations

import datetime
import re

from pylantir.errors import RecordRejected

CLOCK = (
    r"(?P<h>[0-9]{1,2}):(?P<m>[0-9]{2})(?::(?P<s>[0-9]{2})(?:[.,][0-9]{1,9})?)?"
    r"(?: ?(?P<half>[AaPp])\.? ?[Mm]\.?| ?(?:Uhr|[Hh]))?"
    r"|(?P<hh>[0-9]{2})(?:(?P<mm>[0-9]{2})(?:(?P<ss>[0-9]{2})(?:\.[0-9]{1,9})?)?)?"
)
ZONE = r"(?: ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)(?:\[[A-Za-z0-9_/+-]+\])?)?"
_OFFSET_MINUTES = range(-12 * 60, 14 * 60 + 1)
RANGE = "could be a range of times or a time with an offset; give the start alone, or seconds before the offset"


def read_clock(match: re.Match[str]) -> datetime.time | None:
    """Return the time of day in a match; None if there is no such time."""
    said = match.groupdict()

    def number(*names: str) -> int:
        return next((int(said[name] or 0) for name in names if said.get(name)), 0)

    hour, minute, second = number("h", "hh", "dh"), number("m", "mm", "dm"), number("s", "ss", "ds")
    if said.get("half"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if str(said["half"]) in "pP" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return datetime.time(hour, minute, second)


def could_be_a_range(match: re.Match[str]) -> bool:
    """Tell whether a range such as "09:30-11:00" is meant; after seconds or a T, "-11:00" can only be an offset."""
    is_dicom = match.groupdict().get("dh")
    has_seconds = match["s"] or match["ss"]
    return (match["zone"] or "").startswith("-") and not (is_dicom or has_seconds or "T" in match.string)


def read_offset(field: str, zone: str) -> datetime.timezone:
    """Read an offset such as Z, +01, +0100 or +01:00.

    Raises:
        RecordRejected: There is no such offset.
    """
    if zone.upper() in {"Z", "UTC", "GMT"}:
        return datetime.UTC
    digits = zone[1:].replace(":", "")
    minutes = (int(digits[:2]) * 60 + int(digits[2:4] or 0)) * (-1 if zone[0] == "-" else 1)
    if minutes not in _OFFSET_MINUTES or int(digits[2:4] or 0) > 59:
        raise RecordRejected(field, "no place on earth has this offset")
    return datetime.timezone(datetime.timedelta(minutes=minutes))


def write_offset(offset: datetime.timedelta | None) -> str:
    """Write an offset as +0100."""
    minutes = round((offset or datetime.timedelta()).total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
