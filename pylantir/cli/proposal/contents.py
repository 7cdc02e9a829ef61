"""Analyses the values of a column: how its dates are written, and which words mean a sex or no value.

Lives in `pylantir init`. Pure: texts in, formats and tables out. Proposes a format only if no other one fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pylantir.errors import RecordRejected
from pylantir.values.normalise import ValueRules, normalise_value
from pylantir.values.readings import MomentRules

DAY_FIRST = ("%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%d-%m-%Y", "%d/%m/%y", "%d-%m-%y", "%d %m %Y")
MONTH_FIRST = ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y", "%m-%d-%y", "%m.%d.%Y")
NAMED_MONTH = ("%d-%b-%Y", "%d %b %Y", "%d-%b-%y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d. %B %Y", "%d%b%Y")
TIMES = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p", "%H.%M", "%Hh%M", "%H:%M Uhr", "%H.%M Uhr")
NUMBERS = {"excel": r"[1-9][0-9]{4}(?:[.,][0-9]+)?", "epoch": r"[0-9]{9,10}", "epoch_ms": r"[0-9]{12,13}"}
"""Format -> what its counts look like for the days of the living."""
_DICOM_CLOCK = r"(?:[01]\d|2[0-3])[0-5]\d"
_FRACTION = r"(?:0|0?[.,][0-9]+)"


def set_of(words: str) -> frozenset[str]:
    """Split a text into words at its blanks; `_` stands for a blank within a word."""
    return frozenset(word.replace("_", " ") for word in words.split())


WORDS_FOR_NOTHING = set_of(
    "na n/a #n/a null none nan nil - -- --- . ? ?? unk unknown not_known not_available tbd tba n.a. n.v. k.a. k.a k._a."
    " keine keine_angabe unbekannt offen nc n.c. ns n.r. inconnu inconnue non_renseigné desconocido desconocida s/d"
    " n.d. nd sin_datos no_consta -999 -9 #ref! #value!"
)
_FEMALE = set_of("f female w weiblich frau femme féminin feminin mujer femenino femenina fem woman girl")
_MALE = set_of("m male man mann männlich maennlich homme masculin hombre masculino varón varon masc boy herr h v")
_OTHER = set_of("d divers diverse o other x autre otro otra intersex")


def distinct(values: Iterable[str]) -> list[str]:
    """Return the different values that are not empty, in their order."""
    return [value for value in dict.fromkeys(value.strip() for value in values) if value]


def says_nothing(value: str) -> bool:
    """Say whether a text is a word for a missing value, such as "n/a"."""
    return value.strip().casefold() in WORDS_FOR_NOTHING


def formats_that_fit(field: str, values: Sequence[str], formats: Sequence[str]) -> list[str]:
    """Return the formats that can read every value."""
    return [one for one in formats if all(_is_read(field, value, one) for value in values)]


def date_format(field: str, values: Sequence[str]) -> tuple[str | None, str]:
    """Find out how a column's dates (or moments) are written.

    Args:
        field: The worklist field that they become.
        values: Different texts, none of them empty.

    Returns:
        The format, "" if none is needed, None if it cannot be told; and why it cannot.
    """
    if all(_is_read(field, value, "") for value in values):
        return "", ""
    formats: list[str] = [*DAY_FIRST, *MONTH_FIRST, *NAMED_MONTH]
    if field == "scheduled_start":
        dates = [*formats, "%Y-%m-%d", "%Y/%m/%d"]
        formats = [
            f"{date}{between}{time}" for date in dates for between in (" ", ", ", "T") for time in TIMES
        ] + formats
    fit = formats_that_fit(field, values, formats)
    if not fit:
        counts = [name for name, form in NUMBERS.items() if all(re.fullmatch(form, value) for value in values)]
        fit = formats_that_fit(field, values, counts)
        return (fit[0], "") if len(fit) == 1 else (None, "its dates are written in no way that is known here")
    by_month = [one for one in fit if one.startswith(("%m/", "%m-"))]
    by_day = [one for one in fit if one.startswith(("%d/", "%d-%m"))]
    if by_month and by_day:
        return None, f'day and month cannot be told apart: set "format" to "{by_day[0]}" or "{by_month[0]}"'
    return fit[0], ""


def time_format(values: Sequence[str]) -> str | None:
    """Find out how a column's times are written; "" if no format is needed, None if it cannot be told."""
    if all(_is_read("scheduled_start_time", value, "") for value in values):
        return ""
    return next(iter(formats_that_fit("scheduled_start_time", values, (*TIMES, "excel"))), None)


def holds_times(values: Sequence[str]) -> bool:
    """Say whether a column has times of day, without a date."""
    return (
        bool(values)
        and all(
            re.match(rf"\d{{1,2}}([:.h]\d{{2}}|\s?[ap]\.?m)|(?:{_DICOM_CLOCK}|{_FRACTION})$", value, re.IGNORECASE)
            for value in values
        )
        and (time_format(values) is not None)
    )


def holds_moments(values: Sequence[str]) -> bool:
    """Say whether a column has dates with times of day."""
    return any(re.search(r"\d[T ,]+\s*\d{1,2}[:.h]\d{2}|^\d{12,14}$", value) for value in values)


def has_offsets(values: Iterable[str]) -> bool:
    """Say whether moments have an offset from UTC."""
    return any(re.search(r"\d{2}:?\d{2}(?::?\d{2}(?:\.\d+)?)? ?(?:Z|[+-]\d{2}:?\d{2})$", value) for value in values)


def sex_table(values: Sequence[str]) -> tuple[dict[str, str] | None, list[str]]:
    """Translate the words of a column into M, F, O.

    Returns:
        Word -> letter; None if the words are M, F, O themselves. And the words whose meaning is unknown.
    """
    words = {value: value.casefold() for value in values}
    # Spanish: H(ombre) or V(arón) beside M(ujer).
    spanish = {"h", "v"} & set(words.values()) and "m" in words.values() and "f" not in words.values()
    table, unknown = {}, []
    for value, word in words.items():
        if word in _FEMALE or (spanish and word == "m"):
            table[value] = "F"
        elif word in _MALE:
            table[value] = "M"
        elif word in _OTHER:
            table[value] = "O"
        else:
            unknown.append(value)
    return (None if all(value == letter for value, letter in table.items()) else table), unknown


def _is_read(field: str, value: str, one_format: str) -> bool:
    formats = (one_format,) if one_format else ()
    rules = ValueRules(moments=MomentRules(date_formats=formats, time_formats=formats))
    try:
        return normalise_value(field, value, rules) is not None
    except (RecordRejected, ValueError):
        return False
