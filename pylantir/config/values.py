"""The kinds of values in the configuration file: the form of each, and the message for a value of another form.

Lives in the process that checks a configuration; imports pydantic.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from pylantir.certificates import read_wanted
from pylantir.config.messages import EXPECTED, RULE, suggestion
from pylantir.config.sections.database import EXPECTED_URL, URL_FORM
from pylantir.config.sections.syslog_url import EXPECTED_SYSLOG, read_syslog_url
from pylantir.entry import STATUSES, WORKLIST_FIELDS
from pylantir.settings import CHARACTER_SETS
from pylantir.values.formats import SPECIAL, compile_format


def expected(what: str) -> WrapValidator:
    """Make a validator that gives the same message, in one phrase, whichever rule a value breaks."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError(EXPECTED, "expected {what}", {"what": what}) from None

    return WrapValidator(check)


def _broken(text: str) -> PydanticCustomError:
    return PydanticCustomError(RULE, "{text}", {"text": text})


def _check_name(name: str) -> str:
    # Control characters, lone surrogates and line separators would break a log line or a process title.
    if not name.strip() or any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in name):
        raise ValueError
    return name


def _check_time_of_day(value: list[int]) -> list[int]:
    limits = (("hour", 23), ("minute", 59))
    parts = zip(limits, value, strict=True)
    wrong = [f"{unit} must be 0-{top}, got {part}" for (unit, top), part in parts if not 0 <= part <= top]
    if wrong:
        raise _broken("; ".join(wrong))
    return value


def _check_timezone(name: str) -> str:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        if not known:
            raise _broken("this system has no time zone database: install the package tzdata") from None
        near = suggestion(name, known) or ': expected an IANA name such as "Europe/Zurich"'
        raise _broken(f'unknown time zone "{name}"{near}') from None
    return name


def _check_format(text: str, wanted: str) -> str:
    # A moment has to survive being written and read back; at 14 hours, a 12-hour format without am and pm fails this.
    moment = datetime(2026, 11, 23, 14, 5)  # noqa: DTZ001 - only its digits count
    if text in SPECIAL:
        return text
    form = compile_format(text)
    said = form.read(moment.strftime(text)) or {}
    units = ("year", "month", "day") if wanted == "date" else ("hour", "minute")
    if wanted != "any" and [said.get(unit) for unit in units] != [getattr(moment, unit) for unit in units]:
        raise ValueError
    if not said:
        raise ValueError
    return text


def _check_pattern(text: str) -> str:
    import re

    try:
        re.compile(text)
    except re.error as error:
        raise _broken(f"not a regular expression: {error.msg}, at character {(error.pos or 0) + 1}") from None
    return text


def _check_field(name: str) -> str:
    if name not in WORKLIST_FIELDS:
        raise _broken(f'unknown worklist field "{name}"{suggestion(name, WORKLIST_FIELDS)}')
    return name


def _check_status(name: str) -> str:
    if name not in STATUSES:
        near = suggestion(name, STATUSES) or f": expected one of {', '.join(STATUSES)}"
        raise _broken(f'unknown status "{name}"{near}')
    return name


def _check_certificate(text: str) -> str:
    try:
        read_wanted(text)
    except ValueError as error:
        raise _broken(str(error)) from None
    return text


def _check_syslog_url(url: str) -> str:
    read_syslog_url(url)
    return url


def _check_network(text: str) -> str:
    import ipaddress

    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise _broken(f'expected an address or a network, as "10.1.2.3" or "10.1.2.0/24", got "{text}"') from None
    return text


def _check_charset(terms: list[str]) -> list[str]:
    for number, term in enumerate(terms):
        if term not in CHARACTER_SETS and (term or number or len(terms) == 1):
            raise _broken(f'unknown character set "{term}"{suggestion(term, CHARACTER_SETS)}')
    if len(terms) > 1 and any(term and not term.startswith("ISO 2022 ") for term in terms):
        raise _broken('several character sets are combined by their ISO 2022 terms only, as "ISO 2022 IR 100"')
    return terms


def _one_or_several(separator: str) -> BeforeValidator:
    """Accept a single text in place of a list; it is split as the values of a DICOM attribute are."""

    def to_list(value: object) -> object:
        return value.split(separator) if isinstance(value, str) else value

    return BeforeValidator(to_list, json_schema_input_type=str | list[str])


def _read_flag(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    # Earlier versions wrote it as a text.
    words = {"true": True, "1": True, "false": False, "0": False, "": False}
    return validate(words.get(value.strip().lower(), value) if isinstance(value, str) else value)


Text = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]*$"), expected("text")]
Seconds = Annotated[float, Field(ge=1, allow_inf_nan=False), expected("a number of seconds >= 1")]
LeaseSeconds = Annotated[
    float, Field(ge=2, le=86_400, allow_inf_nan=False), expected("a number of seconds >= 2 and <= 86400")
]
Flag = Annotated[bool, expected("true or false")]
TextFlag = Annotated[bool, WrapValidator(_read_flag), expected("true or false")]
AeTitle = Annotated[
    str,
    StringConstraints(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$"),
    expected("an AE title: 1-16 printable ASCII characters, no backslash, no space at the ends"),
]
Port = Annotated[int, Field(ge=1, le=65535), expected("a port number 1-65535")]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(_check_name),
    expected("1-255 characters without control characters"),
]
TimeOfDay = Annotated[
    list[int],
    Field(min_length=2, max_length=2),
    expected("[hour, minute]"),
    AfterValidator(_check_time_of_day),
]
TimeZone = Annotated[str, expected("an IANA time zone name"), AfterValidator(_check_timezone)]
_NUMBERED = 'or "excel", "epoch", "epoch_ms"'
_A_DATE = f'a strptime format with day, month and year, such as "%d.%m.%Y", {_NUMBERED}'
_A_TIME = f'a strptime format with hour and minute, such as "%I:%M %p", {_NUMBERED}'
_A_MOMENT = f'a strptime format of a date or a time, such as "%d.%m.%Y", {_NUMBERED}'
DateFormat = Annotated[str, AfterValidator(lambda text: _check_format(text, "date"))]
TimeFormat = Annotated[str, AfterValidator(lambda text: _check_format(text, "time"))]
ValueFormat = Annotated[str, AfterValidator(lambda text: _check_format(text, "any"))]
DateFormats = Annotated[DateFormat | list[DateFormat], expected(f"{_A_DATE}, or a list of them")]
TimeFormats = Annotated[TimeFormat | list[TimeFormat], expected(f"{_A_TIME}, or a list of them")]
ValueFormats = Annotated[ValueFormat | list[ValueFormat], expected(f"{_A_MOMENT}, or a list of them")]
Texts = Annotated[Text | Annotated[list[Text], Field(min_length=1)], expected("text, or a list of texts")]
Words = Annotated[list[str | int | float], expected("a list of texts")]
Meanings = Annotated[dict[str, str | int | float | None], expected("an object: text → text, or null for nothing")]
Pattern = Annotated[
    str, StringConstraints(min_length=1), expected("a regular expression"), AfterValidator(_check_pattern)
]
Prefix = Annotated[
    str,
    StringConstraints(max_length=32, pattern=r"^[!-\[\]-~]*$"),
    expected("at most 32 printable ASCII characters without blanks and backslashes"),
]
Number = Annotated[float, Field(allow_inf_nan=False), expected("a number")]
Minutes = Annotated[float, Field(ge=0, allow_inf_nan=False), expected("a number of minutes >= 0")]
Constant = Annotated[str | int | float, expected("text or a number")]
Days = Annotated[int, Field(ge=0, le=36500), expected("a whole number of days >= 0")]
Status = Annotated[str, expected("the name of a status"), AfterValidator(_check_status)]
SyslogUrl = Annotated[str, AfterValidator(_check_syslog_url), expected(EXPECTED_SYSLOG)]
Network = Annotated[str, expected("an address or a network"), AfterValidator(_check_network)]
Networks = Annotated[list[Network], _one_or_several(",")]
Certificates = Annotated[
    list[Annotated[str, expected("a fingerprint or a subject"), AfterValidator(_check_certificate)]],
    Field(min_length=1),
    _one_or_several("\n"),
]
Charset = Annotated[list[str], _one_or_several("\\"), AfterValidator(_check_charset)]
Code = Annotated[
    str, StringConstraints(pattern=r"^[A-Z0-9_][A-Z0-9_ ]{0,15}$"), expected('a code of capital letters, as "MR"')
]
Codes = Annotated[list[Code], Field(min_length=1), _one_or_several("\\")]
Count = Annotated[int, Field(ge=1, le=1_000_000), expected("a whole number >= 1")]
WorklistField = Annotated[str, expected("the name of a worklist field"), AfterValidator(_check_field)]
DatabaseUrl = Annotated[
    str,
    StringConstraints(pattern=URL_FORM),
    expected(EXPECTED_URL),
]
