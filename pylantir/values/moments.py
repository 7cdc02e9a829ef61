"""Reads dates, times of day and moments in any form that a source gives them.

Pure but for the machine's time zone and today's date. A text is read only if it has one meaning. A value with an
offset is converted to the source's time zone; a birth date is never converted.

Source: DICOM PS3.5 6.2 (DA, TM, DT).
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from pylantir.errors import RecordRejected
from pylantir.values.formats import SPECIAL, compile_format

BIRTH_DATE = "patient_birth_date"
YEARS = range(1850, 2200)

_CLOCK = (
    r"(?P<h>[0-9]{1,2}):(?P<m>[0-9]{2})(?::(?P<s>[0-9]{2})(?:[.,][0-9]{1,9})?)?"
    r"(?: ?(?P<half>[AaPp])\.? ?[Mm]\.?| ?(?:Uhr|[Hh]))?"
    r"|(?P<hh>[0-9]{2})(?:(?P<mm>[0-9]{2})(?:(?P<ss>[0-9]{2})(?:\.[0-9]{1,9})?)?)?"
)
_ZONE = r"(?: ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)(?:\[[A-Za-z0-9_/+-]+\])?)?"
_DAY = r"(?P<y>[0-9]{4})(?:(?P<sep>[-/.])(?P<mo>[0-9]{1,2})(?P=sep)(?P<d>[0-9]{1,2})|(?P<md>[0-9]{4}))"
_DICOM_CLOCK = r"(?P<dh>[0-9]{2})(?P<dm>[0-9]{2})(?:(?P<ds>[0-9]{2})(?:\.[0-9]{1,6})?)?"
_DATE = re.compile(rf"{_DAY}(?:(?:[T ](?:{_CLOCK})|(?<=[0-9]{{8}}){_DICOM_CLOCK}){_ZONE})?")
_DAY_AND_CLOCK = re.compile(rf"(?P<day>.*?[^\s,])(?:,? (?:- )?|T)(?:(?:{_CLOCK}){_ZONE}|(?P<words>[^0-9]+))")
_TIME = re.compile(rf"(?:{_CLOCK}){_ZONE}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:[.,][0-9]{1,20})?")
_SERIAL_ORIGIN = datetime.datetime(1899, 12, 30)  # noqa: DTZ001 - a spreadsheet knows no zone
_FIRST_SERIAL = 61
"""Spreadsheets count February 29th, 1900, which did not exist; dates before it are off by one."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY_S = 86400
_OFFSET_MINUTES = range(-12 * 60, 14 * 60 + 1)
LONGEST_CLOCK = 8
"""Characters of HH:MM:SS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentRules:
    """How a source writes dates and times.

    Attributes:
        date_formats: Formats of dates, `excel`, `epoch` or `epoch_ms`; tried before ISO and DICOM forms.
        time_formats: The same for times.
        zone: The zone to which values with an offset are converted; None: this machine's zone.
    """

    date_formats: tuple[str, ...] = ()
    time_formats: tuple[str, ...] = ()
    zone: datetime.tzinfo | None = None

    def local(self, moment: datetime.datetime) -> datetime.datetime:
        """Convert an aware moment to the source's wall clock."""
        return moment.astimezone(self.zone).replace(tzinfo=None)

    @property
    def moment_formats(self) -> tuple[str, ...]:
        """Return each date format followed by each time format, and each of them alone."""
        return _combined(self.date_formats, self.time_formats)


@lru_cache(maxsize=64)
def _combined(dates: tuple[str, ...], times: tuple[str, ...]) -> tuple[str, ...]:
    def is_only(name: str, *, date: bool) -> bool:
        form = None if name in SPECIAL else compile_format(name)
        return form is not None and form.has_date is date and form.has_time is not date

    whole = tuple(
        f"{date} {time}" for date in dates if is_only(date, date=True) for time in times if is_only(time, date=False)
    )
    return (*dates, *whole)


@dataclass(frozen=True, slots=True)
class _Read:
    """One reading of a value: the wall clock as written, whether it has a time of day, its offset, if any.

    `counted`: it is a count of seconds, so that no wall clock was written.
    """

    moment: datetime.datetime
    has_time: bool = True
    offset: datetime.tzinfo | None = None
    short_year: bool = False
    counted: bool = False


class _NoSuchTime(Exception):
    """The day can be read, but the time of day cannot."""

    def __init__(self, day: datetime.datetime) -> None:
        super().__init__()
        self.day = day


def to_date(field: str, value: object, text: str, rules: MomentRules) -> str:
    """Give YYYYMMDD.

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
        read = _read(field, value, text, rules)
    except _NoSuchTime as error:
        return _day(field, error.day)
    return _day(field, _on_the_wall(field, read, rules))


def to_start(field: str, value: object, text: str, rules: MomentRules) -> tuple[str, bool]:
    """Give YYYYMMDD, with HHMMSS behind it if the value has a time; and whether a time had to be left out.

    Raises:
        RecordRejected: It has no date, or could be two.
    """
    try:
        read = _read(field, value, text, rules)
    except _NoSuchTime as error:
        return _day(field, error.day), True
    moment = _on_the_wall(field, read, rules)
    return _day(field, moment) + (f"{moment:%H%M%S}" if read.has_time else ""), False


def to_time(field: str, value: object, text: str, rules: MomentRules) -> str:
    """Give HHMMSS; an offset ("+0100") follows if converting it to local time needs the record's date.

    Raises:
        RecordRejected: It is no time of day, or could be two.
    """
    if isinstance(value, datetime.datetime):
        return f"{_on_the_wall(field, _Read(value.replace(tzinfo=None), True, value.tzinfo), rules):%H%M%S}"
    if isinstance(value, datetime.time):
        behind = value.utcoffset()
        return f"{value:%H%M%S}" + ("" if behind is None else _written(behind))
    for found, offset in _times_by_format(field, text, rules):
        return f"{found:%H%M%S}" + offset
    match = _TIME.fullmatch(text)
    if match is None and (whole := _whole_moment(field, value, text, rules)) is not None:
        return f"{_on_the_wall(field, whole, rules):%H%M%S}"
    if match is None or _lost_a_digit(text, rules.time_formats):
        raise RecordRejected(field, "unknown time; expected HH:MM, HH:MM:SS or HHMMSS" + _hint(rules, times=True))
    clock = _clock(match)
    if clock is None:
        raise RecordRejected(field, "there is no such time of day")
    if _could_be_a_range(match):
        raise RecordRejected(field, _RANGE)
    return f"{clock:%H%M%S}" + (_written(_offset(field, match["zone"]).utcoffset(None)) if match["zone"] else "")


def _whole_moment(field: str, value: object, text: str, rules: MomentRules) -> _Read | None:
    """Read a value for a time field that contains the day as well."""
    if len(text) <= LONGEST_CLOCK:
        return None
    try:
        read = _read(field, value, text, rules)
    except _NoSuchTime:
        raise RecordRejected(field, "there is no such time of day") from None
    except RecordRejected as error:
        if error.reason == _RANGE:
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
    latest = max(datetime.date.today(), datetime.datetime.now(rules.zone).date())  # noqa: DTZ011 - on the wall
    if len(text) == 4 and text.isascii() and text.isdecimal():
        if "excel" in rules.date_formats:
            raise RecordRejected(BIRTH_DATE, "could be a year or a spreadsheet's number of a day")
        read = _Read(datetime.datetime(int(text), 1, 1), False) if int(text) else None  # noqa: DTZ001
        if read is None:
            raise RecordRejected(BIRTH_DATE, "there is no such year")
    else:
        try:
            read = _read(BIRTH_DATE, value, text, rules)
        except _NoSuchTime:
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
    return _day(BIRTH_DATE, moment)


_NOT_MIDNIGHT = "has a time of day, so a time zone may have moved it to another day; give the day alone"


_RANGE = "could be a range of times or a time with an offset; give the start alone, or seconds before the offset"


def _could_be_a_range(match: re.Match[str]) -> bool:
    """Tell whether a range such as "09:30-11:00" is meant; after seconds or a T, "-11:00" can only be an offset."""
    is_dicom = match.groupdict().get("dh")
    has_seconds = match["s"] or match["ss"]
    return (match["zone"] or "").startswith("-") and not (is_dicom or has_seconds or "T" in match.string)


def _years_before(moment: datetime.datetime, years: int) -> datetime.datetime:
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        raise RecordRejected(BIRTH_DATE, "there is no such day") from None


def _read(field: str, value: object, text: str, rules: MomentRules) -> _Read:
    """Read a value in any of the known forms."""
    if isinstance(value, datetime.datetime):
        return _Read(value.replace(tzinfo=None), True, value.tzinfo)
    if isinstance(value, datetime.date):
        return _Read(datetime.datetime(value.year, value.month, value.day), False)  # noqa: DTZ001
    dicom = _DATE.fullmatch(text)
    for name in rules.moment_formats:
        read = _read_count(name, text, dicom) if name in SPECIAL else _read_format(field, name, text)
        if read is not None and read.moment.year in YEARS:
            return read
    if dicom is None and (split := _DAY_AND_CLOCK.fullmatch(text)) is not None:
        return _read_split(field, split, rules)
    if dicom is None or _lost_a_digit(text, rules.moment_formats):
        raise RecordRejected(field, "unknown or ambiguous date; expected YYYY-MM-DD or YYYYMMDD" + _hint(rules))
    month, day = dicom["mo"] or dicom["md"][:2], dicom["d"] or dicom["md"][2:]
    try:
        moment = datetime.datetime(int(dicom["y"]), int(month), int(day))  # noqa: DTZ001
    except ValueError:
        raise RecordRejected(field, "there is no such day") from None
    if not (dicom["h"] or dicom["hh"] or dicom["dh"]):
        return _Read(moment, False)
    clock = _clock(dicom)
    if clock is None:
        raise _NoSuchTime(moment)
    if _could_be_a_range(dicom):
        raise RecordRejected(field, _RANGE)
    return _Read(
        datetime.datetime.combine(moment, clock), True, _offset(field, dicom["zone"]) if dicom["zone"] else None
    )


def _read_split(field: str, split: re.Match[str], rules: MomentRules) -> _Read:
    """Read a day in any form, followed by an ISO time of day or by words in its place."""
    day = _read(field, split["day"], split["day"], rules)
    if day.has_time:
        raise RecordRejected(field, "has something unknown behind the time of day; a zone is understood as an offset")
    clock = None if split["words"] else _clock(split)
    if clock is None:
        raise _NoSuchTime(day.moment)
    if _could_be_a_range(split):
        raise RecordRejected(field, _RANGE)
    zone = _offset(field, split["zone"]) if split["zone"] else None
    return replace(day, moment=datetime.datetime.combine(day.moment, clock), has_time=True, offset=zone)


def _read_format(field: str, name: str, text: str) -> _Read | None:
    form = compile_format(name)
    said = form.read(text) if form.has_date else None
    if said is None:
        return None
    numbers = [int(said.get(unit, 0)) for unit in ("year", "month", "day", "hour", "minute", "second")]
    zone = _offset(field, str(said["zone"])) if "zone" in said else None
    return _Read(datetime.datetime(*numbers), form.has_time, zone, form.short_year)  # type: ignore[arg-type]  # noqa: DTZ001


def _read_count(name: str, text: str, dicom: re.Match[str] | None) -> _Read | None:
    """Read a number of days or seconds, unless it could also be a DICOM date."""
    if not _NUMBER.fullmatch(text) or (dicom is not None and len(text) in {8, 12, 14}):
        return None
    number = float(text.replace(",", "."))
    try:
        if name == "excel":
            if number < _FIRST_SERIAL:
                return None
            day = _SERIAL_ORIGIN + datetime.timedelta(days=math.floor(number))
            seconds = _roundest(number % 1 * _DAY_S, text)
            return _Read(day + datetime.timedelta(seconds=seconds), "." in text or "," in text)
        elapsed_s = math.floor(number / (1000 if name == "epoch_ms" else 1))
        moment = _EPOCH + datetime.timedelta(seconds=elapsed_s)
    except OverflowError:
        return None
    return _Read(moment.replace(tzinfo=None), True, datetime.UTC, counted=True)


def _times_by_format(field: str, text: str, rules: MomentRules) -> Iterator[tuple[datetime.time, str]]:
    for name in (*rules.time_formats, *(name for name in rules.moment_formats if name not in SPECIAL)):
        if name not in SPECIAL:
            form = compile_format(name)
            said = form.read(text) if form.has_time else None
            if said is not None:
                clock = datetime.time(int(said["hour"]), int(said["minute"]), int(said["second"]))
                if form.has_date and "zone" in said:
                    read = _read_format(field, name, text)
                    yield rules.local(read.moment.replace(tzinfo=read.offset)).time(), ""  # type: ignore[union-attr]
                yield clock, _written(_offset(field, str(said["zone"])).utcoffset(None)) if "zone" in said else ""
        elif _NUMBER.fullmatch(text):
            if name == "excel":
                fraction = float(text.replace(",", ".")) % 1
                if text.startswith("-") or (text.isdecimal() and text != "0"):
                    continue
                seconds = _roundest(fraction * _DAY_S, text) % _DAY_S
                yield (_EPOCH + datetime.timedelta(seconds=seconds)).time(), ""
            else:
                read = _read_count(name, text, None)
                if read is not None:
                    yield rules.local(read.moment.replace(tzinfo=datetime.UTC)).time(), ""


def _roundest(seconds: float, text: str) -> int:
    """Round to the whole minute if the number of written digits allows it, else to the nearest second."""
    decimals = len(re.split("[.,]", text)[1]) if re.search("[.,]", text) else 0
    minute = round(seconds / 60) * 60
    return minute if abs(minute - seconds) <= 0.5 * _DAY_S * 10.0**-decimals else round(seconds)


def _lost_a_digit(text: str, formats: Sequence[str]) -> bool:
    """Tell whether a text of digits is shorter than a format of digits: it may have lost a zero."""
    if not (text.isascii() and text.isdecimal()):
        return False
    if len(text) < 4 and "excel" in formats:
        return True
    return any(len(text) < compile_format(name).digits for name in formats if name not in SPECIAL)


def _clock(match: re.Match[str]) -> datetime.time | None:
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


def _offset(field: str, zone: str) -> datetime.timezone:
    if zone.upper() in {"Z", "UTC", "GMT"}:
        return datetime.UTC
    digits = zone[1:].replace(":", "")
    minutes = (int(digits[:2]) * 60 + int(digits[2:4] or 0)) * (-1 if zone[0] == "-" else 1)
    if minutes not in _OFFSET_MINUTES or int(digits[2:4] or 0) > 59:
        raise RecordRejected(field, "no place on earth has this offset")
    return datetime.timezone(datetime.timedelta(minutes=minutes))


def _written(offset: datetime.timedelta | None) -> str:
    minutes = round((offset or datetime.timedelta()).total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


def _on_the_wall(field: str, read: _Read, rules: MomentRules) -> datetime.datetime:
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


def _hint(rules: MomentRules, *, times: bool = False) -> str:
    kind, formats = ("time", rules.time_formats) if times else ("date", rules.date_formats)
    if formats:
        return f', or as {kind}_format "{", ".join(formats)}" says'
    return f' (or set "{kind}_format")'
