"""`dicom:` targets: typed by the data dictionary, codes and references whole or left out."""

from __future__ import annotations

import pytest

from pylantir.values.attributes import Attributes, read_attributes
from pylantir.values.normalise import DEFAULT_RULES

SPS = "ScheduledProcedureStepSequence"
HEAD = {"CodeValue": "H1", "CodingSchemeDesignator": "99LOCAL", "CodeMeaning": "Head"}


def read(**given: object) -> tuple[Attributes, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    named = {f"dicom:{name}": value for name, value in given.items()}
    return read_attributes(named, lambda _: DEFAULT_RULES, lambda name, reason: told.append((name, reason))), told


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PatientSize", "1,75", ["1.75"]),
        ("PatientSize", 1.75, ["1.75"]),
        ("PatientSize", "175 cm", ["1.75"]),
        ("PatientAge", "45y", ["045Y"]),
        ("Allergies", "Penicillin\\Latex", ["Penicillin", "Latex"]),
        ("Allergies", ["Penicillin", "Latex"], ["Penicillin", "Latex"]),
        ("OtherPatientIDs", "A1\\A2", ["A1", "A2"]),
        ("ResponsiblePerson", "Doe, Mary", ["Doe^Mary"]),
        ("LastMenstrualDate", "2020-01-02", ["20200102"]),
        ("PatientComments", "a\\b", ["a\\b"]),
        ("SmokingStatus", "no", ["NO"]),
        ("Occupation", "N/A", None),
        ("PatientComments", None, None),
        ("RequestedProcedureCodeSequence", "H1^99LOCAL^Head", [HEAD]),
        ("ReasonForRequestedProcedureCodeSequence", "H1^99LOCAL^Head\\H2^99LOCAL^Neck",
         [HEAD, {"CodeValue": "H2", "CodingSchemeDesignator": "99LOCAL", "CodeMeaning": "Neck"}]),
        ("RequestedProcedureCodeSequence", "A-code-of-more-than-16^99LOCAL^Head",
         [{"LongCodeValue": "A-code-of-more-than-16", "CodingSchemeDesignator": "99LOCAL", "CodeMeaning": "Head"}]),
        ("ReferencedStudySequence", "1.2.840^1.2.3",
         [{"ReferencedSOPClassUID": "1.2.840", "ReferencedSOPInstanceUID": "1.2.3"}]),
        ("OtherPatientIDsSequence", "X1^Hospital", [{"PatientID": "X1", "IssuerOfPatientID": "Hospital"}]),
    ],
)  # fmt: skip
def test_a_value_takes_the_form_of_its_attribute(name: str, value: object, expected: object) -> None:
    found, told = read(**{name: value})
    assert found == ({} if expected is None else {name: expected})
    assert told == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PatientSize", "175", "in metres"),
        ("PatientSize", "1.750 mm", "thousands"),
        ("PatientAge", "45", "with its unit"),
        ("RequestedProcedureCodeSequence", "H1^99LOCAL", "CodeMeaning missing"),
        ("RequestedProcedureCodeSequence", "^99LOCAL^Head", "CodeValue missing"),
        ("RequestedProcedureCodeSequence", "H1^A-scheme-longer-than-16^Head", "longer than 16"),
        ("ReferencedStudySequence", "1.2.840", "ReferencedSOPInstanceUID missing"),
        ("ReferencedStudySequence", "x^y", "not a UID"),
        ("OtherPatientIDs", "P\u200b1", "invisible"),
        ("PlacerOrderNumberImagingServiceRequest", "9" * 65, "longer than 64"),
        ("LastMenstrualDate", "2150-01-01", "future"),
        ("Occupation", "#REF!", "spreadsheet"),
        ("ReasonForTheRequestedProcedure", ["a", "b"], "several values"),
        ("PatientComments", {"a": 1}, "dict"),
        ("OtherPatientIDs", [str(number) for number in range(101)], "more than 100 values"),
        ("OtherPatientIDs", "\\".join(map(str, range(101))), "more than 100 values"),
        ("ScheduledProtocolCodeSequence", ["H1^99LOCAL^Head"] * 101, "more than 100 values"),
    ],
)
def test_what_is_unusable_or_incomplete_is_left_out_and_told(name: str, value: object, reason: str) -> None:
    found, told = read(**{name: value})
    assert found == {}
    assert [target for target, _ in told] == [f"dicom:{name}"]
    assert reason in told[0][1]


def test_the_parts_of_a_sequence_are_put_together() -> None:
    code = "RequestedProcedureCodeSequence"
    found, told = read(
        **{f"{code}.CodeValue": "H1", f"{code}.CodeMeaning": "Head", f"{code}.CodingSchemeDesignator": "99LOCAL"}
    )
    assert found == {code: [HEAD]}
    assert told == []


def test_several_values_of_the_parts_are_several_items() -> None:
    code = "ScheduledProtocolCodeSequence"
    found, _ = read(
        **{f"{code}.CodeValue": "A\\B", f"{code}.CodeMeaning": ["a", "b"], f"{code}.CodingSchemeDesignator": "S"}
    )
    assert [item["CodeMeaning"] for item in found[f"{SPS}.{code}"] if isinstance(item, dict)] == ["a", "b"]
    found, told = read(
        **{f"{code}.CodeValue": "A\\B", f"{code}.CodeMeaning": "a\\b\\c", f"{code}.CodingSchemeDesignator": "S"}
    )
    assert found == {}
    assert "different numbers" in told[0][1]


def test_a_part_that_is_alone_leaves_the_item_out() -> None:
    found, told = read(**{"RequestedProcedureCodeSequence.CodeMeaning": "Head"})
    assert found == {}
    assert told == [
        ("dicom:RequestedProcedureCodeSequence", "CodeValue, CodingSchemeDesignator missing, so the item is left out")
    ]


def test_long_text_is_cut_and_told() -> None:
    found, told = read(ReasonForTheRequestedProcedure="x" * 80)
    assert found == {"ReasonForTheRequestedProcedure": ["x" * 64]}
    assert "longer than 64" in told[0][1]
