"""Decides whether a report is accepted and what is then stored of the step: the MPPS rules as pure functions.

A request and the stored instance come in; the answer, and the new instance if it is accepted, go out. Applied in the
writer, inside the transaction that stores the result.

Source: DICOM PS3.4 F.7.2 (N-CREATE, N-SET, table F.7.2-1), PS3.7 Annex C (statuses).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylantir.errors import MppsRefused
from pylantir.mpps.model import (
    ACCESSION_NUMBER,
    FINAL_STATUSES,
    IN_PROGRESS,
    PATIENT_ID,
    SERIES_SEQUENCE,
    SPECIFIC_CHARACTER_SET,
    STATUS,
    STEP_ID,
    STEP_SEQUENCE,
    STUDY_UID,
    Attributes,
    DimseStatus,
    ErrorId,
    MppsAnswer,
    MppsInstance,
    MppsRequest,
    items_of,
    levels_about_steps,
    text_of,
    values_of,
)
from pylantir.mpps.repeats import unchangeable, without_contradictions
from pylantir.mpps.requirements import CREATED, ENDED, SERIES, STEP, UNCHANGEABLE, keyword_of

_SHOWN_REMARKS = 20
_INSTANCE_NAMESPACE = uuid.UUID("0d5f0a9e-3f0b-5f0e-8f43-9b1f4f6c7a52")
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_NUMBERS_AND_DOTS = re.compile(r"[0-9]+(?:\.[0-9]+)+")

_VITAL = frozenset({STEP_SEQUENCE, PATIENT_ID, STUDY_UID, STEP_ID, ACCESSION_NUMBER, STATUS})
"""An error in these could mean a wrong patient or a lost exam: an unreadable value in them is never left out."""


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
        strict: Insist on everything that the standard requires. Otherwise what is missing is forgiven, and what
            is odd and nothing depends on is accepted with a remark.
    """
    try:
        if strict:
            _check_readable(request)
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
    # Some scanners make UIDs with components that begin with a zero; nothing depends on that.
    if len(uid) > 64 or not (_UID if strict else _NUMBERS_AND_DOTS).fullmatch(uid):
        comment = "the SOP Instance UID is malformed" if uid else "the SOP Instance UID is missing"
        raise MppsRefused(DimseStatus.INVALID_INSTANCE, ErrorId.BAD_INSTANCE_UID, comment)
    return uid


def _create(request: MppsRequest, stored: MppsInstance | None, *, strict: bool) -> Decision:
    uid = instance_uid(request, strict=strict)
    if stored is not None:
        raise MppsRefused(DimseStatus.DUPLICATE_INSTANCE, ErrorId.DUPLICATE, "this instance exists already")
    remarks = _remarks(request, uid)
    attributes = _readable(request.attributes, remarks, strict=strict)
    if values_of(attributes, STATUS) and _status(attributes, strict=strict) != IN_PROGRESS:
        raise _wrong_value(STATUS, "PerformedProcedureStepStatus must be IN PROGRESS at N-CREATE")
    lacking = _lacks(attributes, CREATED)
    for step in items_of(attributes, STEP_SEQUENCE):
        lacking += _lacks(step, STEP)
    forgiven = _forgive(lacking, strict=strict)
    if not request.sop_instance_uid:
        forgiven = ("AffectedSOPInstanceUID", *forgiven)
    attributes[STATUS] = {"vr": "CS", "Value": [IN_PROGRESS]}
    return Decision(
        answer=_accepted(uid, forgiven, remarks),
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
    remarks = _remarks(request, uid)
    changes = _readable(request.attributes, remarks, strict=strict)
    status = _status(changes, strict=strict) or stored.status
    if status not in (IN_PROGRESS, *FINAL_STATUSES):
        raise _wrong_value(STATUS, "no such PerformedProcedureStepStatus")
    if strict:
        for tag, change in changes.items():
            _check_change(tag, change, stored.attributes)
    else:
        changes = without_contradictions(changes, stored.attributes, remarks)
    merged = {**stored.attributes, **changes}
    # A modification list need not name the status, but it cannot be emptied.
    lacking = _lacks(changes, {STATUS: CREATED[STATUS]}) if STATUS in changes else []
    if status in FINAL_STATUSES:
        lacking += _lacks(merged, ENDED)
        for series in items_of(merged, SERIES_SEQUENCE):
            lacking += _lacks(series, SERIES)
    forgiven = _forgive(lacking, strict=strict)
    merged[STATUS] = {"vr": "CS", "Value": [status]}
    return Decision(
        answer=_accepted(uid, forgiven, remarks),
        instance=MppsInstance(sop_instance_uid=uid, status=status, attributes=merged, item_ids=stored.item_ids),
        changed=tuple(tag for tag in changes if not _same(changes[tag], stored.attributes.get(tag, {}))),
    )


def _accepted(uid: str, forgiven: tuple[str, ...], remarks: Sequence[str]) -> MppsAnswer:
    shown = tuple(dict.fromkeys(remarks))
    if len(shown) > _SHOWN_REMARKS:
        shown = (*shown[:_SHOWN_REMARKS], f"and {len(shown) - _SHOWN_REMARKS} more")
    return MppsAnswer(status=DimseStatus.SUCCESS, sop_instance_uid=uid, forgiven=forgiven, remarks=shown)


def _remarks(request: MppsRequest, uid: str) -> list[str]:
    remarks = [f"{keyword_of(tag)} {what}" for tag, what in request.oddities]
    if not _UID.fullmatch(uid):
        remarks.append("the SOP Instance UID has a component that begins with zero")
    return remarks


def _check_readable(request: MppsRequest) -> None:
    for tag, what in request.oddities:
        comment = f"{keyword_of(tag)} cannot be read: {what.rpartition(': ')[2]}"
        raise MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.UNREADABLE, comment, (tag,))


def _status(attributes: Attributes, *, strict: bool) -> str:
    status = text_of(attributes, STATUS)
    if strict:
        return status
    letters = "".join(letter for letter in status.upper() if letter.isalnum())
    return IN_PROGRESS if letters == "INPROGRESS" else letters


def _check_change(tag: str, change: Mapping[str, object], stored: Attributes) -> None:
    """Insist that only what was created is set, and nothing that may not change."""
    if tag not in stored:
        comment = f"{keyword_of(tag)} was not created"
        raise MppsRefused(DimseStatus.NO_SUCH_ATTRIBUTE, ErrorId.NOT_CREATED, comment, (tag,))
    if tag in UNCHANGEABLE and not _same(change, stored[tag]):
        raise unchangeable(tag)


@dataclass(frozen=True, slots=True)
class _Lack:
    tag: str
    name: str
    present: bool


def _lacks(attributes: Attributes, required: Mapping[str, tuple[str, int]]) -> list[_Lack]:
    """List the attributes that the standard requires and the report lacks."""
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


def _readable(attributes: Attributes, remarks: list[str], *, strict: bool) -> dict[str, Mapping[str, Any]]:
    """Leave out text where a sequence belongs, and the other way round: nothing could be read from it.

    Raises:
        MppsRefused: It is strict, or the patient, the study or the status depends on it.
    """
    single = [(about, tag) for about in levels_about_steps(attributes) for tag in (PATIENT_ID, STUDY_UID)]
    for about, tag in [*single, (attributes, STATUS)]:
        if len(set(map(str, values_of(about, tag)))) > 1:
            raise _wrong_value(tag, f"{keyword_of(tag)} has several values")
    level = _level_readable(attributes, CREATED, remarks, strict=strict)
    level.pop(SPECIFIC_CHARACTER_SET, None)
    for tag, known in ((STEP_SEQUENCE, STEP), (SERIES_SEQUENCE, SERIES)):
        items = items_of(level, tag)
        if items:
            level[tag] = {"vr": "SQ", "Value": [_level_readable(item, known, remarks, strict=strict) for item in items]}
    return level


def _level_readable(
    level: Attributes, known: Mapping[str, tuple[str, int]], remarks: list[str], *, strict: bool
) -> dict[str, Mapping[str, Any]]:
    readable = dict(level)
    for tag, (name, _) in known.items():
        is_sequence = name.endswith("Sequence")
        if tag in level and (level[tag].get("vr") == "SQ") != is_sequence:
            what = "a sequence" if is_sequence else "a value, not a sequence"
            if strict or tag in _VITAL:
                raise MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.WRONG_FORM, f"{name} must be {what}", (tag,))
            remarks.append(f"{name} left out: it must be {what}")
            del readable[tag]
    return readable


def _wrong_value(tag: str, comment: str) -> MppsRefused:
    return MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.WRONG_VALUE, comment, (tag,))


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return (one.get("Value") or []) == (other.get("Value") or [])
