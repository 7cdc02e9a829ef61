"""Turns the `dicom:` targets of one record into DICOM attributes, and assembles sequences from their parts.

Pure. In: target -> value as the source gave it; out: path of the attribute -> its values, or the items of its sequence.
What is unusable or incomplete is left out and told.

Source: DICOM PS3.4 table K.6-1; PS3.3 8.8 (codes: Code Value up to 16 characters, else Long Code Value), 10.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pylantir.errors import RecordRejected
from pylantir.targets import LONGEST, PREFIX, TARGETS, Target, find_target
from pylantir.values import moments, words
from pylantir.values import text as texts
from pylantir.values.normalise import SPREADSHEET_ERROR, ValueRules
from pylantir.values.text import Note

Attributes = dict[str, "list[str] | list[dict[str, str]]"]
Told = Callable[[str, str], None]
"""Takes the target and what is wrong with its value, without the value."""

_LONG_TEXTS = frozenset({"LT", "ST", "UT"})
_NEVER_CUT = frozenset({
    "OtherPatientIDs", "PatientID", "IssuerOfPatientID", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest", "ServiceEpisodeID", "MedicalRecordLocator", "ContainerIdentifier",
    "LocalNamespaceEntityID", "UniversalEntityID", "CodeValue", "LongCodeValue", "CodingSchemeDesignator",
    "CodingSchemeVersion", "PatientTelephoneNumbers", "ReferringPhysicianTelephoneNumbers", "OrderCallbackPhoneNumber",
})  # fmt: skip
MOST_VALUES = 100
_LONGEST_CODE = LONGEST["SH"]
_FUTURE_IS_WRONG = frozenset({"LastMenstrualDate"})


def read_attributes(given: Mapping[str, object], rules_of: Callable[[str], ValueRules], told: Told) -> Attributes:
    """Turn the values of all `dicom:` targets of a record into attributes.

    Args:
        given: Target, with or without its prefix, -> text, number, date, list of these, or None. Unknown targets are
            ignored, and so are targets that belong to a worklist field.
        rules_of: Returns for a target how the source writes its values.
        told: Called for each value that is left out or changed.

    Returns:
        Path -> values, all text; for a sequence: path -> items, keyword -> text. No value is empty.
    """
    found: Attributes = {}
    parts: dict[str, dict[str, list[str]]] = {}
    for name, value in given.items():
        known = find_target(name)
        if known is None or known[0].worklist_field is not None:
            continue
        target, part = known
        note, rules = Note(), rules_of(name)
        try:
            if part is not None:
                if values := _values(part, target.parts[part].vr, value, rules, note, many=True):
                    parts.setdefault(target.path, {})[part] = values
            elif target.kind == "value":
                keyword = target.path.rpartition(".")[2]
                if values := _values(keyword, target.vr, value, rules, note, many=target.many):
                    found[target.path] = values
            elif items := _items(target, value, rules, note):
                found[target.path] = items
        except Exception as error:  # noqa: BLE001 - a plugin's objects: any method of theirs may raise
            refused = error if isinstance(error, RecordRejected) else texts.unreadable(name, value, error)
            note(refused.reason)
        for remark in note.remarks:
            told(name, remark)
    for path, columns in parts.items():
        note = Note()
        items = [item for row in _rows(columns, note) if (item := _complete(TARGETS[path], row, note))]
        if items:
            found[path] = items if TARGETS[path].many else items[:1]
        for remark in note.remarks:
            told(PREFIX + path, remark)
    return found


def check_attribute(name: str, value: object, rules: ValueRules) -> None:
    """Check a constant for a `dicom:` target; the other parts of a sequence may come from the record.

    Raises:
        RecordRejected: The constant is unusable, or would be changed.
    """

    def refuse(name: str, reason: str) -> None:
        raise RecordRejected(name, reason)

    known = find_target(name)
    if known is not None and known[1] is not None:
        note = Note()
        _values(known[1], known[0].parts[known[1]].vr, value, rules, note, many=True)
        for remark in note.remarks:
            refuse(name, remark)
    else:
        read_attributes({name: value}, lambda _: rules, refuse)


def _values(keyword: str, vr: str, value: object, rules: ValueRules, note: Note, *, many: bool) -> list[str]:
    """Normalise one value, or each value of a list or of a text with backslashes."""
    several: Sequence[object] = (value,)
    if isinstance(value, list | tuple):
        several = value
    elif many and isinstance(value, str) and "\\" in value:
        several = value.split("\\")
    if len(several) > 1 and not many:
        raise RecordRejected(keyword, "has several values where DICOM allows one")
    _check_number(keyword, several)
    return [text for one in several if (text := _value(keyword, vr, one, rules, note))]


def _check_number(keyword: str, several: Sequence[object]) -> None:
    """Refuse more values than any patient has: a scanner would have to take them all."""
    if len(several) > MOST_VALUES:
        raise RecordRejected(keyword, f"has more than {MOST_VALUES} values")


def _value(keyword: str, vr: str, value: object, rules: ValueRules, note: Note) -> str:
    if vr in {"DA", "TM"} and hasattr(value, "isoformat"):
        text = ""
    else:
        text = texts.unwrap(texts.as_text(keyword, value))
        if not text or text in rules.empty_values:
            return ""
        if texts.is_spreadsheet_error(text):
            raise RecordRejected(keyword, SPREADSHEET_ERROR)
    if vr == "DA":
        name = moments.BIRTH_DATE if keyword in _FUTURE_IS_WRONG else keyword
        return moments.to_date(name, value, text, rules.moments)
    if vr == "TM":
        return moments.to_time(keyword, value, text, rules.moments)[:6]
    if vr == "PN":
        return texts.person_name(keyword, texts.cleaned_line(keyword, text, note), note, LONGEST["PN"])
    if vr in _CHECKED or keyword in _NEVER_CUT:
        converted = _CHECKED.get(vr, _identifier)(keyword, text, note)
        limit = LONGEST["UC"] if keyword == "CodeValue" else LONGEST[vr]
        if len(converted) > limit:
            raise RecordRejected(keyword, f"longer than {limit} characters")
        return converted
    return texts.cut_to(LONGEST[vr], texts.cleaned_line(keyword, text, note, backslash=vr in _LONG_TEXTS), note)


def _identifier(keyword: str, text: str, _note: Note) -> str:
    return texts.checked_identifier(keyword, text)


_CHECKED: Mapping[str, Callable[[str, str, Note], str]] = {
    "AS": lambda keyword, text, _note: words.age(keyword, text),
    "CS": lambda keyword, text, _note: texts.code_string(keyword, text),
    "DS": lambda keyword, text, _note: words.metres(keyword, text),
    "UI": texts.checked_uid,
}


def _items(target: Target, value: object, rules: ValueRules, note: Note) -> list[dict[str, str]]:
    """Read a whole sequence: items as `part^part^part`, several of them separated by a backslash or in a list."""
    several = value if isinstance(value, list | tuple) else str("" if value is None else value).split("\\")
    _check_number(target.path, several)
    order = [part for part in target.parts if part not in {"LongCodeValue", "CodingSchemeVersion"}]
    items = []
    for one in several:
        text = texts.unwrap(texts.as_text(target.path, one))
        if not text or text in rules.empty_values:
            continue
        pieces = [piece.strip() for piece in text.split("^")]
        if len(pieces) > len(order):
            note(f"expected {'^'.join(order)}")
            continue
        try:
            read = [
                _value(part, target.parts[part].vr, piece, rules, note)
                for part, piece in zip(order, pieces, strict=False)
            ]
        except RecordRejected as error:
            note(error.reason)
            continue
        item = _complete(target, {part: said for part, said in zip(order, read, strict=False) if said}, note)
        if item:
            items.append(item)
    if len(items) > 1 and not target.many:
        note("has several items where DICOM allows one; the first is used")
        return items[:1]
    return items


def _rows(columns: Mapping[str, list[str]], note: Note) -> list[dict[str, str]]:
    """Combine the values of a sequence's parts into items; a single value is repeated in every item."""
    count = max(map(len, columns.values()))
    if any(len(values) not in {1, count} for values in columns.values()):
        note("its parts have different numbers of values")
        return []
    return [
        {part: values[place if len(values) > 1 else 0] for part, values in columns.items()} for place in range(count)
    ]


def _complete(target: Target, item: dict[str, str], note: Note) -> dict[str, str] | None:
    """Return an item if it has its required parts, else None; a code too long for its attribute moves to the other."""
    if target.kind == "code" and len(item.get("CodeValue", "")) > _LONGEST_CODE:
        item = {"LongCodeValue": item["CodeValue"], **{k: v for k, v in item.items() if k != "CodeValue"}}
    missing = [part for part, rule in target.parts.items() if rule.required and part not in item]
    if target.kind == "code" and not {"CodeValue", "LongCodeValue"} & item.keys():
        missing.insert(0, "CodeValue")
    if missing:
        note(f"{', '.join(missing)} missing, so the item is left out")
        return None
    return item
