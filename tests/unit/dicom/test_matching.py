"""Reading C-FIND identifiers: each rule of matching, and hostile identifiers."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.dsutils import decode, encode

from pylantir.dicom.find.elements import MAX_VALUES
from pylantir.dicom.find.matching import ParsedQuery, parse_query
from pylantir.entry import WORKLIST_FIELDS
from pylantir.errors import InvalidQuery
from pylantir.query import PERSON_NAME_FIELDS, WorklistQuery, item_matches, pattern_test

# pydicom warns of the odd values that these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore")


def identifier(step: dict[str, object] | None = None, **keys: object) -> Dataset:
    """An identifier as it comes off the wire: keyword -> value, those of the step in its sequence."""
    whole = Dataset()
    for keyword, value in keys.items():
        setattr(whole, keyword, value)
    if step is not None:
        item = Dataset()
        for keyword, value in step.items():
            setattr(item, keyword, value)
        whole.ScheduledProcedureStepSequence = [item]
    encoded = encode(whole, True, True)
    assert encoded is not None
    return decode(BytesIO(encoded), True, True)


def query_of(step: dict[str, object] | None = None, **keys: object) -> WorklistQuery:
    return parse_query(identifier(step, **keys)).query


def refused(given_identifier: Dataset) -> InvalidQuery:
    with pytest.raises(InvalidQuery) as caught:
        parse_query(given_identifier)
    return caught.value


def keywords(parsed: ParsedQuery) -> set[str]:
    return {key.attribute.keyword for key in parsed.requested if key.attribute}


def test_single_values_are_taken_without_their_padding() -> None:
    query = query_of(
        {"ScheduledStationAETitle": "MR1 ", "Modality": "MR", "ScheduledProcedureStepStartDate": "20260105"},
        PatientID=" P1 ",
        AccessionNumber="A1",
    )
    assert query.equal == {
        "scheduled_station_aetitle": ("MR1",),
        "modality": ("MR",),
        "scheduled_start_date": ("20260105",),
        "patient_id": ("P1",),
        "accession_number": ("A1",),
    }


@pytest.mark.parametrize("universal", ["", "*", "**", None])
def test_an_empty_key_and_a_lone_asterisk_select_nothing_in_particular(universal: str | None) -> None:
    parsed = parse_query(
        identifier({"Modality": universal, "ScheduledProcedureStepStartDate": universal}, PatientName=universal)
    )
    assert parsed.query == WorklistQuery()
    assert keywords(parsed) == {"PatientName", "ScheduledProcedureStepSequence"}


@pytest.mark.parametrize("name", ["^^^^", "=", "*", " ^ "])
def test_a_name_of_empty_components_is_universal(name: str) -> None:
    assert query_of(PatientName=name) == WorklistQuery()


def test_a_name_is_a_pattern_even_without_a_wildcard() -> None:
    assert query_of(PatientName="Doe ^John^^").like == {"patient_name": "Doe^John"}


def test_wildcards_in_text_keys_make_a_pattern() -> None:
    assert query_of(PatientID="sub_??_*").like == {"patient_id": "sub_??_*"}


def test_several_study_uids_are_a_list_to_choose_from() -> None:
    assert query_of(StudyInstanceUID=["1.2.3", "1.2.4"]).equal == {"study_instance_uid": ("1.2.3", "1.2.4")}


@pytest.mark.parametrize(
    ("dates", "bounds"),
    [
        ("20260105-20260107", ("20260105", "20260107")),
        ("20260105-", ("20260105", None)),
        ("-20260107", (None, "20260107")),
        ("2026.01.05 - 2026.01.07", ("20260105", "20260107")),
    ],
)
def test_date_ranges(dates: str, bounds: tuple[str | None, str | None]) -> None:
    assert query_of({"ScheduledProcedureStepStartDate": dates}).ranges == {"scheduled_start_date": bounds}
    assert query_of(PatientBirthDate=dates).ranges == {"patient_birth_date": bounds}


@pytest.mark.parametrize("text", ["2230", "223000", "22:30", "22:30:00", "223000.000", "223000.0 "])
def test_a_time_is_taken_by_its_meaning(text: str) -> None:
    assert query_of({"ScheduledProcedureStepStartTime": text}).equal == {"scheduled_start_time": ("223000",)}


def test_a_split_second_equals_no_stored_time() -> None:
    query = query_of({"ScheduledProcedureStepStartTime": "223000.5"})
    assert query.equal == {"scheduled_start_time": ()}
    assert not item_matches(query, {"scheduled_start_time": "223000"})


@pytest.mark.parametrize("times", ["2400", "2400-", "0800-2401", "-25"])
def test_an_hour_that_no_day_has_is_refused(times: str) -> None:
    with pytest.raises(InvalidQuery):
        query_of({"ScheduledProcedureStepStartTime": times})


@pytest.mark.parametrize(
    ("times", "bounds"),
    [
        ("1000-1800", ("100000", "180059")),
        ("0000-2359", ("000000", "235959")),
        ("10-", ("100000", None)),
        ("-17", (None, "175959")),
        ("100000.000-180000.000", ("100000", "180000")),
        ("0000-2400", ("000000", "235959")),
        ("000000.000-240000.000", ("000000", "235959")),
        ("-24:00", (None, "235959")),
    ],
)
def test_time_ranges(times: str, bounds: tuple[str | None, str | None]) -> None:
    assert query_of({"ScheduledProcedureStepStartTime": times}).ranges == {"scheduled_start_time": bounds}


@pytest.mark.parametrize(
    ("dates", "times", "period"),
    [
        ("20260705-20260707", "100000-180000", ("20260705100000", "20260707180000")),
        ("20260705-", "1000-1800", ("20260705100000", None)),
        ("-20260707", "1000-", (None, "20260707235959")),
        ("20260705-20260707", "-180000", ("20260705000000", "20260707180000")),
    ],
)
def test_a_range_of_dates_and_a_range_of_times_are_one_period(
    dates: str, times: str, period: tuple[str | None, str | None]
) -> None:
    query = query_of({"ScheduledProcedureStepStartDate": dates, "ScheduledProcedureStepStartTime": times})
    assert query == WorklistQuery(period=period)


def test_one_date_with_a_range_of_times_stays_two_conditions() -> None:
    query = query_of(
        {"ScheduledProcedureStepStartDate": "20260705", "ScheduledProcedureStepStartTime": "100000-180000"}
    )
    assert query.equal == {"scheduled_start_date": ("20260705",)}
    assert query.ranges == {"scheduled_start_time": ("100000", "180000")}
    assert query.period is None


@pytest.mark.parametrize(
    ("wire", "stored"),
    [
        ("STARTED", ("IN_PROGRESS",)),
        ("SCHEDULED", ("SCHEDULED",)),
        ("S*", ("SCHEDULED", "IN_PROGRESS")),
        ("ARRIVED", ()),
    ],
)
def test_a_status_is_asked_for_in_the_standards_terms(wire: str, stored: tuple[str, ...]) -> None:
    query = query_of({"ScheduledProcedureStepStatus": wire})
    assert query.equal == {"performed_procedure_step_status": stored}


@pytest.mark.parametrize("items", [[], [Dataset()]])
def test_an_empty_sequence_is_universal_and_asks_for_everything_in_it(items: list[Dataset]) -> None:
    parsed = parse_query(identifier(ScheduledProcedureStepSequence=items))
    assert parsed.query == WorklistQuery()
    asked = {key.attribute.keyword for key in parsed.requested[0].children if key.attribute}
    assert {"Modality", "ScheduledStationAETitle", "ScheduledProtocolCodeSequence"} <= asked
    assert parsed.unsupported == ()


def test_an_unknown_key_is_not_matched_but_reported_and_returned() -> None:
    parsed = parse_query(identifier(PatientID="P1", PatientSize="1.80", OtherPatientIDs=""))
    assert parsed.query.equal == {"patient_id": ("P1",)}
    assert parsed.unsupported == (0x00101020,)
    assert {key.tag for key in parsed.requested} == {0x00100020, 0x00101000, 0x00101020}


def test_a_value_in_a_key_that_is_only_returned_is_reported() -> None:
    assert parse_query(identifier(PatientWeight="80")).unsupported == (0x00101030,)
    assert parse_query(identifier(PatientWeight=None)).unsupported == ()


def test_parts_of_sequences_that_are_always_empty_are_known_keys() -> None:
    reference, code = Dataset(), Dataset()
    reference.ReferencedSOPClassUID = reference.ReferencedSOPInstanceUID = None
    code.CodeValue = code.CodingSchemeDesignator = code.CodingSchemeVersion = code.CodeMeaning = None
    parsed = parse_query(
        identifier(
            {"ScheduledProtocolCodeSequence": [code]},
            ReferencedStudySequence=[reference],
            ReferencedPatientSequence=[reference],
            RequestedProcedureCodeSequence=[code],
        )
    )
    assert parsed.unsupported == ()


def test_character_set_time_zone_and_group_lengths_are_no_keys() -> None:
    given_identifier = identifier(SpecificCharacterSet="ISO_IR 100", TimezoneOffsetFromUTC="+0100", PatientName="Dör*")
    given_identifier.add(DataElement(0x00100000, "UL", 12))
    parsed = parse_query(given_identifier)
    assert parsed.query.like == {"patient_name": "Dör*"}
    assert keywords(parsed) == {"PatientName"}
    assert parsed.unsupported == ()


@pytest.mark.parametrize(
    "text", ["2026-13", "20261301", "20260230", "today", "--", "2026*", "20260101-20260102-", "٢٠٢٦٠١٠١"]
)
def test_a_bad_date_is_refused_without_quoting_it(text: str) -> None:
    step = Dataset()
    step.add(DataElement(0x00400002, "DA", text, validation_mode=0))
    whole = Dataset()
    whole.ScheduledProcedureStepSequence = [step]
    error = refused(whole)
    assert error.tag == 0x00400002
    assert text == "--" or text not in str(error)


@pytest.mark.parametrize("text", ["25", "1060", "noon", "--", "10*"])
def test_a_bad_time_is_refused(text: str) -> None:
    assert refused(identifier({"ScheduledProcedureStepStartTime": text})).tag == 0x00400003


def test_two_items_in_a_sequence_are_refused() -> None:
    error = refused(identifier(ScheduledProcedureStepSequence=[Dataset(), Dataset()]))
    assert error.tag == 0x00400100


def test_text_in_place_of_a_sequence_is_refused() -> None:
    whole = Dataset()
    whole.add(DataElement(0x00400100, "LO", "../../etc/passwd"))
    assert refused(whole).tag == 0x00400100


def test_a_sequence_in_place_of_text_is_refused() -> None:
    whole = Dataset()
    whole.add(DataElement(0x00100020, "SQ", Sequence([Dataset()])))
    assert refused(whole).tag == 0x00100020


def test_an_unknown_sequence_is_not_looked_into() -> None:
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2"
    parsed = parse_query(identifier(PatientID="P1", RequestAttributesSequence=[inner, Dataset()]))
    assert (parsed.query, parsed.unsupported) == (WorklistQuery(equal={"patient_id": ("P1",)}), (0x00400275,))


def test_two_items_in_a_sequence_in_which_nothing_selects_are_not_insisted_on() -> None:
    parsed = parse_query(identifier(RequestedProcedureCodeSequence=[Dataset(), Dataset()]))
    assert parsed.unsupported == (0x00321064,)


@pytest.mark.parametrize("text", ["-", " - "])
def test_a_range_that_is_open_at_both_ends_is_universal(text: str) -> None:
    step = Dataset()
    step.add(DataElement(0x00400002, "DA", text, validation_mode=0))
    step.add(DataElement(0x00400003, "TM", text, validation_mode=0))
    assert parse_query(identifier(ScheduledProcedureStepSequence=[step])).query == WorklistQuery()


def test_any_date_or_time_of_a_list_matches() -> None:
    step = {
        "ScheduledProcedureStepStartDate": ["20300101", "2030.01.02"],
        "ScheduledProcedureStepStartTime": ["08", "0930"],
    }
    assert parse_query(identifier(step)).query == WorklistQuery(
        equal={"scheduled_start_date": ("20300101", "20300102"), "scheduled_start_time": ("080000", "093000")}
    )


@pytest.mark.parametrize(
    ("declared", "raw", "name"),
    [
        (b"", "Müller".encode(), "Müller"),
        (b"", "Müller".encode("latin-1"), "Müller"),
        (b"", "山田^太郎".encode(), "山田^太郎"),
        (b"ISO_IR 6", "Müller".encode(), "Müller"),
        (b"ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 100", "Müller".encode(), "Müller".encode().decode("latin-1")),
        (b"ISO_IR 192", "Müller".encode(), "Müller"),
    ],
)
def test_a_name_whose_character_set_nobody_declares_is_read_as_utf_8_where_it_is(
    declared: bytes, raw: bytes, name: str
) -> None:
    def element(tag: bytes, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return tag + len(value).to_bytes(4, "little") + value

    data = element(b"\x08\x00\x05\x00", declared) if declared else b""
    parsed = parse_query(decode(BytesIO(data + element(b"\x10\x00\x10\x00", raw)), True, True))
    assert parsed.query.like == {"patient_name": name}


def test_several_names_or_patterns_in_one_key_are_refused() -> None:
    assert refused(identifier(PatientName=["Doe*", "Roe*"])).tag == 0x00100010
    assert refused(identifier(PatientID=["A*", "B"])).tag == 0x00100020


@pytest.mark.parametrize("value", ["a\nb", "x" * 2000, "a\0b"])
def test_control_characters_and_endless_values_are_refused(value: str) -> None:
    whole = Dataset()
    whole.add(DataElement(0x00100020, "LO", value, validation_mode=0))
    assert refused(whole).tag == 0x00100020


def test_too_many_uids_are_refused() -> None:
    uids = [f"1.{number}" for number in range(MAX_VALUES + 1)]
    assert refused(identifier(StudyInstanceUID=uids)).tag == 0x0020000D


def test_an_identifier_that_asks_for_nothing_is_refused() -> None:
    refused(Dataset())
    refused(identifier(SpecificCharacterSet="ISO_IR 100"))


@pytest.mark.parametrize(
    "element",
    [
        b"\x10\x00\xc0\x21\x03\x00\x00\x00abc",
        b"\x10\x00\x30\x10\x04\x00\x00\x0070kg",
        b"\x28\x00\x10\x00\x01\x00\x00\x00a",
    ],
)
def test_a_key_that_selects_nothing_need_not_be_readable(element: bytes) -> None:
    parsed = parse_query(decode(BytesIO(element), True, True))
    assert (parsed.query, len(parsed.requested), len(parsed.unsupported)) == (WorklistQuery(), 1, 1)


@given(st.binary(max_size=200), st.booleans())
def test_whatever_the_bytes_the_answer_is_a_query_or_a_refusal(garbage: bytes, implicit: bool) -> None:
    try:
        decoded = decode(BytesIO(garbage), implicit, True)
    except Exception:  # noqa: BLE001 - pydicom could not even begin; the server answers that itself
        return
    try:
        parse_query(decoded)
    except InvalidQuery:
        return


def test_the_person_name_fields_are_those_of_value_representation_pn() -> None:
    assert {name for name, rule in WORKLIST_FIELDS.items() if rule.vr == "PN"} == PERSON_NAME_FIELDS


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("doe^john", "Doe^John", True),
        ("DOE", "Doe^John", False),
        ("DOE*", "Doe^John", True),
        ("DOE^*", "Doe", True),
        ("DOE^???", "Doe", False),
        ("DOE^JOHN", "Doe^John^^^", True),
        ("*^JOHN", "Doe^John", True),
        ("D?E^J*", "Doe^John", True),
        ("ΓΕΩΡΓΙΟΥ*", "Γεωργίου^Μαρία", False),
        ("ΓΕΩΡΓΊΟΥ*", "Γεωργίου^Μαρία", True),
        ("STRASSE", "Straße", True),
        ("Mu\u0308ller", "Müller", True),
        ("YAMADA^*", "Yamada^Tarou=山田^太郎", True),
        ("山田*", "Yamada^Tarou=山田^太郎", True),
        ("=山田*", "Yamada^Tarou=山田^太郎", True),
        ("SATO*=山田*", "Yamada^Tarou=山田^太郎", False),
        ("DOE=", "Doe", True),
        ("a.c", "abc", False),
    ],
)
def test_person_names_match_by_component_and_whatever_the_letter_case(pattern: str, name: str, expected: bool) -> None:
    assert pattern_test("patient_name", pattern)(name) is expected


def test_other_text_matches_with_its_letter_case() -> None:
    matches = pattern_test("patient_id", "Ab?*[x]")
    assert matches("Abc-[x]")
    assert not matches("abc-[x]")


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not pattern_test("patient_id", "*a" * 200 + "b")("a" * 64)


def test_an_empty_stored_value_meets_no_condition() -> None:
    for query in (
        WorklistQuery(equal={"modality": ("",)}),
        WorklistQuery(like={"modality": "?*"}),
        WorklistQuery(ranges={"scheduled_start_date": ("20260101", None)}),
        WorklistQuery(period=(None, "20260101000000")),
    ):
        assert not item_matches(query, {"modality": None, "scheduled_start_time": ""})
    assert item_matches(WorklistQuery(), {})
