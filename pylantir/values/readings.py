"""Reads a date, with or without a time of day, in any form that a source gives it: as written, not converted.

Pure. A text is read only if it has one meaning. `moments` makes the field's value of it.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from pylantir.errors import RecordRejected
from pylantir.values.clocks import CLOCK, RANGE, ZONE, could_be_a_range, read_clock, read_offset
from pylantir.values.formats import SPECIAL, compile_format

YEARS = range(1850, 2200)
_DAY = r"(?P<y>[0-9]{4})(?:(?P<sep>[-/.])(?P<mo>[0-9]{1,2})(?P=sep)(?P<d>[0-9]{1,2})|(?P<md>[0-9]{4}))"
_DICOM_CLOCK = r"(?P<dh>[0-9]{2})(?P<dm>[0-9]{2})(?:(?P<ds>[0-9]{2})(?:\.[0-9]{1,6})?)?"
_DATE = re.compile(rf"{_DAY}(?:(?:[T ](?:{CLOCK})|(?<=[0-9]{{8}}){_DICOM_CLOCK}){ZONE})?")
_DAY_AND_CLOCK = re.compile(rf"(?P<day>.*?[^\s,])(?:,? (?:- )?|T)(?:(?:{CLOCK}){ZONE}|(?P<words>[^0-9]+))")
NUMBER = re.compile(r"-?[0-9]{1,15}(?:[.,][0-9]{1,20})?")
_SERIAL_ORIGIN = datetime.datetime(1899, 12, 30)  # noqa: DTZ001 - a spreadsheet knows no zone
_FIRST_SERIAL = 61
"""Spreadsheets count February 29th, 1900, which did not exist; dates before it are off by one."""
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
DAY_S = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentRules:
    """How a source writes dates and times.

    Attributes:
        date_formats: Formats of dates, `excel`, `epoch` or `epoch_ms`; tried before ISO and DICOM forms.
        time_formats: The same for times.
        zone: The zone to which values with an offset are converted; None: this machine's zone.
        now: Returns the time in a zone; None: this machine's zone.
    """

    date_formats: tuple[str, ...] = ()
    time_formats: tuple[str, ...] = ()
    zone: datetime.tzinfo | None = None
    now: Callable[[datetime.tzinfo | None], datetime.datetime] = datetime.datetime.now

    def today(self) -> datetime.date:
        """Return today's date here or in the source's zone, whichever is later."""
        return max(self.now(None).date(), self.now(self.zone).date())

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
class Reading:
    """One reading of a value: the wall clock as written, whether it has a time of day, its offset, if any.

    `counted`: it is a count of seconds, so that no wall clock was written.
    """

    moment: datetime.datetime
    has_time: bool = True
    offset: datetime.tzinfo | None = None
    short_year: bool = False
    counted: bool = False


class NoSuchTime(Exception):
    """The day can be read, but the time of day cannot."""

    def __init__(self, day: datetime.datetime) -> None:
        super().__init__()
        self.day = day


def read_moment(field: str, value: object, text: str, rules: MomentRules) -> Reading:
    """Read a value in any of the known forms."""
    if isinstance(value, datetime.datetime):
        return Reading(value.replace(tzinfo=None), True, value.tzinfo)
    if isinstance(value, datetime.date):
        return Reading(datetime.datetime(value.year, value.month, value.day), False)  # noqa: DTZ001
    dicom = _DATE.fullmatch(text)
    if (read := _read_by_formats(field, text, dicom, rules)) is not None:
        return read
    if dicom is None and (split := _DAY_AND_CLOCK.fullmatch(text)) is not None:
        return _read_split(field, split, rules)
    if dicom is None or has_lost_a_digit(text, rules.moment_formats):
        raise RecordRejected(field, "unknown or ambiguous date; expected YYYY-MM-DD or YYYYMMDD" + hint(rules))
    month, day = dicom["mo"] or dicom["md"][:2], dicom["d"] or dicom["md"][2:]
    try:
        moment = datetime.datetime(int(dicom["y"]), int(month), int(day))  # noqa: DTZ001
    except ValueError:
        raise RecordRejected(field, "there is no such day") from None
    if not (dicom["h"] or dicom["hh"] or dicom["dh"]):
        return Reading(moment, False)
    clock = read_clock(dicom)
    if clock is None:
        raise NoSuchTime(moment)
    if could_be_a_range(dicom):
        raise RecordRejected(field, RANGE)
    return Reading(
        datetime.datetime.combine(moment, clock), True, read_offset(field, dicom["zone"]) if dicom["zone"] else None
    )


def _read_by_formats(field: str, text: str, dicom: re.Match[str] | None, rules: MomentRules) -> Reading | None:
    """Read a text by the source's formats: a count by the first that fits, a date only if no other format contradicts.

    Raises:
        RecordRejected: 01/02/2026 where the source has both %d/%m/%Y and %m/%d/%Y.
    """
    found: Reading | None = None
    for name in rules.moment_formats:
        if name in SPECIAL:
            read = read_count(name, text, dicom) if found is None else None
        else:
            read = read_format(field, name, text)
        if read is None or read.moment.year not in YEARS:
            continue
        if name in SPECIAL:
            return read
        if found is not None and read.moment != found.moment:
            raise RecordRejected(field, "two formats of its source read it as different days")
        found = found or read
    return found


def _read_split(field: str, split: re.Match[str], rules: MomentRules) -> Reading:
    """Read a day in any form, followed by an ISO time of day or by words in its place."""
    day = read_moment(field, split["day"], split["day"], rules)
    if day.has_time:
        raise RecordRejected(field, "has something unknown behind the time of day; a zone is understood as an offset")
    clock = None if split["words"] else read_clock(split)
    if clock is None:
        raise NoSuchTime(day.moment)
    if could_be_a_range(split):
        raise RecordRejected(field, RANGE)
    zone = read_offset(field, split["zone"]) if split["zone"] else None
    return replace(day, moment=datetime.datetime.combine(day.moment, clock), has_time=True, offset=zone)


def read_format(field: str, name: str, text: str) -> Reading | None:
    """Read a text by one of the source's date formats; None if it has another form."""
    form = compile_format(name)
    said = form.read(text) if form.has_date else None
    if said is None:
        return None
    numbers = [int(said.get(unit, 0)) for unit in ("year", "month", "day", "hour", "minute", "second")]
    zone = read_offset(field, str(said["zone"])) if "zone" in said else None
    return Reading(datetime.datetime(*numbers), form.has_time, zone, form.short_year)  # type: ignore[arg-type]  # noqa: DTZ001


def read_count(name: str, text: str, dicom: re.Match[str] | None) -> Reading | None:
    """Read a number of days or seconds, unless it could also be a DICOM date."""
    if not NUMBER.fullmatch(text) or (dicom is not None and len(text) in {8, 12, 14}):
        return None
    number = float(text.replace(",", "."))
    try:
        if name == "excel":
            if number < _FIRST_SERIAL:
                return None
            day = _SERIAL_ORIGIN + datetime.timedelta(days=math.floor(number))
            seconds = round_seconds(number % 1 * DAY_S, text)
            return Reading(day + datetime.timedelta(seconds=seconds), "." in text or "," in text)
        elapsed_s = math.floor(number / (1000 if name == "epoch_ms" else 1))
        moment = EPOCH + datetime.timedelta(seconds=elapsed_s)
    except OverflowError:
        return None
    return Reading(moment.replace(tzinfo=None), True, datetime.UTC, counted=True)


def round_seconds(seconds: float, text: str) -> int:
    """Round to the whole minute if the number of written digits allows it, else to the nearest second."""
    decimals = len(re.split("[.,]", text)[1]) if re.search("[.,]", text) else 0
    minute = round(seconds / 60) * 60
    return minute if abs(minute - seconds) <= 0.5 * DAY_S * 10.0**-decimals else round(seconds)


def has_lost_a_digit(text: str, formats: Sequence[str]) -> bool:
    """Tell whether a text of digits is shorter than a format of digits: it may have lost a zero."""
    if not (text.isascii() and text.isdecimal()):
        return False
    if len(text) < 4 and "excel" in formats:
        return True
    return any(len(text) < compile_format(name).digits for name in formats if name not in SPECIAL)


def hint(rules: MomentRules, *, times: bool = False) -> str:
    """Say behind what was expected by which key a source says how it writes its dates, or its times."""
    kind, formats = ("time", rules.time_formats) if times else ("date", rules.date_formats)
    if formats:
        return f', or as {kind}_format "{", ".join(formats)}" says'
    return f' (or set "{kind}_format")'
