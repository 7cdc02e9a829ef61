"""Makes the DICOM form of dates, times of day and moments, in whatever form a source gives them.

Pure but for the machine's time zone and today's date. A value with an offset is converted to the source's time zone; a
birth date is never converted.

Source: DICOM PS3.5 6.2 (DA, TM, DT).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

from pylantir.errors import RecordRejected
from pylantir.values.clocks import CLOCK, RANGE, ZONE, could_be_a_range, read_clock, read_offset, write_offset
from pylantir.values.formats import SPECIAL, compile_format
from pylantir.values.readings import (
    DAY_S,
    EPOCH,
    NUMBER,
    YEARS,
    MomentRules,
    NoSuchTime,
    Reading,
    has_lost_a_digit,
    hint,
    read_count,
    read_format,
    read_moment,
    round_seconds,
)

BIRTH_DATE = "patient_birth_date"
DATE_FIELD = "scheduled_start_date"
_TIME = re.compile(rf"(?:{CLOCK}){ZONE}")
LONGEST_CLOCK = 8
"""Characters of HH:MM:SS."""
_NOT_MIDNIGHT = "has a time of day, so a time zone may have moved it to another day; give the day alone"

_EMPTY_DAYS = frozenset({datetime.date(1899, 12, 30), datetime.date(1899, 12, 31)})
"""Day 0 of spreadsheets and of Access."""


def to_date(field: str, value: object, text: str, rules: MomentRules) -> str:
    """Give YYYYMMDD; for the start date, an offset follows ("-0700") if it is midnight of another day than here.

    Args:
        field: For messages; a birth date has rules of its own.
        value: As the source gave it, not empty.
        text: The same as text, if it is text or a number.
        rules: How the source writes dates.

    Raises:
        RecordRejected: It is no date, or could be two.
    """
    if field == BIRTH_DATE:
        return _birth_date(value, text, rules)
    try:
        read = read_moment(field, value, text, rules)
    except NoSuchTime as error:
        return _day(field, error.day)
    here = _on_the_wall(field, read, rules)
    is_midnight = read.has_time and not read.counted and read.moment.time() == datetime.time()
    if field == DATE_FIELD and is_midnight and here.date() != read.moment.date():
        return _day(field, read.moment) + write_offset(read.offset.utcoffset(read.moment) if read.offset else None)
    return _day(field, here)


def settle_day(date: str, time: str | None, rules: MomentRules) -> tuple[str, bool]:
    """Decide which day is meant by a start date with an offset, as `to_date` returns it.

    It is midnight there, but not here. Beside another time of day it is the day alone, as programs write it that
    have no type for a day.

    Args:
        date: YYYYMMDD and an offset.
        time: The record's time of day (HHMMSS), with an offset if it has one; None: it has none.
        rules: How the source writes dates.

    Returns:
        YYYYMMDD, and whether nothing but the offset decided.
    """
    here = rules.local(datetime.datetime.strptime(f"{date[:8]}000000{date[8:]}", "%Y%m%d%H%M%S%z"))
    if time and time != f"{here:%H%M%S}":
        return date[:8], False
    return _day(DATE_FIELD, here), not time


def to_start(field: str, value: object, text: str, rules: MomentRules) -> tuple[str, bool]:
    """Give YYYYMMDD, with HHMMSS behind it if the value has a time; and whether a time had to be left out.

    Raises:
        RecordRejected: It has no date, or could be two.
    """
    try:
        read = read_moment(field, value, text, rules)
    except NoSuchTime as error:
        return _day(field, error.day), True
    moment = _on_the_wall(field, read, rules)
    return _day(field, moment) + (f"{moment:%H%M%S}" if read.has_time else ""), False


def to_time(field: str, value: object, text: str, rules: MomentRules) -> str:
    """Give HHMMSS; an offset ("+0100") follows if converting it to local time needs the record's date.

    Raises:
        RecordRejected: It is no time of day, or could be two.
    """
    if isinstance(value, datetime.datetime):
        return f"{_on_the_wall(field, Reading(value.replace(tzinfo=None), True, value.tzinfo), rules):%H%M%S}"
    if isinstance(value, datetime.time):
        behind = value.utcoffset()
        return f"{value:%H%M%S}" + ("" if behind is None else write_offset(behind))
    for found, offset in _times_by_format(field, text, rules):
        return f"{found:%H%M%S}" + offset
    match = _TIME.fullmatch(text)
    if match is None and (whole := _whole_moment(field, value, text, rules)) is not None:
        return f"{_on_the_wall(field, whole, rules):%H%M%S}"
    if match is None or has_lost_a_digit(text, rules.time_formats):
        raise RecordRejected(field, "unknown time; expected HH:MM, HH:MM:SS or HHMMSS" + hint(rules, times=True))
    clock = read_clock(match)
    if clock is None:
        raise RecordRejected(field, "there is no such time of day")
    if could_be_a_range(match):
        raise RecordRejected(field, RANGE)
    return f"{clock:%H%M%S}" + (
        write_offset(read_offset(field, match["zone"]).utcoffset(None)) if match["zone"] else ""
    )


def _whole_moment(field: str, value: object, text: str, rules: MomentRules) -> Reading | None:
    """Read a value for a time field that contains the day as well."""
    if len(text) <= LONGEST_CLOCK:
        return None
    try:
        read = read_moment(field, value, text, rules)
    except NoSuchTime:
        raise RecordRejected(field, "there is no such time of day") from None
    except RecordRejected as error:
        if error.reason == RANGE:
            raise
        return None
    return read if read.has_time else None


def move_to_zone(date: str, time: str, rules: MomentRules) -> tuple[str, str]:
    """Convert a date, and a time of day with an offset as `to_time` returns it, to the source's local time."""
    moment = datetime.datetime.strptime(date + time, "%Y%m%d%H%M%S%z")
    try:
        here = rules.local(moment)
    except OverflowError:
        raise RecordRejected("scheduled_start_time", "the time lies outside of the calendar") from None
    return f"{here:%Y%m%d}", f"{here:%H%M%S}"


def _birth_date(value: object, text: str, rules: MomentRules) -> str:
    latest = rules.today()
    if len(text) == 4 and text.isascii() and text.isdecimal():
        if "excel" in rules.date_formats:
            raise RecordRejected(BIRTH_DATE, "could be a year or a spreadsheet's number of a day")
        read = Reading(datetime.datetime(int(text), 1, 1), False) if int(text) else None  # noqa: DTZ001
        if read is None:
            raise RecordRejected(BIRTH_DATE, "there is no such year")
    else:
        try:
            read = read_moment(BIRTH_DATE, value, text, rules)
        except NoSuchTime:
            raise RecordRejected(BIRTH_DATE, _NOT_MIDNIGHT) from None
    moment = read.moment
    if read.has_time and moment.time() != datetime.time():
        # A count of seconds has no day "as written": if it is midnight in the source's zone, it means that day.
        here = rules.local(moment.replace(tzinfo=read.offset)) if read.counted else moment
        if here.time() != datetime.time():
            raise RecordRejected(BIRTH_DATE, _NOT_MIDNIGHT)
        moment = here
    if read.short_year and moment.date() > latest:
        moment = _years_before(moment, 100)
    if moment.date() > latest:
        raise RecordRejected(BIRTH_DATE, "lies in the future")
    if moment.date() in _EMPTY_DAYS:
        raise RecordRejected(BIRTH_DATE, "is what spreadsheets and databases write for an empty date")
    return _day(BIRTH_DATE, moment)


def _years_before(moment: datetime.datetime, years: int) -> datetime.datetime:
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        raise RecordRejected(BIRTH_DATE, "there is no such day") from None


def _times_by_format(field: str, text: str, rules: MomentRules) -> Iterator[tuple[datetime.time, str]]:
    """Yield the time of day by each of the source's formats that fits, and its offset or nothing."""
    for name in (*rules.time_formats, *(name for name in rules.moment_formats if name not in SPECIAL)):
        if name in SPECIAL:
            counted = _time_by_count(name, text, rules)
            if counted is not None:
                yield counted, ""
            continue
        form = compile_format(name)
        said = form.read(text) if form.has_time else None
        if said is None:
            continue
        if form.has_date and "zone" in said:
            read = read_format(field, name, text)
            yield rules.local(read.moment.replace(tzinfo=read.offset)).time(), ""  # type: ignore[union-attr]
        clock = datetime.time(int(said["hour"]), int(said["minute"]), int(said["second"]))
        yield clock, write_offset(read_offset(field, str(said["zone"])).utcoffset(None)) if "zone" in said else ""


def _time_by_count(name: str, text: str, rules: MomentRules) -> datetime.time | None:
    """Read the part of a day that a spreadsheet writes, or a count of seconds."""
    if not NUMBER.fullmatch(text):
        return None
    if name != "excel":
        read = read_count(name, text, None)
        return None if read is None else rules.local(read.moment.replace(tzinfo=datetime.UTC)).time()
    if text.startswith("-") or (text.isdecimal() and text != "0"):
        return None
    seconds = round_seconds(float(text.replace(",", ".")) % 1 * DAY_S, text) % DAY_S
    return (EPOCH + datetime.timedelta(seconds=seconds)).time()


def _on_the_wall(field: str, read: Reading, rules: MomentRules) -> datetime.datetime:
    if read.offset is None or not read.has_time:
        return read.moment
    try:
        return rules.local(read.moment.replace(tzinfo=read.offset))
    except (OverflowError, ValueError):
        raise RecordRejected(field, "the moment lies outside of the calendar") from None


def _day(field: str, moment: datetime.datetime) -> str:
    if moment.year not in YEARS:
        raise RecordRejected(field, f"the year is not between {YEARS.start} and {YEARS.stop - 1}")
    return f"{moment.year:04}{moment.month:02}{moment.day:02}"
