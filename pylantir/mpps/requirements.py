"""What the standard requires of a report: attributes, their keywords and their types. Constant.

Source: DICOM PS3.4 table F.7.2-1.
"""

from __future__ import annotations

from collections.abc import Mapping

from pylantir.mpps.model import END_DATE, END_TIME, SERIES_SEQUENCE, STATUS, STEP_SEQUENCE

# Attribute -> keyword and type at N-CREATE: 1 has a value, 2 is present and may be empty.
CREATED: Mapping[str, tuple[str, int]] = {
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
STEP: Mapping[str, tuple[str, int]] = {
    "0020000D": ("StudyInstanceUID", 1),
    "00081110": ("ReferencedStudySequence", 2),
    "00080050": ("AccessionNumber", 2),
    "00401001": ("RequestedProcedureID", 2),
    "00321060": ("RequestedProcedureDescription", 2),
    "00400009": ("ScheduledProcedureStepID", 2),
    "00400007": ("ScheduledProcedureStepDescription", 2),
    "00400008": ("ScheduledProtocolCodeSequence", 2),
}
ENDED: Mapping[str, tuple[str, int]] = {
    END_DATE: ("PerformedProcedureStepEndDate", 1),
    END_TIME: ("PerformedProcedureStepEndTime", 1),
    SERIES_SEQUENCE: ("PerformedSeriesSequence", 1),
}
SERIES: Mapping[str, tuple[str, int]] = {
    "00181030": ("ProtocolName", 1),
    "0020000E": ("SeriesInstanceUID", 1),
}
# What an N-SET may repeat, but not change.
UNCHANGEABLE = frozenset({
    STEP_SEQUENCE, "00100010", "00100020", "00100021", "00100030", "00100040", "00081120", "00400253", "00400241",
    "00400242", "00400243", "00400244", "00400245", "00080060", "00200010",
})  # fmt: skip


def keyword_of(tag: str) -> str:
    """The keyword of an attribute that is known here, else its number."""
    known = {**STEP, **SERIES, **CREATED}
    return known[tag][0] if tag in known else f"({tag[:4]},{tag[4:]})"
