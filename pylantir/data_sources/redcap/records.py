"""Finds the scans in the rows of a REDCap record, and reads each scan's values.

Lives in the worker of a REDCap source. Pure: a plan and the rows of a record in, dictionaries by worklist field out.

A record has rows of several kinds: one per event, and one per instance of a repeating instrument or event. A scan is
a row that carries the scan's instrument; what other instruments know (birth date, family) is in other rows of
the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pylantir.columns import target_of
from pylantir.data_sources.base import RECORD_LABEL, BadRecord
from pylantir.data_sources.redcap.naming import composite_fields, whole_number
from pylantir.data_sources.redcap.plan import RecordPlan
from pylantir.data_sources.redcap.project import EVENT, INSTANCE, INSTRUMENT
from pylantir.entry import RECORD_ID_FIELD, START_FIELD, WORKLIST_FIELDS
from pylantir.errors import RecordRejected
from pylantir.values.normalise import normalise_value

Row = Mapping[str, Any]

_OF_ONE_DAY = frozenset({"pregnancy_status", "dicom:LastMenstrualDate"})
"""Targets whose value at another visit says nothing about this one."""
_MEASURED = frozenset({"patient_weight_lb", "patient_weight_kg", "dicom:PatientSize"})
"""Targets whose value changes from visit to visit."""
_OF_THE_PATIENT = _MEASURED | {
    "patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex", "medical_alerts",
    "allergies", "special_needs", "confidentiality",
}  # fmt: skip
_OF_ONE_EXAM = WORKLIST_FIELDS.keys() - _OF_THE_PATIENT
_CODES_OF_ONE_EXAM = ("dicom:RequestedProcedure", "dicom:ScheduledProcedureStepSequence", "dicom:ScheduledProtocol")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A row that is a scan, and the other rows of its record that may supply more values, the nearest first.

    Attributes:
        row: The scan's own row.
        bases: The rows of its event.
        elsewhere: Those of other events.
        other_exams: The other events that have scans of their own.
    """

    row: Row
    bases: tuple[Row, ...]
    elsewhere: tuple[Row, ...] = ()
    other_exams: frozenset[str] = frozenset()


def find_scans(plan: RecordPlan, rows: Sequence[Row]) -> Iterator[Scan]:
    """Give the scans among the rows of one record. A row that lacks a required value is not scheduled yet."""
    repeated = {row.get(EVENT, "") for row in rows if row.get(INSTRUMENT) and row[INSTRUMENT] in plan.own}
    for row in rows:
        event, instrument = row.get(EVENT, ""), row.get(INSTRUMENT) or ""
        if plan.rules.events and event not in plan.rules.events:
            continue
        if instrument not in plan.own or (not instrument and (event in repeated or not _carries(plan, row))):
            continue
        scan = _scan_of(plan, rows, row)
        if all(_value(plan, target, scan) for target in plan.required) and _admits(plan, scan):
            yield scan


def scan_id(plan: RecordPlan, scan: Scan) -> str:
    """Return a scan's permanent ID: the mapped one, else one of record, event, instrument and instance."""
    row = scan.row
    mapped = _value(plan, RECORD_ID_FIELD, scan)
    return mapped or _row_id(row[plan.record_field], row.get(EVENT), row.get(INSTRUMENT), row.get(INSTANCE))


def possible_ids(plan: RecordPlan, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the IDs of all possible scans of a record: present ones, former ones, and those of rows deleted since."""
    record = rows[0][plan.record_field]
    last = max((int(row.get(INSTANCE) or 0) for row in rows), default=0)
    for event in {row.get(EVENT) for row in rows}:
        for instrument in plan.own:
            for instance in ("", *range(1, last + 2)):
                yield _row_id(record, event, instrument, instance)
    if RECORD_ID_FIELD in plan.sources:
        for row in rows:
            if (row.get(INSTRUMENT) or "") in plan.own:
                yield scan_id(plan, _scan_of(plan, rows, row))


def _row_id(record: object, event: object, instrument: object, instance: object) -> str:
    """Name a row: "17", "17@visit_1_arm_1", "17:mri#2"."""
    marks = (("@", event), (":", instrument), ("#", instance))
    return f"{record}" + "".join(f"{mark}{text}" for mark, text in marks if text not in {None, ""})


def to_fields(plan: RecordPlan, scan: Scan, note: Callable[[str], None]) -> dict[str, str] | BadRecord:
    """Return a scan's values by worklist field; the host normalises and checks them.

    Args:
        plan: How to read the project.
        scan: A row with the rows that it may take values from.
        note: Called with each omission and its reason.
    """
    name = scan_id(plan, scan)
    values = {target: _made_value(plan, target, scan, note) for target in plan.sources}
    protocols = plan.rules.protocols
    if plan.composite:
        study, session, family = (values.pop(role, "") for role in ("study_id", "session_id", "family_id"))
        if not study.rsplit("-", 1)[-1].strip():
            return BadRecord(record=f"record {name}", field="study_id", reason="nothing follows the last hyphen")
        given = composite_fields(study=study, session=session, family=family, protocols=protocols)
    else:
        given = {"protocol_name": protocols.name, "hisris_coding_designator": protocols.designator}
    if "patient_birth_date" in values:
        values["patient_birth_date"] = whole_number(values["patient_birth_date"])
    entry = {**given, **{target: value for target, value in values.items() if value}}
    return {RECORD_LABEL: f"record {name}", **{k: v for k, v in entry.items() if v}, RECORD_ID_FIELD: name}


def _made_value(plan: RecordPlan, target: str, scan: Scan, note: Callable[[str], None]) -> str:
    """Give the value of a target as the mapping makes it."""
    by_label = target in plan.labelled
    scan = _without_other_visits(plan, target, scan, note)
    reader = plan.readers.get(target)
    if reader is not None:
        made = reader.apply(_record_for(plan, target, scan)).get(target)
        return "" if made is None else str(made)
    for source in plan.sources[target]:
        if answer := _answer(plan, source, scan, by_label=by_label):
            return _sex(plan, source, answer, note) if target == "patient_sex" else answer
    return ""


def _without_other_visits(plan: RecordPlan, target: str, scan: Scan, note: Callable[[str], None]) -> Scan:
    """Keep other events from supplying what belongs to their own exams or days, or what they do not agree in."""
    field, sources, near = target_of(target), plan.sources[target], replace(scan, elsewhere=())
    is_of_one_exam = field in _OF_ONE_EXAM or field.startswith(_CODES_OF_ONE_EXAM)
    if not scan.elsewhere or not (is_of_one_exam or field in _OF_ONE_DAY | _MEASURED):
        return scan
    if any(_text(plan, source, near) for source in sources):
        return near
    allowed = near
    if field in _MEASURED:
        given = {tuple(_text(plan, one, replace(near, elsewhere=(row,))) for one in sources) for row in scan.elsewhere}
        allowed = scan if len({texts for texts in given if any(texts)}) == 1 else near
    elif field not in _OF_ONE_DAY:
        without = tuple(row for row in scan.elsewhere if row.get(EVENT, "") not in scan.other_exams)
        allowed = replace(scan, elsewhere=without)
    if not any(_text(plan, one, allowed) for one in sources) and any(_text(plan, one, scan) for one in sources):
        note(f"{target} of a scan is known of other visits only; left out")
    return allowed


def source_values(plan: RecordPlan, scan: Scan) -> dict[str, str]:
    """Return, for people, what the project has for the fields that are joined, searched or replaced."""
    found: dict[str, str] = {}
    for target, reader in plan.readers.items():
        found |= reader.source_values(_record_for(plan, target, scan))
    return found


def _record_for(plan: RecordPlan, target: str, scan: Scan) -> dict[str, str]:
    """Return the answers that a target is made of, by field."""
    by_label = target in plan.labelled
    return {source: _answer(plan, source, scan, by_label=by_label) for source in plan.sources[target]}


def _answer(plan: RecordPlan, source: str, scan: Scan, *, by_label: bool) -> str:
    """Return a field's value for a scan: its code, or the field's label for that code."""
    code = _text(plan, source, scan)
    # A whole checkbox field is read as labels already.
    is_coded = source not in plan.boxes or source in dict(plan.boxes[source])
    return plan.choices.get(source, {}).get(code, code) if by_label and is_coded else code


def _sex(plan: RecordPlan, source: str, code: str, note: Callable[[str], None]) -> str:
    """Translate a coded sex by its field's label for the code; unknown if the label means neither M, F nor O.

    A code is no evidence beside a label that does not repeat it: "M, M (male)" is a man, and so is "F, Férfi".
    """
    labels = plan.choices.get(source, {})
    label = labels.get(code) or code
    meant = _meant_sex(code)
    if _meant_sex(label) is not None:
        return label
    if meant and {_meant_sex(word) for word in re.findall(r"\w+", label)} - {None, ""} == {meant}:
        return code
    if not labels and not plan.composite:
        return code
    told = labels.get(code, "a value that is no choice")
    note(f'the sex "{told}" is none that DICOM knows (M, F, O); left out')
    return ""


def _meant_sex(text: str) -> str | None:
    """Return what a word means as a sex ("" for an unknown one); None: nothing that DICOM knows."""
    try:
        return normalise_value("patient_sex", text) or ""
    except RecordRejected:
        return None


def _admits(plan: RecordPlan, scan: Scan) -> bool:
    """Tell whether the source's `where` lets a scan in."""
    return plan.where is None or plan.where.admits({source: _text(plan, source, scan) for source in plan.where.columns})


def _carries(plan: RecordPlan, row: Row) -> bool:
    """Tell whether a row of no repeating instrument has a value in the scan's instrument."""
    return any(_read(plan, source, row) for source in plan.own[""])


def _scan_of(plan: RecordPlan, rows: Sequence[Row], row: Row) -> Scan:
    """Return a scan with the rows that may supply values: first its event and instance, then its event, then others."""
    event, instance = row.get(EVENT, ""), row.get(INSTANCE, "")
    plain = [other for other in rows if other is not row and not other.get(INSTRUMENT)]
    near = [other for other in plain if other.get(EVENT, "") == event]
    same = [other for other in near if instance not in {"", None} and other.get(INSTANCE, "") == instance]
    once = [other for other in near if other.get(INSTANCE, "") in {"", None}]
    others = [other for other in plain if other.get(EVENT, "") != event and other.get(INSTANCE, "") in {"", None}]
    if not others:
        return Scan(row=row, bases=(*same, *once))
    start = START_FIELD if START_FIELD in plan.required else "scheduled_start_date"
    dated = {one.get(EVENT, "") for one in rows if any(_read(plan, source, one) for source in plan.sources[start])}
    exams = frozenset(dated - {event})
    return Scan(row=row, bases=(*same, *once), elsewhere=tuple(others), other_exams=exams)


def _value(plan: RecordPlan, target: str, scan: Scan) -> str:
    """Give the first answer that is not empty, as it stands."""
    return next(filter(None, (_text(plan, source, scan) for source in plan.sources.get(target, ()))), "")


def _text(plan: RecordPlan, source: str, scan: Scan) -> str:
    """Return a field's value for a scan, from its own row or from one that may supply values."""
    own = plan.own[scan.row.get(INSTRUMENT) or ""]
    rows = (scan.row,) if source in own else (scan.row, *scan.bases, *scan.elsewhere)
    return next(filter(None, (_read(plan, source, row) for row in rows)), "")


def _read(plan: RecordPlan, source: str, row: Row) -> str:
    boxes = plan.boxes.get(source)
    if boxes is not None:
        return ", ".join(label for column, label in boxes if row.get(column) == "1")
    value = row.get(source)
    text = "" if value is None else str(value).strip()
    return "" if text.lower() == "nan" or text in plan.missing else text
