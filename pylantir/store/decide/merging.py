"""Merges the records of one step: one value per field, and the values that lost. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pylantir.entry import ATTRIBUTES_FIELD, RECORD_ID_FIELD
from pylantir.store.decide.claims import SCANNER, Claim, Conflict, Item
from pylantir.store.decide.evidence import (
    BIRTH_DATE,
    IDENTITY,
    NAME,
    TIME,
    fuller_birth_date,
    given_name,
    identity_objections,
    start_minutes,
)

OF_THE_PATIENT = frozenset(
    {*IDENTITY, "patient_weight_lb", "pregnancy_status", "medical_alerts", "allergies", "special_needs",
     "patient_state", "pre_medication", "contrast_agent", ATTRIBUTES_FIELD}
)  # fmt: skip
"""Fields that a record must not add if it contradicts the item's identity: it may be about another person."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def merge_fields(members: Sequence[Claim]) -> tuple[dict[str, str], tuple[Conflict, ...]]:
    """Take each field from the first record that gives it, and the identity from a single record.

    Name, birth date and sex come from the first record. Another record completes them, and adds fields about the
    patient, only if it contradicts none of the three. Midnight is no time: another record gives one.

    Args:
        members: The records of one step, the owner's first.

    Returns:
        Worklist field -> value, and the differing values of later records.
    """
    owner, others = members[0], members[1:]
    merged = dict(owner.fields)
    giver = dict.fromkeys(merged, owner.data_source)
    conflicts: list[Conflict] = []
    for claim in others:
        may_be_another = bool(identity_objections(merged, claim.fields))
        for name, value in claim.fields.items():
            lost: str | None = None
            if name == RECORD_ID_FIELD or (name == NAME and given_name(claim.fields) is None):
                continue
            unsaid = (name == NAME and given_name(merged) is None) or (name == TIME and start_minutes(merged) is None)
            if name not in merged or unsaid:
                if not (may_be_another and name in OF_THE_PATIENT):
                    merged[name], giver[name] = value, claim.data_source
            elif name == ATTRIBUTES_FIELD:
                if not may_be_another:
                    merged[name], lost = merge_attributes(merged[name], value)
            elif name == BIRTH_DATE and not may_be_another:
                merged[name] = fuller_birth_date(merged[name], value) or merged[name]
            elif _says_otherwise(name, merged[name], value):
                lost = value
            if lost:
                conflicts.append(Conflict(name, giver[name], claim.data_source, lost))
    return merged, tuple(sorted(conflicts))


def find_wishes(members: Sequence[Claim], item: Item) -> tuple[Conflict, ...]:
    """Return the values of sources that differ from an item that only the scanner may change."""
    wishes = []
    for claim in members:
        for name, value in claim.fields.items():
            present = str(item.values.get(name) or "")
            if name == RECORD_ID_FIELD or (name == NAME and given_name(claim.fields) is None):
                continue
            if name == ATTRIBUTES_FIELD and present:
                wish = merge_attributes(present, value)[1]
            else:
                wish = value if _says_otherwise(name, present, value) else ""
            if wish:
                wishes.append(Conflict(name, SCANNER, claim.data_source, wish))
    return tuple(sorted(wishes))


def merge_attributes(first: str, second: str) -> tuple[str, str]:
    """Merge the `dicom_attributes` of two records; for each attribute the first record wins.

    Returns:
        The merged attributes, and those of the second record that lost ("" if none did).
    """
    stronger, weaker = json.loads(first), json.loads(second)
    lost = {path: values for path, values in weaker.items() if stronger.get(path, values) != values}
    return _encode({**weaker, **stronger}), _encode(lost) if lost else ""


def _says_otherwise(name: str, present: str, value: str) -> bool:
    """Whether a value differs from the winning one; a year or midnight does not differ from what is fuller."""
    if name == BIRTH_DATE and present:
        return fuller_birth_date(present, value) is None
    return present != value and not (name == TIME and present and start_minutes({TIME: value}) is None)
