"""A worklist entry, its statuses, and the rules that DICOM sets for its values.

Imported by every process: nothing here costs more than the standard library's `re` and `datetime`.
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
}
"""Worklist field (a column of `worklist_items`) -> its rule."""

RECORD_ID_FIELD = "source_record_id"
"""The source's own identifier of a record: a mapping target, but no DICOM attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistEntry:
    """One scheduled step as one source describes it, in DICOM form.

    Attributes:
        record_key: Identity within the source (DESIGN section 6): "id:…", "acc:…", "uid:…" or "step:…".
        fields: Worklist field -> value, all text, no empty ones. Dates YYYYMMDD, times HHMMSS, weight in pounds.
            `source_record_id` is among them where the source gave one.
    """

    record_key: str
    fields: Mapping[str, str]
