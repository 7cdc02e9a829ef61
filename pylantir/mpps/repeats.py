"""Compares what an N-SET repeats with what the N-CREATE said: the lenient rules. Pure.

A modification list and the stored attributes come in. Another spelling is no change, an empty value deletes nothing,
a new value fills an empty attribute, and only another patient or another study is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from pylantir.errors import MppsRefused
from pylantir.mpps.meaning import has_value, same_meaning
from pylantir.mpps.model import (
    PATIENT_ID,
    STATUS,
    STEP_ID,
    STEP_SEQUENCE,
    STUDY_UID,
    Attributes,
    DimseStatus,
    ErrorId,
    items_of,
    study_uids,
    text_of,
)
from pylantir.mpps.requirements import UNCHANGEABLE, keyword_of


def without_contradictions(
    changes: Mapping[str, Mapping[str, Any]], stored: Attributes, remarks: list[str]
) -> dict[str, Mapping[str, Any]]:
    """Keep the created values where the N-SET contradicts them, and all that it would empty; fill the empty ones.

    Raises:
        MppsRefused: The change is about another patient or another study.
    """
    _check_subject(changes, stored)
    accepted = dict(changes)
    for tag in UNCHANGEABLE & changes.keys() & stored.keys():
        if tag == STEP_SEQUENCE and items_of(stored, tag):
            accepted[tag] = _filled_steps(changes[tag], stored[tag])
        elif has_value(stored[tag]):
            if has_value(changes[tag]) and not same_meaning(changes[tag], stored[tag]):
                remarks.append(f"{keyword_of(tag)} stays as it was created")
            del accepted[tag]
    for tag in accepted.keys() & stored.keys() - UNCHANGEABLE - {STATUS}:
        # A scanner that ends an exam may repeat its series or its dose as an empty sequence.
        if has_value(stored[tag]) and not has_value(accepted[tag]):
            remarks.append(f"{keyword_of(tag)} has no value: what was reported before stays")
            del accepted[tag]
    return accepted


def _check_subject(changes: Attributes, stored: Attributes) -> None:
    patient, created_for = text_of(changes, PATIENT_ID), text_of(stored, PATIENT_ID)
    if patient and created_for and unicodedata.normalize("NFC", patient) != unicodedata.normalize("NFC", created_for):
        raise unchangeable(PATIENT_ID)
    studies, created = study_uids(changes), study_uids(stored)
    if created and not studies <= created:
        raise unchangeable(STEP_SEQUENCE if text_of(stored, STUDY_UID) == text_of(changes, STUDY_UID) else STUDY_UID)


def _filled_steps(change: Mapping[str, Any], stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill empty attributes of each created step from the N-SET's step of the same study and step ID."""
    given = items_of({STEP_SEQUENCE: change}, STEP_SEQUENCE)
    steps = []
    for step in items_of({STEP_SEQUENCE: stored}, STEP_SEQUENCE):
        matching = [
            other
            for other in given
            if all(text_of(step, tag) in ("", text_of(other, tag)) for tag in (STUDY_UID, STEP_ID))
        ]
        more = matching[0] if len(matching) == 1 else {}
        steps.append({**step, **{tag: one for tag, one in more.items() if not has_value(step.get(tag, {}))}})
    return {"vr": "SQ", "Value": steps}


def unchangeable(tag: str) -> MppsRefused:
    """Refuse the change of an attribute that may not change."""
    comment = f"{keyword_of(tag)} may not change"
    return MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.UNCHANGEABLE, comment, (tag,))
