"""Making responses: only what was asked for, all of it, in the forms that the standard wants."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from pylantir.dicom.find.attributes import SPS, WORKLIST_ATTRIBUTES
from pylantir.dicom.find.encode_responses import EncodedBatch, ResponseEncoder, encode_item
from pylantir.dicom.find.encode_values import Writing
from pylantir.dicom.find.matching import parse_query
from pylantir.dicom.text.charset import CharacterSet
from pylantir.entry import WORKLIST_FIELDS

ROW: dict[str, object] = {
    **dict.fromkeys(WORKLIST_FIELDS),
    "dicom_attributes": None,
    "id": 7,
    "study_instance_uid": "2.25.7",
    "patient_name": "Doe^Jane",
    "patient_id": "P7",
    "modality": "MR",
    "scheduled_station_aetitle": "MR1",
    "scheduled_start_date": "20260105",
    "scheduled_start_time": "093000",
    "performed_procedure_step_status": "IN_PROGRESS",
}


def asking(*top: str, step: tuple[str, ...] | None = None) -> Dataset:
    """An identifier with empty keys; a step without keys asks for everything in it."""
    whole = Dataset()
    for keyword in top:
        setattr(whole, keyword, None)
    if step is not None:
        item = Dataset()
        for keyword in step:
            setattr(item, keyword, None)
        whole.ScheduledProcedureStepSequence = [item]
    return whole


def encoded(identifier: Dataset, *rows: dict[str, object]) -> EncodedBatch:
    encoder = ResponseEncoder(parse_query(identifier), Writing(explicit_vr=True, station_aet="ASKING"))
    return encoder.encode([[row[name] for name in encoder.fields] for row in rows])


def answer(identifier: Dataset, **values: object) -> Dataset:
    """The response for ROW with some other values, after a way over the wire in explicit VR."""
    (response,) = encoded(identifier, {**ROW, **values}).identifiers
    return decode(BytesIO(response), False, True)


def the_step(response: Dataset) -> Any:
    (step,) = response.ScheduledProcedureStepSequence
    return step


def test_only_what_was_asked_for_is_returned() -> None:
    response = answer(asking("PatientID", step=("Modality",)))
    assert [element.keyword for element in response] == ["PatientID", "ScheduledProcedureStepSequence"]
    assert [element.keyword for element in the_step(response)] == ["Modality"]


def test_what_was_asked_for_and_has_no_value_comes_back_empty() -> None:
    response = answer(asking("AccessionNumber", "PatientBirthDate", "PregnancyStatus", "PatientSize"))
    assert len(response) == 4
    assert all(element.is_empty for element in response)


def test_a_step_asked_for_as_empty_holds_all_that_is_known_of_it() -> None:
    step = the_step(answer(asking(step=())))
    known = {attribute.keyword for attribute in WORKLIST_ATTRIBUTES if attribute.path == (SPS,)}
    assert {element.keyword for element in step} == known


def test_values_of_the_item() -> None:
    response = answer(asking("PatientName", "StudyInstanceUID", step=()))
    step = the_step(response)
    assert response.PatientName == "Doe^Jane"
    assert response.StudyInstanceUID == "2.25.7"
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == (
        "20260105",
        "093000",
    )
    assert step.ScheduledStationAETitle == "MR1"


def test_identifiers_of_step_and_procedure_fall_back_to_the_item() -> None:
    asked = asking("RequestedProcedureID", step=("ScheduledProcedureStepID",))
    assert answer(asked).RequestedProcedureID == "7"
    assert the_step(answer(asked)).ScheduledProcedureStepID == "7"
    assert answer(asked, requested_procedure_id="RP1").RequestedProcedureID == "RP1"
    step = the_step(answer(asked, scheduled_procedure_step_id="S1"))
    assert step.ScheduledProcedureStepID == "S1"


@pytest.mark.parametrize(
    ("stored", "wire"),
    [("SCHEDULED", "SCHEDULED"), ("IN_PROGRESS", "STARTED"), ("CANCELED", "CANCELED"), (None, None)],
)
def test_the_status_is_given_in_the_standards_terms(stored: str | None, wire: str | None) -> None:
    asked = asking(step=("ScheduledProcedureStepStatus",))
    status = the_step(answer(asked, performed_procedure_step_status=stored)).ScheduledProcedureStepStatus
    assert (status or None) == wire


@pytest.mark.parametrize(
    ("pounds", "kilograms"),
    [("154.3", 69.99), ("100", 45.36), (200, 90.72), ("", None), ("heavy", None), (None, None), ("nan", None)],
)
def test_weight_goes_out_in_kilograms(pounds: object, kilograms: float | None) -> None:
    assert answer(asking("PatientWeight"), patient_weight_lb=pounds).PatientWeight == kilograms


def test_descriptions_take_the_first_text_there_is() -> None:
    asked = asking("RequestedProcedureDescription", step=("ScheduledProcedureStepDescription",))
    for values, of_step, of_procedure in (
        ({}, "MR", "MR"),
        ({"study_description": "Study"}, "Study", "Study"),
        ({"study_description": "Study", "protocol_name": "T1"}, "T1", "Study"),
        ({"procedure_description": "Brain", "protocol_name": "T1"}, "T1", "Brain"),
    ):
        response = answer(asked, **values)
        assert the_step(response).ScheduledProcedureStepDescription == of_step
        assert response.RequestedProcedureDescription == of_procedure


def test_a_protocol_becomes_a_code_when_its_scheme_is_known() -> None:
    asked = asking(step=("ScheduledProtocolCodeSequence",))
    (code,) = the_step(answer(asked, protocol_name="T1", hisris_coding_designator="99X")).ScheduledProtocolCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("T1", "99X", "T1")
    assert len(the_step(answer(asked, protocol_name="T1")).ScheduledProtocolCodeSequence) == 0


def test_of_a_code_only_the_parts_asked_for_are_returned() -> None:
    part = Dataset()
    part.CodeMeaning = None
    step = Dataset()
    step.ScheduledProtocolCodeSequence = [part]
    asked = Dataset()
    asked.ScheduledProcedureStepSequence = [step]
    (code,) = the_step(answer(asked, protocol_name="T1", hisris_coding_designator="99X")).ScheduledProtocolCodeSequence
    assert [element.keyword for element in code] == ["CodeMeaning"]


def test_an_item_for_no_station_is_offered_to_the_one_that_asks() -> None:
    step = the_step(answer(asking(step=("ScheduledStationAETitle",)), scheduled_station_aetitle=None))
    assert step.ScheduledStationAETitle == "ASKING"


def test_a_patient_without_a_name_goes_by_the_id() -> None:
    assert answer(asking("PatientName"), patient_name=None).PatientName == "P7"


def test_an_item_without_a_study_uid_is_left_out_and_named_and_the_others_are_sent() -> None:
    asked = asking("PatientID", "StudyInstanceUID")
    batch = encoded(asked, {**ROW, "id": 1}, {**ROW, "id": 2, "study_instance_uid": ""}, {**ROW, "id": 3})
    assert batch.left_out == [(2, "study_instance_uid")]
    assert len(batch.identifiers) == 2
    writing = Writing(explicit_vr=True, station_aet="ASKING")
    lacking = encode_item({**ROW, "study_instance_uid": None}, parse_query(asked), writing)
    assert lacking.left_out == [(7, "study_instance_uid")]
    assert encode_item(ROW, parse_query(asked), writing).left_out == []


def test_utf_8_is_declared_only_where_there_is_need() -> None:
    asked = asking("PatientName", step=("ScheduledPerformingPhysicianName",))
    assert "SpecificCharacterSet" not in answer(asked, study_description="été")
    response = answer(asked, patient_name="Γεωργίου^Μαρία=山田^太郎")
    assert response.SpecificCharacterSet == "ISO_IR 192"
    assert response.PatientName == "Γεωργίου^Μαρία=山田^太郎"
    assert the_step(answer(asked, performing_physician="Łęcki")).ScheduledPerformingPhysicianName == "Łęcki"


def test_sequences_that_the_worklist_cannot_fill_come_back_empty() -> None:
    response = answer(asking("ReferencedStudySequence", "OtherPatientIDsSequence"))
    assert len(response.ReferencedStudySequence) == len(response.OtherPatientIDsSequence) == 0


@given(
    st.sets(st.sampled_from([a.keyword for a in WORKLIST_ATTRIBUTES if not a.path and a.vr != "SQ"]), min_size=1),
    st.sets(st.sampled_from([a.keyword for a in WORKLIST_ATTRIBUTES if a.path == (SPS,)]), min_size=1),
)
def test_the_response_holds_exactly_the_keys_of_the_query(top: set[str], step: set[str]) -> None:
    response = answer(asking(*top, step=tuple(step)))
    assert {element.keyword for element in response} == top | {"ScheduledProcedureStepSequence"}
    assert {element.keyword for element in the_step(response)} == step


@pytest.mark.parametrize("attribute", WORKLIST_ATTRIBUTES, ids=lambda attribute: attribute.keyword)
def test_the_table_names_attributes_and_fields_that_exist(attribute: Any) -> None:
    assert attribute.tag
    assert set(attribute.fields) <= {*WORKLIST_FIELDS, "id"}
    assert attribute.matching == "none" or attribute.fields


IDENTIFIER_KEYS = {
    "patient_id": "PatientID",
    "accession_number": "AccessionNumber",
    "requested_procedure_id": "RequestedProcedureID",
    "admission_id": "AdmissionID",
    "study_instance_uid": "StudyInstanceUID",
}


@pytest.mark.parametrize("field", [*IDENTIFIER_KEYS, "scheduled_procedure_step_id"])
@pytest.mark.parametrize(
    ("terms", "value"),
    [
        (("ISO_IR 6",), "П1"),
        (("ISO_IR 6",), "Ä1"),
        (("ISO_IR 100",), "Щ1"),
        (("", "ISO 2022 IR 87"), "É1"),
        (("ISO_IR 13",), "A~1"),
        (("ISO_IR 100",), "e\u0301"),
        (None, "x" * 65),
        (None, "A\\B"),
        (None, "A\u200b1"),
        (None, "A\x1b1"),
        (None, "1 "),
    ],
)
def test_an_item_whose_identifier_cannot_be_sent_exactly_is_not_sent(
    field: str, terms: tuple[str, ...] | None, value: str
) -> None:
    if field == "study_instance_uid" and value.isascii():
        value += "é"
    if field == "scheduled_procedure_step_id":
        asked = asking("PatientName", step=("ScheduledProcedureStepID",))
    else:
        asked = asking("PatientName", IDENTIFIER_KEYS[field])
    charset = CharacterSet(terms) if terms else None
    encoder = ResponseEncoder(parse_query(asked), Writing(explicit_vr=True, station_aet="ASKING", charset=charset))
    rows = [{**ROW, "id": 8}, {**ROW, field: value}, {**ROW, "id": 9}]
    batch = encoder.encode([[row[name] for name in encoder.fields] for row in rows])
    assert (len(batch.identifiers), batch.unfit, batch.left_out, batch.losses) == (2, [(7, field)], [], {})


@pytest.mark.parametrize(
    ("field", "terms", "value", "data"),
    [
        ("patient_id", ("ISO_IR 144",), "П1", b"\xbf1"),
        ("patient_id", None, "e\u0301", b"e\xcc\x81"),
        ("accession_number", ("ISO_IR 100",), "Ä1", b"\xc41"),
        ("patient_id", ("GB18030",), "王", b"\xcd\xf5"),
    ],
)
def test_an_identifier_is_sent_character_by_character(
    field: str, terms: tuple[str, ...] | None, value: str, data: bytes
) -> None:
    charset = CharacterSet(terms) if terms else None
    encoder = ResponseEncoder(
        parse_query(asking(IDENTIFIER_KEYS[field])),
        Writing(explicit_vr=True, station_aet="ASKING", charset=charset),
    )
    batch = encoder.encode([[{**ROW, field: value}[name] for name in encoder.fields]])
    assert data in batch.identifiers[0]
    assert (batch.unfit, batch.losses) == ([], {})


def test_accession_numbers_of_seventeen_characters_are_not_cut_to_the_same_sixteen() -> None:
    rows = [{**ROW, "id": number, "accession_number": "A" * 16 + str(number)} for number in (1, 2)]
    batch = encoded(asking("AccessionNumber"), *rows)
    assert (batch.identifiers, batch.unfit) == ([], [(1, "accession_number"), (2, "accession_number")])


@pytest.mark.parametrize("mark", ["\u202e", "\u200b", "\ufeff", "\u00ad", "\U000e0041", "\x9b", "\u3164", "\x1b", "\n"])
@pytest.mark.parametrize("terms", [None, ("ISO_IR 6",), ("ISO_IR 192",), ("GB18030",)])
def test_what_nobody_sees_is_not_sent_in_names_and_descriptions(mark: str, terms: tuple[str, ...] | None) -> None:
    encoder = ResponseEncoder(
        parse_query(asking("PatientName", "StudyDescription")),
        Writing(explicit_vr=True, station_aet="ASKING", charset=CharacterSet(terms) if terms else None),
    )
    row = {**ROW, "patient_name": f"{mark}Doe^{mark}Jane", "study_description": f"He{mark}ad"}
    (written,) = encoder.encode([[row[name] for name in encoder.fields]]).identifiers
    response = decode(BytesIO(written), False, True)
    assert (str(response.PatientName), response.StudyDescription) == ("Doe^Jane", "Head")
    assert "SpecificCharacterSet" not in response


def test_a_name_of_invisible_characters_alone_is_not_empty() -> None:
    assert str(answer(asking("PatientName"), patient_name="\u200b^\u202e").PatientName) == "?"


def with_attributes(
    identifier: Dataset, attributes: dict[str, object], terms: str | None = None, **values: object
) -> Dataset:
    """The response for ROW with further attributes."""
    writing = Writing(explicit_vr=True, station_aet="ASKING", charset=CharacterSet((terms,)) if terms else None)
    row = {**ROW, **values, "dicom_attributes": json.dumps(attributes)}
    encoder = ResponseEncoder(parse_query(identifier), writing)
    (response,) = encoder.encode([[row[name] for name in encoder.fields]]).identifiers
    return decode(BytesIO(response), False, True)


def test_values_of_further_attributes_are_served() -> None:
    attributes: dict[str, object] = {
        "PatientSize": ["1.70"],
        "OtherPatientIDs": ["A1", "B2"],
        "PatientComments": ["Müller: line\r\nline"],
        "Allergies": ["Latex", "Nuts"],
        "ScheduledProcedureStepSequence.CommentsOnTheScheduledProcedureStep": ["claustrophobic"],
        "ScheduledProcedureStepSequence.ScheduledProcedureStepDescription": ["Knee"],
    }
    top = ("PatientSize", "OtherPatientIDs", "PatientComments", "Allergies", "InstitutionName")
    step = ("CommentsOnTheScheduledProcedureStep", "ScheduledProcedureStepDescription")
    response = with_attributes(asking(*top, step=step), attributes, allergies="Pollen")
    assert response.PatientSize == 1.7
    assert list(response.OtherPatientIDs) == ["A1", "B2"]
    assert response.PatientComments == "Müller: line\r\nline"
    assert response.SpecificCharacterSet == "ISO_IR 192"
    assert list(response.Allergies) == ["Latex", "Nuts"]
    assert response.InstitutionName in (None, "")
    assert the_step(response).CommentsOnTheScheduledProcedureStep == "claustrophobic"
    assert the_step(response).ScheduledProcedureStepDescription == "Knee"
    assert with_attributes(asking("Allergies"), {}, allergies="Pollen").Allergies == "Pollen"


CODE = {"CodeValue": "C1", "CodingSchemeDesignator": "99X", "CodeMeaning": "Head"}


def test_codes_and_references_are_served_with_the_parts_that_are_asked_for() -> None:
    attributes: dict[str, object] = {
        "RequestedProcedureCodeSequence": [CODE],
        "ScheduledProcedureStepSequence.ScheduledProtocolCodeSequence": [CODE, {**CODE, "CodeValue": "C2"}],
        "ReferencedStudySequence": [{"ReferencedSOPClassUID": "1.2", "ReferencedSOPInstanceUID": "1.2.3"}],
    }
    asked = asking("ReferencedStudySequence", step=("ScheduledProtocolCodeSequence",))
    asked.RequestedProcedureCodeSequence = [asking("CodeValue", "CodeMeaning")]
    response = with_attributes(asked, attributes, protocol_name="P", hisris_coding_designator="S")
    (code,) = response.RequestedProcedureCodeSequence
    assert {element.keyword: element.value for element in code} == {"CodeValue": "C1", "CodeMeaning": "Head"}
    assert [one.CodeValue for one in the_step(response).ScheduledProtocolCodeSequence] == ["C1", "C2"]
    assert response.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert "LongCodeValue" not in the_step(response).ScheduledProtocolCodeSequence[0]


@pytest.mark.parametrize(
    ("code", "asked", "terms", "served"),
    [
        (CODE, ("CodeValue", "CodeMeaning"), None, True),
        ({**CODE, "CodeValue": "Ä1"}, ("CodeValue",), "ISO_IR 6", False),
        ({**CODE, "CodeValue": "Ä1"}, ("CodeValue",), "ISO_IR 100", True),
        ({**CODE, "CodeMeaning": "Schädel"}, ("CodeValue", "CodeMeaning"), "ISO_IR 6", True),
        ({"CodeValue": "C1", "CodeMeaning": "Head"}, ("CodeValue",), None, False),
        ({"CodingSchemeDesignator": "99X", "CodeMeaning": "Head"}, ("CodeMeaning", "CodeValue"), None, False),
        ({"LongCodeValue": "x" * 30, "CodingSchemeDesignator": "S", "CodeMeaning": "M"}, ("CodeValue",), None, False),
        (
            {"LongCodeValue": "x" * 30, "CodingSchemeDesignator": "S", "CodeMeaning": "M"},
            ("LongCodeValue",),
            None,
            True,
        ),
    ],
)
def test_a_code_is_served_exactly_or_not_at_all(
    code: dict[str, str], asked: tuple[str, ...], terms: str | None, served: bool
) -> None:
    whole = asking("PatientID")
    whole.RequestedProcedureCodeSequence = [asking(*asked)]
    response = with_attributes(whole, {"RequestedProcedureCodeSequence": [code]}, terms)
    assert bool(response.RequestedProcedureCodeSequence) is served


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("x" * 16, (), {"CodeValue": "x" * 16}),
        ("x" * 32, (), {"LongCodeValue": "x" * 32}),
        ("x" * 32, ("CodeValue", "CodeMeaning"), None),
        ("x" * 32, ("CodeValue", "LongCodeValue"), {"LongCodeValue": "x" * 32}),
    ],
)
def test_a_protocol_name_that_is_too_long_for_code_value_is_a_long_code_value(
    name: str, asked: tuple[str, ...], expected: dict[str, str] | None
) -> None:
    step = asking(step=()).ScheduledProcedureStepSequence[0]
    step.ScheduledProtocolCodeSequence = [asking(*asked)] if asked else []
    whole = asking("PatientID")
    whole.ScheduledProcedureStepSequence = [step]
    codes = the_step(answer(whole, protocol_name=name, hisris_coding_designator="99X")).ScheduledProtocolCodeSequence
    if expected is None:
        assert not codes
    else:
        values = {one.keyword: one.value for one in codes[0] if one.keyword in ("CodeValue", "LongCodeValue")}
        assert values == expected


def test_an_identifier_among_the_further_attributes_is_left_empty_where_it_cannot_be_exact() -> None:
    response = with_attributes(asking("OtherPatientIDs"), {"OtherPatientIDs": ["П1", "A2"]}, "ISO_IR 6")
    assert response.OtherPatientIDs == "A2"


def test_further_attributes_that_are_no_json_are_none() -> None:
    assert answer(asking("PatientSize", "PatientID"), dicom_attributes="x").PatientSize is None
