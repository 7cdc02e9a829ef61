"""A worklist entry: its fields, what DICOM allows in each of them, and its statuses.

Pure data, imported by every process. Glossary: entry (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
"""The fields that every record needs."""

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
    """Complete an entry for display and matching: MR, midnight and the patient ID as name replace missing values.

    These values are not part of a record, so a source without a value never overrules one that has it.
    """
    return {
        **CONSTANT_FALLBACKS,
        "patient_name": fields["patient_id"],
        **fields,
    }


def record_key(fields: Mapping[str, str]) -> str:
    """Name a record within its source, so that it is recognised in the next sync.

    Args:
        fields: Normalised fields of an entry.

    Returns:
        By the strongest identifier given: "id:<record ID>", "acc:<accession number>" or "uid:<study UID>"
        (both with "/<step ID>" if there is one), else "step:<patient>|<date>|<time>|<modality>|<station>" (with
        "|<issuer>" if there is one).
    """
    if RECORD_ID_FIELD in fields:
        return f"id:{fields[RECORD_ID_FIELD]}"
    step = fields.get("scheduled_procedure_step_id")
    for kind, name in (("acc", "accession_number"), ("uid", "study_instance_uid")):
        if name in fields:
            return f"{kind}:{_escape(fields[name])}" + (f"/{_escape(step)}" if step else "")
    whole = with_fallbacks(fields)
    parts = (
        whole["patient_id"],
        whole["scheduled_start_date"],
        whole["scheduled_start_time"],
        whole["modality"],
        whole.get("scheduled_station_aetitle", ""),
        *filter(None, [fields.get("issuer_of_patient_id")]),
    )
    return "step:" + "|".join(map(_escape, parts))


def _escape(part: str) -> str:
    """Escape separators that are part of a value."""
    if "|" in part or "/" in part or "%" in part:
        return part.replace("%", "%25").replace("/", "%2F").replace("|", "%7C")
    return part
