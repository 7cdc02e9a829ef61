"""Maps DICOM attributes to worklist fields: the one table behind matching and responses.

Lives in the server process. Nothing comes in; the table is constant.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword

from pylantir.targets import TARGETS

Matching = Literal["none", "text", "uid", "name", "date", "time", "status"]
"""How a key with a value selects: not at all; single value and wildcard; list of UIDs; person name; date or
time with ranges; the status in the standard's terms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistAttribute:
    """One attribute that a scanner may ask for.

    Attributes:
        keyword: DICOM keyword.
        return_type: 1 (never empty), 1C, 2 (present, perhaps empty), 2C or 3.
        fields: Worklist fields, columns of the item, that may give the value: the first that has one does.
        matching: How the key selects, on the first of `fields`.
        required: A required matching key of the standard.
        path: Keywords of the sequences around it, outermost first.
    """

    keyword: str
    return_type: str
    fields: tuple[str, ...] = ()
    matching: Matching = "none"
    required: bool = False
    path: tuple[str, ...] = ()

    @property
    def tag(self) -> int:
        """The attribute's tag as 0xGGGGEEEE."""
        tag = tag_for_keyword(self.keyword)
        if tag is None:
            raise KeyError(self.keyword)
        return tag

    @property
    def vr(self) -> str:
        """The attribute's value representation."""
        return dictionary_VR(self.tag)


SPS = "ScheduledProcedureStepSequence"
PROTOCOL_CODE = "ScheduledProtocolCodeSequence"


def _attribute(
    keyword: str, return_type: str, *fields: str, matching: Matching = "none", required: bool = False
) -> WorklistAttribute:
    *path, last = keyword.split(".")
    return WorklistAttribute(
        keyword=last,
        return_type=return_type,
        fields=fields,
        matching=matching,
        required=required,
        path=tuple(path),
    )


FIELD_ATTRIBUTES: tuple[WorklistAttribute, ...] = (
    # Scheduled procedure step
    _attribute(SPS, "1", required=True),
    _attribute(f"{SPS}.ScheduledStationAETitle", "1", "scheduled_station_aetitle", matching="text", required=True),
    _attribute(f"{SPS}.ScheduledProcedureStepStartDate", "1", "scheduled_start_date", matching="date", required=True),
    _attribute(f"{SPS}.ScheduledProcedureStepStartTime", "1", "scheduled_start_time", matching="time", required=True),
    _attribute(f"{SPS}.Modality", "1", "modality", matching="text", required=True),
    _attribute(f"{SPS}.ScheduledPerformingPhysicianName", "2", "performing_physician", matching="name", required=True),
    _attribute(
        f"{SPS}.ScheduledProcedureStepDescription",
        "1C",
        "protocol_name",
        "procedure_description",
        "study_description",
        "modality",
    ),
    _attribute(f"{SPS}.ScheduledStationName", "2", "station_name", matching="text"),
    _attribute(f"{SPS}.ScheduledProcedureStepLocation", "2", "scheduled_step_location", matching="text"),
    _attribute(f"{SPS}.{PROTOCOL_CODE}", "1C"),
    _attribute(f"{SPS}.{PROTOCOL_CODE}.CodeValue", "1", "protocol_name"),
    _attribute(f"{SPS}.{PROTOCOL_CODE}.CodingSchemeDesignator", "1", "hisris_coding_designator"),
    _attribute(f"{SPS}.{PROTOCOL_CODE}.CodingSchemeVersion", "3"),
    _attribute(f"{SPS}.{PROTOCOL_CODE}.CodeMeaning", "1", "protocol_name"),
    _attribute(f"{SPS}.PreMedication", "2C", "pre_medication", matching="text"),
    _attribute(f"{SPS}.ScheduledProcedureStepID", "1", "scheduled_procedure_step_id", "id", matching="text"),
    _attribute(f"{SPS}.RequestedContrastAgent", "2C", "contrast_agent", matching="text"),
    _attribute(f"{SPS}.ScheduledProcedureStepStatus", "3", "performed_procedure_step_status", matching="status"),
    # Requested procedure
    _attribute("RequestedProcedureID", "1", "requested_procedure_id", "id", matching="text"),
    _attribute(
        "RequestedProcedureDescription",
        "1C",
        "procedure_description",
        "study_description",
        "protocol_name",
        "modality",
    ),
    _attribute("RequestedProcedureCodeSequence", "1C"),
    _attribute("RequestedProcedureCodeSequence.CodeValue", "1"),
    _attribute("RequestedProcedureCodeSequence.CodingSchemeDesignator", "1"),
    _attribute("RequestedProcedureCodeSequence.CodingSchemeVersion", "3"),
    _attribute("RequestedProcedureCodeSequence.CodeMeaning", "1"),
    _attribute("StudyInstanceUID", "1", "study_instance_uid", matching="uid"),
    _attribute("StudyDescription", "3", "study_description", matching="text"),
    _attribute("ReferencedStudySequence", "2"),
    _attribute("ReferencedStudySequence.ReferencedSOPClassUID", "1"),
    _attribute("ReferencedStudySequence.ReferencedSOPInstanceUID", "1"),
    _attribute("RequestedProcedurePriority", "2", "requested_procedure_priority", matching="text"),
    _attribute("PatientTransportArrangements", "2", "patient_transport", matching="text"),
    # Imaging service request
    _attribute("AccessionNumber", "2", "accession_number", matching="text"),
    _attribute("RequestingPhysician", "2", "requesting_physician", matching="name"),
    _attribute("ReferringPhysicianName", "2", "referring_physician_name", matching="name"),
    # Visit
    _attribute("AdmissionID", "2", "admission_id", matching="text"),
    _attribute("CurrentPatientLocation", "2", "current_patient_location", matching="text"),
    _attribute("ReferencedPatientSequence", "2"),
    _attribute("ReferencedPatientSequence.ReferencedSOPClassUID", "1"),
    _attribute("ReferencedPatientSequence.ReferencedSOPInstanceUID", "1"),
    # Patient
    _attribute("PatientName", "1", "patient_name", "patient_id", matching="name", required=True),
    _attribute("PatientID", "1", "patient_id", matching="text", required=True),
    _attribute("IssuerOfPatientID", "3", "issuer_of_patient_id", matching="text"),
    _attribute("PatientBirthDate", "2", "patient_birth_date", matching="date"),
    _attribute("PatientSex", "2", "patient_sex", matching="text"),
    _attribute("PatientWeight", "2", "patient_weight_lb"),
    _attribute("ConfidentialityConstraintOnPatientDataDescription", "2", "confidentiality", matching="text"),
    _attribute("PatientState", "2", "patient_state", matching="text"),
    _attribute("PregnancyStatus", "2", "pregnancy_status"),
    _attribute("MedicalAlerts", "2", "medical_alerts", matching="text"),
    _attribute("Allergies", "2", "allergies", matching="text"),
    _attribute("SpecialNeeds", "2", "special_needs", matching="text"),
)
"""What worklist fields hold, in the order of PS3.4 table K.6-1."""


def _further_attributes() -> Iterator[WorklistAttribute]:
    """List what is kept among an item's further attributes (`dicom:` targets), and the parts of its sequences."""
    known = {(attribute.path, attribute.keyword) for attribute in FIELD_ATTRIBUTES}
    for target in TARGETS.values():
        *path, keyword = target.path.split(".")
        if target.worklist_field is None:
            places = [(tuple(path), keyword, "3")]
            parts = target.parts.items()
            places += [((*path, keyword), name, "1" if part.required else "3") for name, part in parts]
            for around, name, return_type in places:
                if (around, name) not in known:
                    yield WorklistAttribute(keyword=name, return_type=return_type, path=around)


WORKLIST_ATTRIBUTES: tuple[WorklistAttribute, ...] = (*FIELD_ATTRIBUTES, *_further_attributes())
"""Every attribute that is known."""


@functools.cache
def attributes_by_place() -> Mapping[tuple[tuple[str, ...], int], WorklistAttribute]:
    """Index the table: (keywords of the sequences around, tag) -> attribute."""
    return MappingProxyType({(attribute.path, attribute.tag): attribute for attribute in WORKLIST_ATTRIBUTES})


@functools.cache
def keywords_by_field() -> Mapping[str, str]:
    """Index the table: worklist field -> keyword of the key that is matched against it."""
    matched = (attribute for attribute in FIELD_ATTRIBUTES if attribute.matching != "none" and attribute.fields)
    return MappingProxyType({attribute.fields[0]: attribute.keyword for attribute in matched})


# The status of a step in the standard's terms (PS3.3 C.4.10), for the terms that the worklist keeps.
WIRE_STATUSES: Mapping[str, str] = {
    "SCHEDULED": "SCHEDULED",
    "IN_PROGRESS": "STARTED",
    "COMPLETED": "COMPLETED",
    "DISCONTINUED": "DISCONTINUED",
    "CANCELED": "CANCELED",
}
