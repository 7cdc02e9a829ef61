"""Converts a source's value for a worklist field into that field's DICOM form; no other module does.

Pure. In: a field, a value, how the source writes values. Out: text, None for nothing, or `RecordRejected`. The
mapper decides whether that rejects the whole record or only the value: the whole record for `STRICT_FIELDS`.

Source: DICOM PS3.5 6.2 (value representations).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as with_default

from pylantir.entry import RECORD_ID_FIELD, START_FIELD, WEIGHT_KG_FIELD, WORKLIST_FIELDS, ValueRule
from pylantir.errors import RecordRejected
from pylantir.settings import EMPTY_VALUES
from pylantir.values import moments, words
from pylantir.values import text as texts
from pylantir.values.readings import MomentRules
from pylantir.values.text import Note

STRICT_FIELDS = frozenset({
    "patient_id", "issuer_of_patient_id", RECORD_ID_FIELD, "accession_number", "study_instance_uid",
    "scheduled_start_date", START_FIELD,
})  # fmt: skip
"""Fields that identify the patient or the day: an unusable value in one of them rejects the whole record."""

SPREADSHEET_ERROR = "a spreadsheet's error stands here instead of a value"

_RULES: Mapping[str, ValueRule] = {
    **WORKLIST_FIELDS,
    RECORD_ID_FIELD: ValueRule(vr="LO", max_length=255),
    WEIGHT_KG_FIELD: WORKLIST_FIELDS["patient_weight_lb"],
    START_FIELD: ValueRule(vr="DT", max_length=14),
}
_IDENTIFIERS = frozenset(name for name in _RULES if name.endswith("_id")) | {
    "accession_number", "hisris_coding_designator",
}  # fmt: skip
_NO_IDENTIFIERS = (
    r"(?:none|null|nan|nat|nil|undefined|n\.?/?a\.?|na|blank|unknown|unk|tbd|tba|-9+|[-._?*/\s]+"
    r"|[<(\[](?:na|n/a|null|none|nil|blank|empty|leer|vide)[>)\]])\Z"
)
"""Words that programs and people write for a missing value; none of them is accepted as a patient ID."""
_no_identifier = re.compile(_NO_IDENTIFIERS, re.IGNORECASE)
_FRACTION_OF_ZERO = r"[0-9]+\.0+\Z"
"""How programs write a column of whole numbers in which one is missing (pandas does)."""
_with_fraction_of_zero = re.compile(_FRACTION_OF_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRules:
    """How one source writes its values.

    Attributes:
        moments: How it writes dates and times.
        empty_values: Words that mean nothing.
    """

    moments: MomentRules = with_default(default_factory=MomentRules)
    empty_values: frozenset[str] = frozenset(EMPTY_VALUES)


DEFAULT_RULES = ValueRules()


def clean_check(name: str) -> Callable[[str], object]:
    """Make a quick check that returns true only for values which `normalise_value` would not change."""
    rule = _RULES.get(name)
    if rule and rule.vr in {"LO", "SH"}:
        nothing = rf"(?!(?i:{_NO_IDENTIFIERS})|{_FRACTION_OF_ZERO})"
        return re.compile(rf"{nothing}[A-Za-z0-9_.-]{{1,{rule.max_length}}}").fullmatch
    if rule and rule.vr == "PN":
        return re.compile(r"[A-Za-z0-9][A-Za-z0-9.'-]{0,30}\^[A-Za-z0-9.'-]{1,31}").fullmatch
    return lambda _: False


def normalise_value(
    name: str, value: object, rules: ValueRules = DEFAULT_RULES, note: Note | None = None
) -> str | None:
    """Convert a source's value for one field into the form that DICOM requires.

    Args:
        name: One of `MAPPING_TARGETS`.
        value: Text, a number, a date, a time, true or false, or None.
        rules: How the source writes its values.
        note: Collects remarks on changes to a value that is kept.

    Returns:
        Dates as YYYYMMDD, times as HHMMSS (both together for `scheduled_start`; followed by its offset if converting
        it needs the record's date), weights (also those in kilograms) in pounds, everything else as DICOM spells
        it. None if the source gives no value. Normalising the result again changes nothing.

    Raises:
        RecordRejected: The value breaks its value representation, or could mean several things.
    """
    try:
        return _normalise(name, value, rules, note or Note())
    except RecordRejected:
        raise
    except Exception as error:  # noqa: BLE001 - a plugin's objects: any method of theirs may raise
        raise texts.unreadable(name, value, error) from None


def _normalise(name: str, value: object, rules: ValueRules, note: Note) -> str | None:
    if texts.is_nothing(value):
        return None
    rule, text = _RULES[name], ""
    is_moment = rule.vr in {"DA", "TM", "DT"}
    if isinstance(value, bool) and name == "pregnancy_status":
        value = str(value)
    if not (is_moment and hasattr(value, "isoformat")):
        text = texts.unwrap(texts.as_text(name, value))
        if not text or text in rules.empty_values:
            return None
        if texts.is_spreadsheet_error(text):
            raise RecordRejected(name, SPREADSHEET_ERROR)
    if is_moment:
        # Some programs write a no-break or thin space before AM and PM.
        text = " ".join(text.removeprefix("'").split())
        return _to_moment(rule.vr, name, value, text, rules.moments, note)
    return _to_text(rule, name, text, note) or None


def _to_moment(vr: str, name: str, value: object, text: str, rules: MomentRules, note: Note) -> str:
    if vr == "DA":
        return moments.to_date(name, value, text, rules)
    if vr == "TM":
        return moments.to_time(name, value, text, rules)
    start, without_time = moments.to_start(name, value, text, rules)
    if without_time:
        note("there is no such time of day; only the date is used", lost=True)
    return start


def _to_text(rule: ValueRule, name: str, text: str, note: Note) -> str:
    if name == RECORD_ID_FIELD and "\\" in text and text.isprintable():
        return _fitting(name, text, rule)
    if name in _IDENTIFIERS:
        text = texts.checked_identifier(name, text)
        if name in STRICT_FIELDS and _no_identifier.match(text):
            raise RecordRejected(name, "a word or mark that stands for nothing; name it in empty_values")
        if _with_fraction_of_zero.match(text):
            note('ends in ".0", as a program writes a number: it may lack leading zeros, and the ".0" may be wrong')
        return _fitting(name, text, rule)
    if rule.vr == "PN":
        cleaned = texts.cleaned_line(name, text, note)
        if not any(map(str.isalnum, cleaned)) and cleaned.strip("^= "):
            raise RecordRejected(name, "has marks only, and no letter")
        return texts.person_name(name, cleaned, note, rule.max_length)
    if rule.vr in {"LO", "SH"}:
        cleaned = texts.cleaned_line(name, text, note, backslash=True)
        if "\\" in cleaned:
            note("a backslash, which separates values in DICOM, is written as a slash")
        return texts.cut_to(rule.max_length, cleaned.replace("\\", "/"), note)
    return _fitting(name, _CONVERTERS[rule.vr](name, text.removeprefix("'"), note), rule)


def _fitting(name: str, text: str, rule: ValueRule) -> str:
    if len(text) > rule.max_length:
        raise RecordRejected(name, f"longer than {rule.max_length} characters")
    return text


def _to_code(name: str, text: str, note: Note) -> str:
    convert = _CODES.get(name)
    return convert(name, text, note) if convert else texts.code_string(name, text)


_CODES: Mapping[str, Callable[[str, str, Note], str]] = {
    "patient_sex": words.sex,
    "performed_procedure_step_status": words.status,
    "modality": words.modality,
}
_CONVERTERS: Mapping[str, Callable[[str, str, Note], str]] = {
    "AE": lambda name, text, _note: texts.checked_ae_title(name, text),
    "CS": _to_code,
    "DS": lambda name, text, _note: words.pounds(name, text, in_kg=name == WEIGHT_KG_FIELD),
    "UI": texts.checked_uid,
    "US": words.pregnancy,
}
