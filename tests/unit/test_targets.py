"""The table of `dicom:` targets, compared with pydicom's dictionary."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from pylantir.dicom.find.attributes import WORKLIST_ATTRIBUTES
from pylantir.targets import CODE_PARTS, LONGEST, TARGETS, Target, find_target, target_names


def vr_of(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    assert tag is not None, f"{keyword} is in no dictionary"
    return dictionary_VR(tag)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.path)
def test_a_target_has_the_form_that_the_data_dictionary_gives_it(target: Target) -> None:
    *around, keyword = target.path.split(".")
    assert all(vr_of(sequence) == "SQ" for sequence in around)
    assert vr_of(keyword) == target.vr
    assert (target.vr == "SQ") == bool(target.parts) == (target.kind != "value")
    # A worklist field holds one value also where DICOM allows several; the dictionary knows no number of items.
    if target.vr != "SQ" and target.worklist_field is None:
        assert (dictionary_VM(tag_for_keyword(keyword) or 0) != "1") == target.many
    for name, part in target.parts.items():
        assert vr_of(name) == part.vr
        assert part.max_length == LONGEST[part.vr]


def test_a_target_has_a_worklist_field_exactly_where_that_field_alone_gives_the_attribute() -> None:
    served = {".".join((*one.path, one.keyword)): one.fields for one in WORKLIST_ATTRIBUTES}
    for path, target in TARGETS.items():
        if target.worklist_field is None or target.worklist_field in {"patient_weight_kg", "issuer_of_patient_id"}:
            continue
        assert served[path][0] == target.worklist_field


def test_every_attribute_that_is_served_can_be_mapped() -> None:
    for attribute in WORKLIST_ATTRIBUTES:
        path = ".".join((*attribute.path, attribute.keyword))
        assert path == "ScheduledProcedureStepSequence" or find_target(path) is not None, path


@pytest.mark.parametrize(
    ("name", "path", "part"),
    [
        ("dicom:PatientSize", "PatientSize", None),
        ("dicom:Modality", "ScheduledProcedureStepSequence.Modality", None),
        (
            "dicom:ScheduledProcedureStepSequence.CommentsOnTheScheduledProcedureStep",
            "ScheduledProcedureStepSequence.CommentsOnTheScheduledProcedureStep",
            None,
        ),
        ("dicom:RequestedProcedureCodeSequence.CodeValue", "RequestedProcedureCodeSequence", "CodeValue"),
        (
            "dicom:ScheduledProtocolCodeSequence.CodeMeaning",
            "ScheduledProcedureStepSequence.ScheduledProtocolCodeSequence",
            "CodeMeaning",
        ),
        ("dicom:OtherPatientIDsSequence.PatientID", "OtherPatientIDsSequence", "PatientID"),
    ],
)
def test_a_name_means_one_attribute_of_the_table(name: str, path: str, part: str | None) -> None:
    assert find_target(name) == (TARGETS[path], part)


@pytest.mark.parametrize("name", ["dicom:PatientSise", "dicom:PixelData", "dicom:", "dicom:PatientSize.CodeValue"])
def test_what_is_not_in_the_table_is_no_target(name: str) -> None:
    assert find_target(name) is None


def test_no_keyword_stands_at_two_places_of_the_table() -> None:
    assert len({path.rpartition(".")[2] for path in TARGETS}) == len(TARGETS)
    assert all(find_target(name) is not None for name in target_names())


def test_a_code_needs_scheme_and_meaning() -> None:
    assert [name for name, part in CODE_PARTS.items() if part.required] == ["CodingSchemeDesignator", "CodeMeaning"]


def test_the_table_needs_no_dicom_library() -> None:
    code = "import sys, pylantir.targets; sys.exit(any(name.startswith('pydicom') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
