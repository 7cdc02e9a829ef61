"""The attributes of DICOM table K.6-1 that `field_mapping` can set by a `dicom:` target, and the form of each.

Pure data, imported by source workers, the configuration check and the server; it needs no DICOM library. A test
compares it with pydicom's dictionary.

Source: DICOM PS3.4 table K.6-1; PS3.3 C.2 (patient), C.3 (visit), C.4.10 to C.4.12 (step, procedure, service request)
for the rows "all other attributes"; PS3.5 table 6.2-1 (value representations); PS3.3 8.8 (codes), 10.6.1 (references).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["value", "code", "reference", "items"]

PREFIX = "dicom:"
"""The prefix of a mapping target that names an attribute by its keyword."""

SPS = "ScheduledProcedureStepSequence"

LONGEST: Mapping[str, int] = {
    "AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "IS": 12, "LO": 64, "LT": 10240, "PN": 64, "SH": 16, "ST": 1024,
    "TM": 6, "UC": 1024, "UI": 64, "UR": 1024, "US": 5, "UT": 10240,
}  # fmt: skip
"""Value representation -> longest value in characters. UC, UR and UT have no limit in DICOM; this one is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One attribute inside the items of a sequence."""

    vr: str
    required: bool = False

    @property
    def max_length(self) -> int:
        """Longest value in characters."""
        return LONGEST[self.vr]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One attribute that can be mapped.

    Attributes:
        path: Keywords from the top of a worklist item, joined by dots.
        vr: Value representation; "SQ" for a sequence.
        many: It may have several values, or its sequence several items.
        kind: A plain `value`; a sequence of coded concepts (`code`), of SOP instance references (`reference`), or of
            other `items`.
        parts: Of a sequence: keyword -> the attribute in each item.
        worklist_field: The worklist field that holds the same, where there is one: the target is another name for it.
    """

    path: str
    vr: str
    many: bool = False
    kind: Kind = "value"
    parts: Mapping[str, Part] = field(default_factory=dict)
    worklist_field: str | None = None

    @property
    def max_length(self) -> int:
        """Longest single value in characters; 0 for a sequence."""
        return LONGEST.get(self.vr, 0)


CODE_PARTS: Mapping[str, Part] = {
    "CodeValue": Part(vr="SH"),
    "LongCodeValue": Part(vr="UC"),
    "CodingSchemeDesignator": Part(vr="SH", required=True),
    "CodingSchemeVersion": Part(vr="SH"),
    "CodeMeaning": Part(vr="LO", required=True),
}
"""Besides the required attributes, an item needs CodeValue (at most 16 characters) or LongCodeValue."""

REFERENCE_PARTS: Mapping[str, Part] = {
    "ReferencedSOPClassUID": Part(vr="UI", required=True),
    "ReferencedSOPInstanceUID": Part(vr="UI", required=True),
}
_ISSUER_PARTS: Mapping[str, Part] = {
    "LocalNamespaceEntityID": Part(vr="UT"),
    "UniversalEntityID": Part(vr="UT"),
    "UniversalEntityIDType": Part(vr="CS"),
}


def _values(vr: str, *paths: str, many: bool = False) -> tuple[Target, ...]:
    return tuple(Target(path=path, vr=vr, many=many) for path in paths)


def _codes(*paths: str, many: bool = False) -> tuple[Target, ...]:
    return tuple(Target(path=path, vr="SQ", many=many, kind="code", parts=CODE_PARTS) for path in paths)


def _references(*paths: str, many: bool = True) -> tuple[Target, ...]:
    return tuple(Target(path=path, vr="SQ", many=many, kind="reference", parts=REFERENCE_PARTS) for path in paths)


def _items(path: str, parts: Mapping[str, Part], *, many: bool = False) -> Target:
    return Target(path=path, vr="SQ", many=many, kind="items", parts=parts)


def _fields(names: Mapping[str, tuple[str, str]]) -> tuple[Target, ...]:
    return tuple(Target(path=path, vr=vr, worklist_field=name) for path, (vr, name) in names.items())


_ALL: tuple[Target, ...] = (
    # What a worklist field holds already.
    *_fields({
        f"{SPS}.ScheduledStationAETitle": ("AE", "scheduled_station_aetitle"),
        f"{SPS}.ScheduledProcedureStepStartDate": ("DA", "scheduled_start_date"),
        f"{SPS}.ScheduledProcedureStepStartTime": ("TM", "scheduled_start_time"),
        f"{SPS}.Modality": ("CS", "modality"),
        f"{SPS}.ScheduledPerformingPhysicianName": ("PN", "performing_physician"),
        f"{SPS}.ScheduledStationName": ("SH", "station_name"),
        f"{SPS}.ScheduledProcedureStepLocation": ("SH", "scheduled_step_location"),
        f"{SPS}.PreMedication": ("LO", "pre_medication"),
        f"{SPS}.ScheduledProcedureStepID": ("SH", "scheduled_procedure_step_id"),
        f"{SPS}.RequestedContrastAgent": ("LO", "contrast_agent"),
        f"{SPS}.ScheduledProcedureStepStatus": ("CS", "performed_procedure_step_status"),
        "RequestedProcedureID": ("SH", "requested_procedure_id"),
        "RequestedProcedureDescription": ("LO", "procedure_description"),
        "StudyInstanceUID": ("UI", "study_instance_uid"),
        "StudyDescription": ("LO", "study_description"),
        "RequestedProcedurePriority": ("SH", "requested_procedure_priority"),
        "PatientTransportArrangements": ("LO", "patient_transport"),
        "AccessionNumber": ("SH", "accession_number"),
        "RequestingPhysician": ("PN", "requesting_physician"),
        "ReferringPhysicianName": ("PN", "referring_physician_name"),
        "AdmissionID": ("LO", "admission_id"),
        "CurrentPatientLocation": ("LO", "current_patient_location"),
        "PatientName": ("PN", "patient_name"),
        "PatientID": ("LO", "patient_id"),
        "IssuerOfPatientID": ("LO", "issuer_of_patient_id"),
        "PatientBirthDate": ("DA", "patient_birth_date"),
        "PatientSex": ("CS", "patient_sex"),
        # DICOM gives weight in kilograms; the worklist field stores pounds.
        "PatientWeight": ("DS", "patient_weight_kg"),
        "ConfidentialityConstraintOnPatientDataDescription": ("LO", "confidentiality"),
        "PatientState": ("LO", "patient_state"),
        "PregnancyStatus": ("US", "pregnancy_status"),
        "SpecialNeeds": ("LO", "special_needs"),
    }),
    # Scheduled procedure step
    *_values("LO", f"{SPS}.ScheduledProcedureStepDescription"),
    *_values("LT", f"{SPS}.CommentsOnTheScheduledProcedureStep"),
    *_values("DA", f"{SPS}.ScheduledProcedureStepEndDate"),
    *_values("TM", f"{SPS}.ScheduledProcedureStepEndTime"),
    *_codes(f"{SPS}.ScheduledProtocolCodeSequence", many=True),
    *_references(f"{SPS}.ReferencedDefinedProtocolSequence", f"{SPS}.ReferencedPerformedProtocolSequence"),
    _items(
        "ScheduledSpecimenSequence",
        {"ContainerIdentifier": Part(vr="LO", required=True)},
        many=True,
    ),
    # Requested procedure
    *_codes("RequestedProcedureCodeSequence"),
    *_values("LO", "ReasonForTheRequestedProcedure", "RequestedProcedureLocation", "ConfidentialityCode"),
    *_values("LT", "RequestedProcedureComments"),
    *_values("SH", "ReportingPriority"),
    *_values("PN", "NamesOfIntendedRecipientsOfResults", many=True),
    *_codes("ReasonForRequestedProcedureCodeSequence", many=True),
    *_values("DA", "StudyDate"),
    *_values("TM", "StudyTime"),
    *_references("ReferencedStudySequence"),
    # Imaging service request
    _items("IssuerOfAccessionNumberSequence", _ISSUER_PARTS),
    _items("OrderPlacerIdentifierSequence", _ISSUER_PARTS),
    _items("OrderFillerIdentifierSequence", _ISSUER_PARTS),
    *_values("LO", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    *_values("LO", "ReasonForTheImagingServiceRequest", "RequestingService"),
    *_codes("RequestingServiceCodeSequence"),
    *_values("LT", "ImagingServiceRequestComments", "OrderCallbackTelecomInformation"),
    *_values("DA", "IssueDateOfImagingServiceRequest"),
    *_values("TM", "IssueTimeOfImagingServiceRequest"),
    *_values("PN", "OrderEnteredBy"),
    *_values("SH", "OrderEntererLocation", "OrderCallbackPhoneNumber"),
    *_values("ST", "ReferringPhysicianAddress"),
    *_values("SH", "ReferringPhysicianTelephoneNumbers", many=True),
    *_values("PN", "ConsultingPhysicianName", many=True),
    # Visit
    *_values("LO", "InstitutionName", "InstitutionalDepartmentName"),
    *_values("ST", "InstitutionAddress"),
    *_codes("InstitutionCodeSequence"),
    _items("IssuerOfAdmissionIDSequence", _ISSUER_PARTS),
    *_values("UT", "ReasonForVisit"),
    *_codes("ReasonForVisitCodeSequence", many=True),
    *_values("LO", "ServiceEpisodeID", "ServiceEpisodeDescription", "PatientInstitutionResidence", "RouteOfAdmissions"),
    _items("IssuerOfServiceEpisodeIDSequence", _ISSUER_PARTS),
    *_values("CS", "VisitStatusID"),
    *_values("LT", "VisitComments"),
    *_values("DA", "AdmittingDate"),
    *_values("TM", "AdmittingTime"),
    *_values("LO", "AdmittingDiagnosesDescription", many=True),
    *_codes("AdmittingDiagnosesCodeSequence", many=True),
    *_references("ReferencedVisitSequence"),
    *_references("ReferencedPatientSequence", many=False),
    # Patient, identification
    _items("IssuerOfPatientIDQualifiersSequence", _ISSUER_PARTS),
    *_values("LO", "OtherPatientIDs", many=True),
    _items(
        "OtherPatientIDsSequence",
        {
            "PatientID": Part(vr="LO", required=True),
            "IssuerOfPatientID": Part(vr="LO"),
            "TypeOfPatientID": Part(vr="CS"),
        },
        many=True,
    ),
    *_values("CS", "TypeOfPatientID"),
    *_values("PN", "OtherPatientNames", many=True),
    *_values("PN", "PatientBirthName", "PatientMotherBirthName"),
    *_values("LO", "MedicalRecordLocator"),
    # Patient, demographic
    *_values("TM", "PatientBirthTime"),
    *_values("AS", "PatientAge"),
    *_values("DS", "PatientSize"),
    *_codes("PatientSizeCodeSequence"),
    *_codes("PatientPrimaryLanguageCodeSequence", "PatientInsurancePlanCodeSequence", many=True),
    *_values("LO", "PatientAddress", "MilitaryRank", "BranchOfService", "CountryOfResidence", "RegionOfResidence"),
    *_values("SH", "PatientTelephoneNumbers", many=True),
    *_values("LT", "PatientTelecomInformation", "PatientComments"),
    *_values("SH", "EthnicGroup", "Occupation"),
    *_codes("EthnicGroupCodeSequence", many=True),
    *_values("LO", "PatientReligiousPreference", "ResponsibleOrganization"),
    *_values("PN", "ResponsiblePerson"),
    *_values("CS", "ResponsiblePersonRole", "PatientSexNeutered", "QualityControlSubject"),
    *_values("LO", "PatientSpeciesDescription", "PatientBreedDescription"),
    *_codes("PatientSpeciesCodeSequence"),
    *_codes("PatientBreedCodeSequence", many=True),
    # Patient, medical
    *_values("LO", "MedicalAlerts", "Allergies", many=True),
    *_values("LT", "AdditionalPatientHistory"),
    *_values("DA", "LastMenstrualDate"),
    *_values("CS", "SmokingStatus"),
)  # fmt: skip

TARGETS: Mapping[str, Target] = {target.path: target for target in _ALL}
"""Path -> the attribute, in the order of the table; where `worklist_field` is None, `dicom_attributes` keeps it."""

_BY_LAST_KEYWORD: Mapping[str, str] = {path.rpartition(".")[2]: path for path in TARGETS}


def find_target(name: str) -> tuple[Target, str | None] | None:
    """Find the attribute that a `dicom:` target names.

    Args:
        name: A mapping target, such as "dicom:PatientSize", "dicom:ScheduledProcedureStepSequence.Modality", the same
            without its sequence ("dicom:Modality"), or with a part of a sequence behind it
            ("dicom:RequestedProcedureCodeSequence.CodeValue").

    Returns:
        The attribute, and the keyword of the part or None for the whole; None if the table has no such attribute.
    """
    keyword = name.removeprefix(PREFIX)
    whole = TARGETS.get(keyword) or TARGETS.get(_BY_LAST_KEYWORD.get(keyword, ""))
    if whole is not None:
        return whole, None
    head, _, part = keyword.rpartition(".")
    around = TARGETS.get(head) or TARGETS.get(_BY_LAST_KEYWORD.get(head, ""))
    return (around, part) if around is not None and part in around.parts else None


def target_names() -> list[str]:
    """List every `dicom:` target that `find_target` knows, in its longest form."""
    parts = (f"{PREFIX}{path}.{part}" for path, target in TARGETS.items() for part in target.parts)
    return [*(PREFIX + path for path in TARGETS), *parts]
