"""DICOMweb without a server: parameters, media types, and the two forms of a data set."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.dicom.find.matching import parse_query
from pylantir.errors import BadRequest
from pylantir.web.dicomweb.media import Form, choose_form, read_body, write_result, write_results
from pylantir.web.dicomweb.native_xml import read_xml, write_xml
from pylantir.web.dicomweb.queries import read_search

JSON, XML = "application/dicom+json", "application/dicom+xml"


@pytest.mark.parametrize(
    "name",
    ["ScheduledProcedureStepSequence.Modality", "00400100.00080060", "00400100.Modality",
     "ScheduledProcedureStepSequence.00080060"],
)  # fmt: skip
def test_attributes_by_keyword_and_by_tag(name: str) -> None:
    query = parse_query(read_search([(name, "MR")]).identifier).query
    assert query.equal["modality"] == ("MR",)


def test_values_match_as_in_a_c_find() -> None:
    parameters = [
        ("PatientName", "Cur*"), ("PatientID", "P1"), ("StudyInstanceUID", "1.2,1.3"),
        ("ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate", "20300101-20300131"),
    ]  # fmt: skip
    query = parse_query(read_search(parameters).identifier).query
    assert query.like == {"patient_name": "Cur*"}
    assert query.equal["study_instance_uid"] == ("1.2", "1.3")
    assert query.ranges["scheduled_start_date"] == ("20300101", "20300131")


def test_what_is_sent_unasked_and_what_is_asked_for() -> None:
    plain = read_search([("PatientID", "P1")]).identifier
    assert "PatientBirthDate" in plain
    assert "StudyDescription" not in plain
    assert "StudyDescription" in read_search([("includefield", "PatientID,StudyDescription")]).identifier
    everything = read_search([("includefield", "all")]).identifier
    assert "ScheduledProcedureStepStatus" in everything.ScheduledProcedureStepSequence[0]


def test_page_and_fuzziness() -> None:
    search = read_search([("limit", "10"), ("offset", "5"), ("fuzzymatching", "true")])
    assert (search.limit, search.offset, search.is_fuzzy) == (10, 5, True)


@pytest.mark.parametrize(
    "parameter",
    [("limit", "-1"), ("limit", "many"), ("offset", ""), ("fuzzymatching", "yes"), ("NoSuchKeyword", "x"),
     ("patientid", "x"), ("0010", "x"), ("00100021.PatientID", "x"), ("PatientID.", "x"), ("", "x"),
     ("includefield", "Nothing"), ("ScheduledProcedureStepSequence", "x"), ("PatientID", "x" * 20_000),
     (".".join(["ScheduledProcedureStepSequence"] * 20), "x"), ("00020010", "1.2.3"), ("00000000", "1"),
     ("includefield", "00020010")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(parameter: tuple[str, str]) -> None:
    with pytest.raises(BadRequest):
        read_search([parameter])


@pytest.mark.parametrize("name", ["limit", "offset", "fuzzymatching", "PatientID"])
def test_a_parameter_that_is_given_twice_is_refused(name: str) -> None:
    value = "true" if name == "fuzzymatching" else "1"
    with pytest.raises(BadRequest, match="twice"):
        read_search([(name, value), (name, value)])


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=5))
def test_any_parameters_are_a_search_or_a_bad_request(parameters: list[tuple[str, str]]) -> None:
    with suppress(BadRequest):
        read_search(parameters)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form("json")),
        ("*/*", Form("json")),
        ("application/dicom+json", Form("json")),
        ("text/html, application/dicom+xml;q=0.5", Form("xml")),
        ("application/dicom+xml;q=0.5, application/dicom+json;q=0.9", Form("json")),
        ('multipart/related; type="application/dicom+xml"', Form("xml", in_parts=True)),
        ("text/html", None),
        ("application/dicom+json;q=0", None),
    ],
)
def test_the_form_of_an_answer(accept: str, form: Form | None) -> None:
    assert choose_form(accept) == form


TEXT = st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
NAME_PART = st.text(
    st.characters(min_codepoint=0x21, exclude_categories=("Cs", "Cc"), exclude_characters="^="), min_size=1
)
ELEMENTS = st.one_of(
    st.fixed_dictionaries({"vr": st.just("LO"), "Value": st.lists(TEXT, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"vr": st.just("US"), "Value": st.lists(st.integers(0, 65535), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"vr": st.just("DS"), "Value": st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=2)}),
    st.builds(lambda *parts: {"vr": "PN", "Value": [{"Alphabetic": "^".join(parts)}]}, NAME_PART, NAME_PART, NAME_PART),
    st.just({"vr": "SH"}),
)
LEVEL = st.dictionaries(st.sampled_from(["00100010", "00080060", "00400253", "00101030", "00080050"]), ELEMENTS)
MODEL = st.dictionaries(st.sampled_from(["00400270", "00081120"]), LEVEL.map(lambda one: {"vr": "SQ", "Value": [one]}))


@given(MODEL, LEVEL)
def test_xml_says_the_same_as_json(sequences: dict[str, Any], level: dict[str, Any]) -> None:
    model = {**sequences, **level}
    assert read_xml(write_xml(model)) == model
    for form in (Form("json"), Form("xml"), Form("json", in_parts=True), Form("xml", in_parts=True)):
        kind, body = write_result(form, model)
        assert read_body(kind, body) == model


def test_several_results_in_parts() -> None:
    kind, body = write_results(Form("xml"), [{"00100020": {"vr": "LO", "Value": [one]}} for one in ("P1", "P2")])
    assert kind.startswith('multipart/related; type="application/dicom+xml"; boundary=')
    assert body.count(b"<NativeDicomModel") == 2


HOSTILE_XML = [
    b"", b"<", b"<a/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><NativeDicomModel>&b;</NativeDicomModel>",
    b"<NativeDicomModel><DicomAttribute/></NativeDicomModel>",
    b'<NativeDicomModel><DicomAttribute tag="00100020" vr="LO"><Item/></DicomAttribute></NativeDicomModel>',
    "<?xml version='1.0' encoding='utf-16'?><NativeDicomModel/>".encode("utf-16"),
    b"<NativeDicomModel>" + b'<DicomAttribute tag="00400270" vr="SQ"><Item>' * 2000,
]  # fmt: skip


ONE_PATIENT = '<DicomAttribute tag="00100020" vr="LO"><Value number="1">P{}</Value></DicomAttribute>'
HOSTILE_XML.append(f"<NativeDicomModel>{ONE_PATIENT.format(1)}{ONE_PATIENT.format(2)}</NativeDicomModel>".encode())


@pytest.mark.parametrize("data", HOSTILE_XML)
def test_hostile_xml_is_a_bad_request(data: bytes) -> None:
    with pytest.raises(BadRequest):
        read_xml(data)


@pytest.mark.parametrize(
    ("kind", "body"),
    [(JSON, b""), (JSON, b"[]"), (JSON, b"[{},{}]"), (JSON, b"1"), (JSON, b'{"00100020": 1}'), (JSON, b"\xff"),
     (JSON, b'{"00100020": {"Value": [NaN]}}'), (JSON, b'{"00281050": {"vr": "DS", "Value": [1e999]}}'),
     (JSON, b'{"00100020": {"vr": "LO", "Value": {"a": 1}}}'), (JSON, b'{"00100020": {"vr": "LO", "Value": [["x"]]}}'),
     (JSON, b'{"00100020": {"vr": "LO", "Value": [true]}}'), (JSON, b'{"00100020": {"vr": 5}}'),
     (JSON, b'{"00100020": {"vr": "LO", "Value": ["P1"]}, "00100020": {"vr": "LO", "Value": ["P2"]}}'),
     (JSON, b'{"0010002": {"vr": "LO"}}'), (JSON, b'{"00100020": {"vr": "LO", "BulkDataURI": "file:///x"}}'),
     (JSON, b'{"00400340": {"vr": "SQ", "Value": [5]}}'), (JSON, b'{"00400340": {"vr": "SQ", "Value": [{"x": {}}]}}'),
     (JSON, b'{"00100010": {"vr": "PN", "Value": [{"Alphabetic": 5}]}}'), (JSON, b"[" * 100_000), ("text/plain", b"{}"), ("", b"{}"),
     ("multipart/related", b"x"), ("multipart/related; boundary=a", b"--a\r\n\r\n{}\r\n--a\r\n\r\n{}\r\n--a--")],
)  # fmt: skip
def test_other_bodies_are_bad_requests(kind: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_body(kind, body)


@pytest.mark.parametrize(
    "element",
    [{"vr": "LO"}, {"vr": "LO", "Value": []}, {"vr": "LO", "Value": [None]}, {"vr": "US", "Value": [1]},
     {"vr": "DS", "Value": [1.5, "2"]}, {"vr": "PN", "Value": [{"Alphabetic": "A^B"}, "C", None]},
     {"vr": "SQ", "Value": [{"00080050": {"vr": "SH"}}, {}]}, {"Value": ["x"]}, {"Value": [{"00080050": {}}]},
     {"vr": "OB", "InlineBinary": "AAAA"}],
)  # fmt: skip
def test_elements_of_every_form_are_taken(element: dict[str, Any]) -> None:
    assert read_body(JSON, json.dumps({"00091001": element}).encode()) == {"00091001": element}


def test_one_object_in_an_array_is_accepted() -> None:
    assert read_body(JSON, json.dumps([{"00100020": {"vr": "LO"}}]).encode()) == {"00100020": {"vr": "LO"}}
