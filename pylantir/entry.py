"""A worklist entry, its statuses, and the rules that DICOM sets for its values.

Imported by every process: nothing here costs more than the standard library's `re` and `datetime`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pylantir.errors import RecordRejected
from pylantir.invisible import has_invisible, without_invisible

SCHEDULED = "SCHEDULED"
IN_PROGRESS = "IN_PROGRESS"
COMPLETED = "COMPLETED"
DISCONTINUED = "DISCONTINUED"
CANCELED = "CANCELED"
STATUSES = (SCHEDULED, IN_PROGRESS, COMPLETED, DISCONTINUED, CANCELED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRule:
    """What DICOM allows in one worklist field: value representation and longest value in characters.

    Source: DICOM PS3.5 table 6.2-1.
    """

    vr: str
    max_length: int


WORKLIST_FIELDS: Mapping[str, ValueRule] = {
    "study_instance_uid": ValueRule(vr="UI", max_length=64),
    "patient_name": ValueRule(vr="PN", max_length=64),
    "patient_id": ValueRule(vr="LO", max_length=64),
    "patient_birth_date": ValueRule(vr="DA", max_length=8),
    "patient_sex": ValueRule(vr="CS", max_length=16),
    "patient_weight_lb": ValueRule(vr="DS", max_length=16),
    "accession_number": ValueRule(vr="SH", max_length=16),
    "referring_physician_name": ValueRule(vr="PN", max_length=64),
    "modality": ValueRule(vr="CS", max_length=16),
    "study_description": ValueRule(vr="LO", max_length=64),
    "scheduled_station_aetitle": ValueRule(vr="AE", max_length=16),
    "scheduled_start_date": ValueRule(vr="DA", max_length=8),
    "scheduled_start_time": ValueRule(vr="TM", max_length=6),
    "performing_physician": ValueRule(vr="PN", max_length=64),
    "procedure_description": ValueRule(vr="LO", max_length=64),
    "protocol_name": ValueRule(vr="LO", max_length=64),
    "station_name": ValueRule(vr="SH", max_length=16),
    "hisris_coding_designator": ValueRule(vr="SH", max_length=16),
    "performed_procedure_step_status": ValueRule(vr="CS", max_length=16),
    "scheduled_procedure_step_id": ValueRule(vr="SH", max_length=16),
    "requested_procedure_id": ValueRule(vr="SH", max_length=16),
    "scheduled_step_location": ValueRule(vr="SH", max_length=16),
    "requesting_physician": ValueRule(vr="PN", max_length=64),
    "requested_procedure_priority": ValueRule(vr="SH", max_length=16),
    "admission_id": ValueRule(vr="LO", max_length=64),
    "current_patient_location": ValueRule(vr="LO", max_length=64),
    "patient_transport": ValueRule(vr="LO", max_length=64),
    "patient_state": ValueRule(vr="LO", max_length=64),
    "pregnancy_status": ValueRule(vr="US", max_length=1),
    "medical_alerts": ValueRule(vr="LO", max_length=64),
    "allergies": ValueRule(vr="LO", max_length=64),
    "special_needs": ValueRule(vr="LO", max_length=64),
    "pre_medication": ValueRule(vr="LO", max_length=64),
    "contrast_agent": ValueRule(vr="LO", max_length=64),
    "confidentiality": ValueRule(vr="LO", max_length=64),
    "issuer_of_patient_id": ValueRule(vr="LO", max_length=64),
}
"""Worklist field (a column of `worklist_items`) -> its rule."""

RECORD_ID_FIELD = "source_record_id"
"""The source's own identifier of a record: a mapping target, but no DICOM attribute."""

ATTRIBUTES_FIELD = "dicom_attributes"
"""What the `dicom:` targets of a mapping give: JSON text, an object with sorted keys, keyword path -> values."""

RECORD_FIELDS = (*WORKLIST_FIELDS, RECORD_ID_FIELD, ATTRIBUTES_FIELD)
"""What a source can say about a record, in the order in which the database keeps it."""

REQUIRED_FIELDS = ("patient_id", "scheduled_start_date")
"""What a record cannot do without."""

WEIGHT_KG_FIELD = "patient_weight_kg"
"""A mapping target for sources that weigh in kilograms; the entry holds `patient_weight_lb`."""

START_FIELD = "scheduled_start"
"""A mapping target for sources with date and time in one field; the entry holds the two apart."""

MAPPING_TARGETS = frozenset(WORKLIST_FIELDS) | {RECORD_ID_FIELD, WEIGHT_KG_FIELD, START_FIELD}
"""What `field_mapping` and `defaults` may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistEntry:
    """One scheduled step as one source describes it, in DICOM form.

    Attributes:
        record_key: Identity within the source, strongest first: "id:…", "acc:…", "uid:…" or "step:…".
        fields: Worklist field -> value, all text, no empty ones. Dates YYYYMMDD, times HHMMSS, pounds.
            `source_record_id` is among them where the source gave one.
    """

    record_key: str
    fields: Mapping[str, str]


CONSTANT_FALLBACKS: Mapping[str, str] = {"modality": "MR", "scheduled_start_time": "000000"}


def with_fallbacks(fields: Mapping[str, str]) -> dict[str, str]:
    """Complete an entry for display and matching: MR, midnight, the patient ID stand for what nobody gave.

    They are no part of a record, so that a source which does not know never overrules one which does.
    """
    return {
        **CONSTANT_FALLBACKS,
        "patient_name": fields["patient_id"],
        **fields,
    }


_RULES: Mapping[str, ValueRule] = {
    **WORKLIST_FIELDS,
    RECORD_ID_FIELD: ValueRule(vr="LO", max_length=255),
    WEIGHT_KG_FIELD: WORKLIST_FIELDS["patient_weight_lb"],
    START_FIELD: ValueRule(vr="DT", max_length=14),
}
_IDENTIFIERS = frozenset(name for name in _RULES if name.endswith("_id")) | {
    "accession_number",
    "study_instance_uid",
    "scheduled_station_aetitle",
}
_SEXES = {
    **dict.fromkeys(("M", "MALE", "MAN", "BOY"), "M"),
    **dict.fromkeys(("F", "FEMALE", "WOMAN", "GIRL"), "F"),
    **dict.fromkeys(("O", "OTHER", "X", "DIVERSE", "INTERSEX", "NON-BINARY", "NONBINARY"), "O"),
    **dict.fromkeys(("U", "UNK", "UNKNOWN", "NOT KNOWN", "UNDISCLOSED", "UNSPECIFIED", "N/A", "NA"), ""),
}
_STATUS_WORDS = {
    **dict.fromkeys(("SCHEDULED", "PLANNED", "BOOKED", "ARRIVED", "READY"), SCHEDULED),
    **dict.fromkeys(("IN PROGRESS", "STARTED"), IN_PROGRESS),
    **dict.fromkeys(("COMPLETED", "COMPLETE", "DONE", "FINISHED"), COMPLETED),
    **dict.fromkeys(("DISCONTINUED", "ABORTED"), DISCONTINUED),
    **dict.fromkeys(("CANCELED", "CANCELLED"), CANCELED),
}
_LINE_SPACE = re.compile(r"[ ]*[\t\n\v\f\r\x85\u2028\u2029]+[ ]*")
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_CLOCK = (
    r"(?P<h>[0-9]{1,2}):(?P<m>[0-9]{2})(?::(?P<s>[0-9]{2})(?:[.,][0-9]{1,9})?)?"
    r"|(?P<hh>[0-9]{2})(?:(?P<mm>[0-9]{2})(?:(?P<ss>[0-9]{2})(?:\.[0-9]{1,9})?)?)?"
)
_ZONE = r"(?: ?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?))?"
_DAY = r"(?P<y>[0-9]{4})(?:(?P<sep>[-/.])(?P<mo>[0-9]{1,2})(?P=sep)(?P<d>[0-9]{1,2})|(?P<md>[0-9]{4}))"
_DATE = re.compile(rf"{_DAY}(?:[T ](?:{_CLOCK}){_ZONE})?")
_TIME = re.compile(rf"(?:{_DAY}[T ])?(?:{_CLOCK}){_ZONE}")
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_CODE = re.compile(r"[A-Z0-9_ ]+")
_WEIGHT = re.compile(r"[0-9]{1,6}(?:\.[0-9]*)?")
_SHORTENED = re.compile(r"[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]+")
_POUNDS_PER_KG = 2.2046226218487757
_HEAVIEST_LB = 1500.0
_YEARS = range(1850, 2200)
_EXACT_FLOATS = 2**53


def clean_check(field: str) -> Callable[[str], object]:
    """Make a quick check that is true only of values which `normalise_value` would leave as they are."""
    rule = _RULES.get(field)
    if rule and rule.vr in {"LO", "SH"}:
        return re.compile(rf"(?!NaN\Z)[A-Za-z0-9_.-]{{1,{rule.max_length}}}").fullmatch
    if rule and rule.vr == "PN":
        return re.compile(r"[A-Za-z0-9.'-]{1,31}\^[A-Za-z0-9.'-]{1,31}").fullmatch
    return lambda _: False


def normalise_value(
    field: str, value: object, *, date_format: str | None = None, time_format: str | None = None
) -> str | None:
    """Bring what a source gave for one field into the form that DICOM sets for it.

    Args:
        field: One of `MAPPING_TARGETS`.
        value: Text, a number, a date, a time, or None.
        date_format: `strptime` format of the source's dates, tried before ISO and DICOM forms.
        time_format: The same for its times.

    Returns:
        Dates as YYYYMMDD, times as HHMMSS (both together for `scheduled_start`), weights (also those in kilograms)
        in pounds, everything else as DICOM spells it. None where the source does not know. A UTC offset is
        dropped, not applied. Normalising the result again changes nothing.

    Raises:
        RecordRejected: The value breaks its value representation, or could mean several things.

    Source: DICOM PS3.5 6.2 (value representations), PS3.3 C.7.1.1 (patient's sex), C.4.13 (pregnancy status).
    """
    rule = _RULES[field]
    if rule.vr == "DA":
        return _to_date(field, value, date_format)
    if rule.vr == "TM":
        return _to_time(field, value, time_format)
    if rule.vr == "DT":
        return _to_start(field, value, date_format)
    text = _to_text(field, value)
    if not text:
        return None
    converted = _CONVERTERS.get(rule.vr, _check_text)(field, text)
    longest = max(map(len, converted.split("="))) if rule.vr == "PN" else len(converted)
    if longest > rule.max_length:
        raise RecordRejected(field, f"{longest} characters long; at most {rule.max_length} are allowed")
    return converted or None


def _to_text(field: str, value: object) -> str:
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.isprintable() and "\\" not in text:
            return "" if text == "NaN" else text
        if field not in _IDENTIFIERS:
            text = without_invisible(_LINE_SPACE.sub(" ", text)).strip()
        if _UNUSABLE.search(text) and not (field == RECORD_ID_FIELD and text.isprintable()):
            raise RecordRejected(field, "contains a backslash or a control character")
        return text
    if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return ""
    if isinstance(value, bool) or not hasattr(value, "as_integer_ratio"):
        raise RecordRejected(field, f"expected text or a number, got a value of type {type(value).__name__}")
    if isinstance(value, float) and abs(value) >= _EXACT_FLOATS:
        raise RecordRejected(field, "a number too large to be exact; let the source give it as text")
    return str(int(value) if value == int(value) else value)  # type: ignore[call-overload]


def _check_text(field: str, text: str) -> str:
    if field not in _IDENTIFIERS:
        return text
    if not text.isprintable() or has_invisible(text):
        raise RecordRejected(field, "contains an invisible character; two identifiers could look the same")
    if _SHORTENED.fullmatch(text):
        reason = "looks like a number that a spreadsheet shortened (1.2E+05); format the column as text"
        raise RecordRejected(field, reason)
    return text


def _check_uid(field: str, text: str) -> str:
    if not _UID.fullmatch(text):
        raise RecordRejected(field, 'not a UID: expected numbers joined by dots, as "1.2.840.1"')
    return text


def _check_ae_title(field: str, text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise RecordRejected(field, "an AE title has only ASCII letters, digits and punctuation")
    return text


def _to_date(field: str, value: object, date_format: str | None) -> str | None:
    if isinstance(value, datetime.date):
        return _checked_date(field, value.year, value.month, value.day)
    text = _to_text(field, value)
    if not text:
        return None
    if date_format:
        try:
            day = datetime.datetime.strptime(text, date_format)  # noqa: DTZ007 - a date on the wall
        except ValueError:
            pass
        else:
            return _checked_date(field, day.year, day.month, day.day)
    if len(text) == 4 and text.isascii() and text.isdecimal() and field == "patient_birth_date":
        return _checked_date(field, int(text), 1, 1)
    match = _DATE.fullmatch(text)
    if match is None:
        reason = "unknown or ambiguous date; expected YYYY-MM-DD or YYYYMMDD"
        hint = f', or as date_format "{date_format}" says' if date_format else ' (or set "date_format")'
        raise RecordRejected(field, reason + hint)
    month, day_of_month = match["mo"] or match["md"][:2], match["d"] or match["md"][2:]
    return _checked_date(field, int(match["y"]), int(month), int(day_of_month))


def _checked_date(field: str, year: int, month: int, day: int) -> str:
    try:
        datetime.date(year, month, day)
    except ValueError:
        raise RecordRejected(field, "there is no such day") from None
    if year not in _YEARS:
        raise RecordRejected(field, f"the year is not between {_YEARS.start} and {_YEARS.stop - 1}")
    return f"{year:04}{month:02}{day:02}"


def _to_time(field: str, value: object, time_format: str | None) -> str | None:
    if isinstance(value, datetime.datetime | datetime.time):
        return value.strftime("%H%M%S")
    text = _to_text(field, value)
    if not text:
        return None
    if time_format:
        try:
            return datetime.datetime.strptime(text, time_format).strftime("%H%M%S")  # noqa: DTZ007
        except ValueError:
            pass
    match = _TIME.fullmatch(text)
    if match is None:
        hint = f', or as time_format "{time_format}" says' if time_format else ' (or set "time_format")'
        raise RecordRejected(field, "unknown time; expected HH:MM, HH:MM:SS or HHMMSS" + hint)
    hour, minute, second = (int(match[a] or match[b] or 0) for a, b in (("h", "hh"), ("m", "mm"), ("s", "ss")))
    if hour > 23 or minute > 59 or second > 59:
        raise RecordRejected(field, "there is no such time of day")
    return f"{hour:02}{minute:02}{second:02}"


def _to_start(field: str, value: object, date_format: str | None) -> str | None:
    """Give YYYYMMDD, and HHMMSS behind it if the value holds a time."""
    date = _to_date(field, value, date_format)
    format_has_time = date_format is not None and ("%H" in date_format or "%I" in date_format)
    if isinstance(value, datetime.date):
        has_time = isinstance(value, datetime.datetime)
    else:
        has_time = format_has_time or _TIME.fullmatch(str(value).strip()) is not None
    return date + (_to_time(field, value, date_format) or "") if date and has_time else date


def _to_person_name(field: str, text: str) -> str:
    groups = ["^".join(part.strip() for part in group.split("^")).rstrip("^") for group in text.split("=")]
    name = "=".join(groups).rstrip("=")
    if name.count(",") == 1 and "^" not in name and "=" not in name:
        name = "^".join(part.strip() for part in name.split(",")).rstrip("^")
    if len(groups) > 3 or any(group.count("^") > 4 for group in groups):
        raise RecordRejected(field, "a person name has at most 3 groups (=) of 5 components (^)")
    return name


def _to_pounds(field: str, text: str) -> str:
    weight = float(text) if _WEIGHT.fullmatch(text) else 0.0
    pounds = round(weight * _POUNDS_PER_KG if field == WEIGHT_KG_FIELD else weight, 4)
    if not 0 < pounds <= _HEAVIEST_LB:
        reason = f"expected a positive number without a unit, of at most {_HEAVIEST_LB:.0f} pounds"
        raise RecordRejected(field, reason)
    return f"{pounds:.4f}".rstrip("0").rstrip(".")


def _to_pregnancy_status(field: str, text: str) -> str:
    if text not in {"1", "2", "3", "4"}:
        raise RecordRejected(field, "expected 1 (no), 2 (possibly), 3 (yes) or 4 (unknown)")
    return text


def _to_code(field: str, text: str) -> str:
    code = text.upper()
    if field == "patient_sex":
        if code not in _SEXES:
            raise RecordRejected(field, "expected M, F, O, male, female, other or unknown")
        return _SEXES[code]
    if field == "performed_procedure_step_status":
        status = _STATUS_WORDS.get(code.replace("_", " "))
        if status is None:
            raise RecordRejected(field, f"expected one of {', '.join(STATUSES)}")
        return status
    if field == "modality" and code == "MRI":
        return "MR"
    if not _CODE.fullmatch(code):
        raise RecordRejected(field, "expected letters, digits, blanks and _ only")
    return code


_CONVERTERS: Mapping[str, Callable[[str, str], str]] = {
    "AE": _check_ae_title,
    "CS": _to_code,
    "DS": _to_pounds,
    "PN": _to_person_name,
    "UI": _check_uid,
    "US": _to_pregnancy_status,
}
