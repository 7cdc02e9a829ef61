"""May this report be accepted, and what is known of the performed step then? The rules of MPPS as pure functions.

A request and the stored instance come in; the answer, and the new instance if it is accepted, go out. Applied in the
writer, inside the transaction that stores the result.

Source: DICOM PS3.4 F.7.2 (N-CREATE, N-SET, table F.7.2-1), PS3.7 Annex C (statuses).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from pylantir.errors import MppsRefused
from pylantir.mpps.model import (
    END_DATE,
    END_TIME,
    FINAL_STATUSES,
    IN_PROGRESS,
    SERIES_SEQUENCE,
    SPECIFIC_CHARACTER_SET,
    STATUS,
    STEP_SEQUENCE,
    Attributes,
    DimseStatus,
    ErrorId,
    MppsAnswer,
    MppsInstance,
    MppsRequest,
    items_of,
    text_of,
    values_of,
)

_INSTANCE_NAMESPACE = uuid.UUID("0d5f0a9e-3f0b-5f0e-8f43-9b1f4f6c7a52")
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")

# Attribute -> keyword and type at N-CREATE: 1 has a value, 2 is present and may be empty.
_CREATED: Mapping[str, tuple[str, int]] = {
    STEP_SEQUENCE: ("ScheduledStepAttributesSequence", 1),
    "00100010": ("PatientName", 2),
    "00100020": ("PatientID", 2),
    "00100030": ("PatientBirthDate", 2),
    "00100040": ("PatientSex", 2),
    "00081120": ("ReferencedPatientSequence", 2),
    "00400253": ("PerformedProcedureStepID", 1),
    "00400241": ("PerformedStationAETitle", 1),
    "00400242": ("PerformedStationName", 2),
    "00400243": ("PerformedLocation", 2),
    "00400244": ("PerformedProcedureStepStartDate", 1),
    "00400245": ("PerformedProcedureStepStartTime", 1),
    STATUS: ("PerformedProcedureStepStatus", 1),
    "00400254": ("PerformedProcedureStepDescription", 2),
    "00400255": ("PerformedProcedureTypeDescription", 2),
    "00081032": ("ProcedureCodeSequence", 2),
    END_DATE: ("PerformedProcedureStepEndDate", 2),
    END_TIME: ("PerformedProcedureStepEndTime", 2),
    "00080060": ("Modality", 1),
    "00200010": ("StudyID", 2),
    "00400260": ("PerformedProtocolCodeSequence", 2),
    SERIES_SEQUENCE: ("PerformedSeriesSequence", 2),
}
_STEP: Mapping[str, tuple[str, int]] = {
    "0020000D": ("StudyInstanceUID", 1),
    "00081110": ("ReferencedStudySequence", 2),
    "00080050": ("AccessionNumber", 2),
    "00401001": ("RequestedProcedureID", 2),
    "00321060": ("RequestedProcedureDescription", 2),
    "00400009": ("ScheduledProcedureStepID", 2),
    "00400007": ("ScheduledProcedureStepDescription", 2),
    "00400008": ("ScheduledProtocolCodeSequence", 2),
}
_ENDED: Mapping[str, tuple[str, int]] = {
    END_DATE: ("PerformedProcedureStepEndDate", 1),
    END_TIME: ("PerformedProcedureStepEndTime", 1),
    SERIES_SEQUENCE: ("PerformedSeriesSequence", 1),
}
_SERIES: Mapping[str, tuple[str, int]] = {
    "00181030": ("ProtocolName", 1),
    "0020000E": ("SeriesInstanceUID", 1),
}
# What an N-SET may repeat, but not change.
_UNCHANGEABLE = frozenset({
    STEP_SEQUENCE, "00100010", "00100020", "00100021", "00100030", "00100040", "00081120", "00400253", "00400241",
    "00400242", "00400243", "00400244", "00400245", "00080060", "00200010",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a request.

    Attributes:
        instance: The instance as it shall be stored; None when the request is refused.
        changed: Tags that an accepted N-SET has changed.
    """

    answer: MppsAnswer
    instance: MppsInstance | None = None
    changed: tuple[str, ...] = ()


def decide(request: MppsRequest, stored: MppsInstance | None, *, strict: bool) -> Decision:
    """Decide on one request.

    Args:
        request: What the scanner asks for.
        stored: The instance that it names, as it is now.
        strict: Insist on everything that the standard requires. Otherwise what is missing is forgiven; what is
            wrong is refused in both modes.
    """
    try:
        return (_create if request.operation == "create" else _set)(request, stored, strict=strict)
    except MppsRefused as refusal:
        return Decision(answer=refusal_answer(refusal, request.sop_instance_uid))


def refusal_answer(refusal: MppsRefused, sop_instance_uid: str | None) -> MppsAnswer:
    """Put a refusal into an answer."""
    return MppsAnswer(
        status=refusal.status,
        error_id=refusal.error_id,
        comment=str(refusal)[:64],
        tags=refusal.tags,
        sop_instance_uid=sop_instance_uid,
    )


def instance_uid(request: MppsRequest, *, strict: bool) -> str:
    """The instance that a request is about; derived from the request's id where an N-CREATE gives none.

    Raises:
        MppsRefused: The UID is missing or malformed.
    """
    uid = (request.sop_instance_uid or "").strip(" \0")
    if not uid and request.operation == "create" and not strict:
        return f"2.25.{uuid.uuid5(_INSTANCE_NAMESPACE, request.request_id).int}"
    if len(uid) > 64 or not _UID.fullmatch(uid):
        comment = "the SOP Instance UID is malformed" if uid else "the SOP Instance UID is missing"
        raise MppsRefused(DimseStatus.INVALID_INSTANCE, ErrorId.BAD_INSTANCE_UID, comment)
    return uid


def _create(request: MppsRequest, stored: MppsInstance | None, *, strict: bool) -> Decision:
    uid = instance_uid(request, strict=strict)
    if stored is not None:
        raise MppsRefused(DimseStatus.DUPLICATE_INSTANCE, ErrorId.DUPLICATE, "this instance exists already")
    attributes = _without_character_set(request.attributes)
    _check_forms(attributes)
    if values_of(attributes, STATUS) and text_of(attributes, STATUS) != IN_PROGRESS:
        raise _wrong_value(STATUS, "PerformedProcedureStepStatus must be IN PROGRESS at N-CREATE")
    lacking = _lacks(attributes, _CREATED)
    for step in items_of(attributes, STEP_SEQUENCE):
        lacking += _lacks(step, _STEP)
    forgiven = _forgive(lacking, strict=strict)
    if not request.sop_instance_uid:
        forgiven = ("AffectedSOPInstanceUID", *forgiven)
    attributes[STATUS] = {"vr": "CS", "Value": [IN_PROGRESS]}
    return Decision(
        answer=MppsAnswer(status=DimseStatus.SUCCESS, sop_instance_uid=uid, forgiven=forgiven),
        instance=MppsInstance(sop_instance_uid=uid, status=IN_PROGRESS, attributes=attributes),
    )


def _set(request: MppsRequest, stored: MppsInstance | None, *, strict: bool) -> Decision:
    uid = instance_uid(request, strict=strict)
    if stored is None:
        raise MppsRefused(DimseStatus.NO_SUCH_INSTANCE, ErrorId.UNKNOWN_INSTANCE, "there is no such instance")
    if stored.status != IN_PROGRESS:
        raise MppsRefused(
            DimseStatus.PROCESSING_FAILURE,
            ErrorId.NO_LONGER_UPDATABLE,
            "Performed Procedure Step Object may no longer be updated",
        )
    changes = _without_character_set(request.attributes)
    _check_forms(changes)
    status = text_of(changes, STATUS) or stored.status
    if status not in (IN_PROGRESS, *FINAL_STATUSES):
        raise _wrong_value(STATUS, "no such PerformedProcedureStepStatus")
    for tag, change in changes.items():
        _check_change(tag, change, stored.attributes, strict=strict)
    merged = {**stored.attributes, **changes}
    # A modification list need not name the status, but it cannot be emptied.
    lacking = _lacks(changes, {STATUS: _CREATED[STATUS]}) if STATUS in changes else []
    if status in FINAL_STATUSES:
        lacking += _lacks(merged, _ENDED)
        for series in items_of(merged, SERIES_SEQUENCE):
            lacking += _lacks(series, _SERIES)
    forgiven = _forgive(lacking, strict=strict)
    merged[STATUS] = {"vr": "CS", "Value": [status]}
    return Decision(
        answer=MppsAnswer(status=DimseStatus.SUCCESS, sop_instance_uid=uid, forgiven=forgiven),
        instance=MppsInstance(sop_instance_uid=uid, status=status, attributes=merged, item_ids=stored.item_ids),
        changed=tuple(tag for tag in changes if not _same(changes[tag], stored.attributes.get(tag, {}))),
    )


def _check_change(tag: str, change: Mapping[str, object], stored: Attributes, *, strict: bool) -> None:
    name = _name(tag)
    if tag not in stored:
        if strict:
            comment = f"{name} was not created"
            raise MppsRefused(DimseStatus.NO_SUCH_ATTRIBUTE, ErrorId.NOT_CREATED, comment, (tag,))
    elif tag in _UNCHANGEABLE and not _same(change, stored[tag]):
        comment = f"{name} may not change"
        raise MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.UNCHANGEABLE, comment, (tag,))


@dataclass(frozen=True, slots=True)
class _Lack:
    tag: str
    name: str
    present: bool


def _lacks(attributes: Attributes, required: Mapping[str, tuple[str, int]]) -> list[_Lack]:
    """What the standard requires and is not there."""
    return [
        _Lack(tag, name, tag in attributes)
        for tag, (name, required_type) in required.items()
        if tag not in attributes or (required_type == 1 and not _has_value(attributes, tag))
    ]


def _has_value(attributes: Attributes, tag: str) -> bool:
    if attributes[tag].get("vr") == "SQ":
        return bool(items_of(attributes, tag))
    return bool(text_of(attributes, tag))


def _forgive(lacking: list[_Lack], *, strict: bool) -> tuple[str, ...]:
    if lacking and strict:
        first = lacking[0]
        if first.present:
            comment = f"{first.name} has no value"
            raise MppsRefused(DimseStatus.MISSING_VALUE, ErrorId.MISSING_VALUE, comment, (first.tag,))
        comment = f"{first.name} is missing"
        raise MppsRefused(DimseStatus.MISSING_ATTRIBUTE, ErrorId.MISSING_ATTRIBUTE, comment, (first.tag,))
    return tuple(dict.fromkeys(lack.name for lack in lacking))


def _check_forms(attributes: Attributes) -> None:
    """Refuse text where a sequence belongs, and the other way round: nothing could be read from it."""
    for level, known in (
        (attributes, _CREATED),
        *((step, _STEP) for step in items_of(attributes, STEP_SEQUENCE)),
        *((series, _SERIES) for series in items_of(attributes, SERIES_SEQUENCE)),
    ):
        for tag, (name, _) in known.items():
            is_sequence = name.endswith("Sequence")
            if tag in level and (level[tag].get("vr") == "SQ") != is_sequence:
                what = "a sequence" if is_sequence else "a value, not a sequence"
                raise MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.WRONG_FORM, f"{name} must be {what}", (tag,))


def _wrong_value(tag: str, comment: str) -> MppsRefused:
    return MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.WRONG_VALUE, comment, (tag,))


def _without_character_set(attributes: Attributes) -> dict[str, Mapping[str, object]]:
    return {tag: value for tag, value in attributes.items() if tag != SPECIFIC_CHARACTER_SET}


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return (one.get("Value") or []) == (other.get("Value") or [])


def _name(tag: str) -> str:
    return _CREATED[tag][0] if tag in _CREATED else f"({tag[:4]},{tag[4:]})"
