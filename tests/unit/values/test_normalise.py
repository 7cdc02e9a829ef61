"""The value rules: what becomes of every kind of value, and what is refused."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config as pydicom_config
from pydicom.valuerep import validate_value

from pylantir.entry import (
    MAPPING_TARGETS,
    RECORD_ID_FIELD,
    START_FIELD,
    WEIGHT_KG_FIELD,
    WORKLIST_FIELDS,
)
from pylantir.errors import RecordRejected
from pylantir.values.normalise import ValueRules, clean_check, normalise_value
from pylantir.values.text import Note

SCALARS = st.one_of(
    st.none(),
    st.text(max_size=80),
    st.text(alphabet="AaZz09^=,.:-/ \\\n\t\u3000\u200bé山Ω+E", max_size=80),
    st.integers(),
    st.floats(),
    st.decimals(allow_infinity=False).filter(lambda value: not value.is_snan()),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.booleans(),
    st.dates().map(lambda day: day.isoformat()),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.times().map(lambda time: time.isoformat()),
)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("scheduled_start_date", "2026-12-01", "20261201"),
        ("scheduled_start_date", "20261201", "20261201"),
        ("scheduled_start_date", "2026/12/1", "20261201"),
        ("scheduled_start_date", "2026-12-01T08:30:00", "20261201"),
        ("scheduled_start_date", datetime.date(2026, 12, 1), "20261201"),
        ("scheduled_start_date", datetime.datetime(2026, 12, 1, 8, 30), "20261201"),  # noqa: DTZ001
        ("scheduled_start_date", " ", None),
        ("patient_birth_date", "1980", "19800101"),
        ("patient_birth_date", 1980, "19800101"),
        ("patient_birth_date", 1980.0, "19800101"),
        ("scheduled_start_time", "08", "080000"),
        ("scheduled_start_time", "8:30", "083000"),
        ("scheduled_start_time", "08:30:15", "083015"),
        ("scheduled_start_time", "08:30:15.123456", "083015"),
        ("scheduled_start_time", "0830", "083000"),
        ("scheduled_start_time", "083015.5", "083015"),
        ("scheduled_start_time", datetime.time(8, 30), "083000"),
        ("scheduled_start_time", datetime.datetime(2026, 12, 1, 8, 30), "083000"),  # noqa: DTZ001
        ("scheduled_start", "20261201 0830", "20261201083000"),
        ("scheduled_start", "2026-12-01", "20261201"),
        ("scheduled_start", datetime.datetime(2026, 12, 1, 8, 30), "20261201083000"),  # noqa: DTZ001
        ("scheduled_start", datetime.date(2026, 12, 1), "20261201"),
        ("patient_name", "Doe^Jane", "Doe^Jane"),
        ("patient_name", "Doe, Jane", "Doe^Jane"),
        ("patient_name", "Jane Doe", "Jane Doe"),
        ("patient_name", "Doe, Jane, Dr", "Doe, Jane, Dr"),
        ("patient_name", " Doe ^ Jane ^^^ ", "Doe^Jane"),
        ("patient_name", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("patient_name", "^^^^", None),
        ("patient_sex", "female", "F"),
        ("patient_sex", " m ", "M"),
        ("patient_sex", "Other", "O"),
        ("patient_sex", "unknown", None),
        ("modality", "mr", "MR"),
        ("modality", "MRI", "MR"),
        ("patient_id", 17, "17"),
        ("patient_id", 17.0, "17"),
        ("patient_id", Decimal("17.00"), "17"),
        ("patient_id", "0017", "0017"),
        ("patient_id", float("nan"), None),
        ("patient_id", "NaN", None),
        ("study_description", "  Brain\n 3T ", "Brain 3T"),
        ("patient_weight_lb", "150.50", "150.5"),
        ("patient_weight_lb", "72,5 kg", "159.8351"),
        (WEIGHT_KG_FIELD, "160 lbs", "160"),
        (WEIGHT_KG_FIELD, "72,5", "159.8351"),
        (WEIGHT_KG_FIELD, "3200 g", "7.0548"),
        (WEIGHT_KG_FIELD, "72.500 kg", "159.8351"),
        (WEIGHT_KG_FIELD, "0.950 kg", "2.0944"),
        ("patient_sex", "weiblich", "F"),
        ("patient_sex", "w", "F"),
        ("patient_sex", "d", "O"),
        ("pregnancy_status", "No", "1"),
        ("pregnancy_status", True, "3"),
        ("pregnancy_status", "possibly pregnant", "2"),
        ("performed_procedure_step_status", "Confirmed", "SCHEDULED"),
        ("performed_procedure_step_status", "storniert", "CANCELED"),
        ("scheduled_start", "20261201093000", "20261201093000"),
        ("scheduled_start", "202612010930", "20261201093000"),
        ("scheduled_start", "20261201093000.123456", "20261201093000"),
        ("scheduled_start_time", "8:30 PM", "203000"),
        ("scheduled_start_time", "12:05 a.m.", "000500"),
        ("patient_id", '="0012"', "0012"),
        ("patient_id", "'0013", "0013"),
        ("patient_name", '="Doe ""JD"", Jane"', 'Doe "JD"^Jane'),
        ("patient_name", "'t Hart^Jan", "'t Hart^Jan"),
        ("patient_birth_date", "1980-05-17T00:00:00Z", "19800517"),
        ("patient_birth_date", "19800517000000", "19800517"),
        ("accession_number", "NULL", None),
        ("patient_name", "#N/A", None),
        ("patient_weight_lb", 150, "150"),
        (WEIGHT_KG_FIELD, "70", "154.3236"),
        ("pregnancy_status", 4, "4"),
        ("performed_procedure_step_status", "Cancelled", "CANCELED"),
        ("performed_procedure_step_status", "in_progress", "IN_PROGRESS"),
        ("study_instance_uid", "1.2.840.10008", "1.2.840.10008"),
        ("scheduled_station_aetitle", "MRI Scanner", "MRI Scanner"),
        (RECORD_ID_FIELD, "a\\b", "a\\b"),
    ],
)
def test_a_value_takes_its_dicom_form(field: str, value: object, expected: str | None) -> None:
    assert normalise_value(field, value) == expected


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("scheduled_start_date", "01/02/2026", "date_format"),
        ("scheduled_start_date", "46357", "expected YYYY-MM-DD"),
        ("scheduled_start_date", "2026", "expected YYYY-MM-DD"),
        ("scheduled_start_date", "2026-02-30", "no such day"),
        ("scheduled_start_date", "9999-12-31", "year"),
        ("scheduled_start_date", "\uff12026-12-01", "expected YYYY-MM-DD"),
        ("scheduled_start_time", "24:00", "no such time"),
        ("scheduled_start_time", "9", "expected HH:MM"),
        ("scheduled_start_time", "13:00 PM", "no such time"),
        ("scheduled_start_time", "2026-12-01T25:00", "no such time"),
        ("scheduled_start_time", "93000", "expected HH:MM"),
        ("scheduled_start_time", "2026-12-01", "expected HH:MM"),
        ("scheduled_start_time", "tomorrow", "time_format"),
        ("patient_name", "a=b=c=d", "3 groups"),
        ("patient_name", "a^b^c^d^e^f", "5 components"),
        ("patient_name", "Doe\\Jane", "backslash"),
        ("patient_sex", "1", "expected M, F, O"),
        ("patient_sex", 2, "expected M, F, O"),
        ("modality", "MR\\PT", "letters"),
        ("modality", "M-R", "letters"),
        ("patient_id", True, "bool"),
        ("patient_id", ["a"], "list"),
        ("patient_id", {"a": 1}, "dict"),
        ("patient_id", b"a", "bytes"),
        ("patient_id", 1e300, "exact"),
        ("patient_id", "P\u200b1", "invisible"),
        ("patient_id", "P\ufffd1", "was lost before"),
        ("patient_id", "P\t1", "control"),
        ("patient_id", "1.2E+05", "spreadsheet"),
        ("patient_id", "x" * 65, "longer than 64"),
        ("accession_number", "x" * 17, "longer than 16"),
        ("study_description", "\x1b$B", "control"),
        ("patient_weight_lb", "70 stone", "with a unit"),
        ("patient_weight_lb", "0", "positive"),
        (WEIGHT_KG_FIELD, "1,500", "thousands"),
        ("patient_sex", "H", "M too if it is a woman"),
        (WEIGHT_KG_FIELD, "3.500 g", "thousands"),
        ("patient_weight_lb", "1.050 lb", "thousands"),
        ("patient_id", "#REF!", "spreadsheet's error"),
        ("patient_name", "########", "spreadsheet's error"),
        ("patient_name", "#BEZUG!", "spreadsheet's error"),
        ("patient_id", "Err:502", "spreadsheet's error"),
        ("scheduled_start_date", "#VALUE!", "spreadsheet's error"),
        ("patient_id", "None", "name it in empty_values"),
        ("patient_id", "P\u202e1", "invisible"),
        ("patient_id", "P\u00ad1", "invisible"),
        ("patient_id", "P\U000e0041", "invisible"),
        ("patient_birth_date", "UNK", "unknown or ambiguous"),
        ("patient_birth_date", "2080-01-02", "future"),
        ("patient_birth_date", "2150", "future"),
        ("patient_birth_date", "1980-05-16T22:00:00Z", "time zone"),
        ("patient_birth_date", "1980-05-17 08:30", "time zone"),
        ("scheduled_start", "2026120109", "expected YYYY-MM-DD"),
        ("patient_weight_lb", "-5", "positive"),
        (WEIGHT_KG_FIELD, "5000", "at most"),
        ("pregnancy_status", "5", "1 (no)"),
        ("pregnancy_status", "0", 'map it with "values"'),
        ("performed_procedure_step_status", "lost", "SCHEDULED"),
        ("study_instance_uid", "1." + "2" * 64, "longer than 64"),
        ("scheduled_station_aetitle", "SCÄNNER", "ASCII"),
        ("scheduled_station_aetitle", "A" * 17, "longer than 16"),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused_with_the_reason(field: str, value: object, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalise_value(field, value)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_neither_reason_nor_remark_repeats_the_value() -> None:
    for field in sorted(MAPPING_TARGETS):
        for value in ("Secret\x01Name", "Secret" * 60, "Secretary\x00", "Sec\u200bret" * 30):
            note = Note()
            try:
                normalise_value(field, value, note=note)
            except RecordRejected as error:
                note(str(error))
            assert note.remarks
            assert "Sec" not in " ".join(note.remarks)


@pytest.mark.parametrize(
    ("field", "value", "kept", "remark"),
    [
        ("study_description", "x" * 68, "x" * 64, "longer than 64"),
        ("patient_name", "Doe^" + "J" * 70, "Doe^" + "J" * 60, "longer than 64"),
        ("patient_name", "\u202eDoe\u200b^Jane", "Doe^Jane", "invisible"),
        ("study_description", "Head\ufeff\u00ad MR", "Head MR", "invisible"),
        ("study_instance_uid", "1.2.03", "1.2.03", "begins with 0"),
        ("modality", "1", "1", "no modality that DICOM defines"),
        ("procedure_description", "MRI brain w\\o contrast", "MRI brain w/o contrast", "a backslash"),
        ("allergies", "Penicillin\\Latex", "Penicillin/Latex", "a backslash"),
        ("patient_id", "123.0", "123.0", 'ends in ".0"'),
        ("accession_number", "4711.00", "4711.00", 'ends in ".0"'),
        ("scheduled_start", "2026-12-01T25:00", "20261201", "only the date"),
    ],
)
def test_a_value_that_is_kept_in_another_form_is_told(field: str, value: str, kept: str, remark: str) -> None:
    note = Note()
    assert normalise_value(field, value, note=note) == kept
    assert len(note.remarks) == 1
    assert remark in note.remarks[0]


@pytest.mark.parametrize("day", ["1899-12-30", "18991231", datetime.datetime(1899, 12, 30)])  # noqa: DTZ001
def test_the_day_that_programs_write_for_an_empty_date_is_nobodys_birth_date(day: object) -> None:
    with pytest.raises(RecordRejected, match="for an empty date"):
        normalise_value("patient_birth_date", day)
    assert normalise_value("patient_birth_date", "1900-01-01") == "19000101"


@pytest.mark.parametrize("text", ["?", "-", "***", "?^?", "-^.", "...", "—"])
def test_marks_are_nobodys_name(text: str) -> None:
    with pytest.raises(RecordRejected, match="marks only"):
        normalise_value("patient_name", text)
    assert not clean_check("patient_name")(text)


@pytest.mark.parametrize("name", ["X", "3", "山", "Ng^?", "?^Jane", "O'^-", "E. coli^07"])
def test_a_name_with_a_letter_is_one(name: str) -> None:
    assert normalise_value("patient_name", name) == name


def test_words_for_nothing_are_the_sources_own() -> None:
    rules = ValueRules(empty_values=frozenset({"", "-999", "UNK"}))
    assert normalise_value("patient_id", "-999", rules) is None
    assert normalise_value("patient_id", -999, rules) is None
    assert normalise_value("study_description", "N/A", rules) == "N/A"


@given(field=st.sampled_from(sorted(MAPPING_TARGETS)), value=SCALARS)
def test_any_value_is_refused_or_becomes_legal_and_stays_as_it_is(field: str, value: object) -> None:
    try:
        text = normalise_value(field, value)
    except RecordRejected:
        return
    if text is None:
        return
    if field == START_FIELD:
        assert normalise_value("scheduled_start_date", text[:8]) == text[:8]
        assert not text[8:] or normalise_value("scheduled_start_time", text[8:]) == text[8:]
        return
    if field == "scheduled_start_time" and len(text) > 6:
        assert normalise_value(field, text) == text
        return
    stored_in = "patient_weight_lb" if field == WEIGHT_KG_FIELD else field
    assert normalise_value(stored_in, text) == text
    assert text == text.strip()
    text.encode("utf-8")
    rule = WORKLIST_FIELDS.get(stored_in)
    # Components of a UID may begin with a zero, which DICOM does not allow.
    if rule and rule.vr not in {"US", "UI"}:
        validate_value(rule.vr, text, pydicom_config.RAISE)
        assert rule.vr == "PN" or len(text) <= rule.max_length


@pytest.mark.parametrize("mark", ["\u202e", "\u200b", "\ufeff", "\u00ad", "\U000e0041", "\x9b", "\u3164", "\ufe0f"])
def test_what_nobody_sees_is_removed_from_what_people_read_and_refused_in_identifiers(mark: str) -> None:
    assert normalise_value("patient_name", f"{mark}Doe^{mark}Jane") == "Doe^Jane"
    assert normalise_value("study_description", f"He{mark}ad {mark}") == "Head"
    assert normalise_value("patient_name", mark) is None
    for field in ("patient_id", "accession_number", "study_instance_uid", "scheduled_station_aetitle"):
        with pytest.raises(RecordRejected):
            normalise_value(field, f"1.2{mark}3")


@pytest.mark.parametrize(
    "error",
    [
        "#DIV/0!",
        "#NAME?",
        "#SPILL!",
        "#BUSY!",
        "#ERROR!",
        "#BEZUG!",
        "#NV",
        "#ÜBERLAUF!",
        "#VALEUR!",
        "#NOM?",
        "#¡REF!",
        "#¿NOMBRE?",
        "#N/D",
        "#I/T",
        "#ИМЯ?",
        "#ref!",
        "#n/a",
        "#####",
        "Err:502",
        "Loading...",
        "=B2",
        "=1+1",
        "=(A1)",
        "=$C$3",
        "=Sheet1!B2",
        "=VLOOKUP(A1,B:C,2)",
        "=A1&B2",
    ],
)
def test_a_spreadsheets_error_or_formula_is_no_value(error: str) -> None:
    rules = ValueRules(empty_values=frozenset({""}))
    for field in ("patient_id", "patient_name", "accession_number", "procedure_description"):
        with pytest.raises(RecordRejected, match="spreadsheet"):
            normalise_value(field, error, rules)


@pytest.mark.parametrize("text", ["#12345", "#A12", "=山田^太郎", "E12345", "P#1", "#1/2", "Loading Dock"])
def test_what_only_looks_a_little_like_a_spreadsheets_error_is_kept(text: str) -> None:
    assert normalise_value("patient_name", text) == text


@pytest.mark.parametrize(
    "word",
    [
        "NA",
        "<NA>",
        "NaT",
        "(null)",
        "[null]",
        "nil",
        "n.a.",
        "(blank)",
        "-",
        "--",
        ".",
        "?",
        "???",
        "unknown",
        "UNK",
        "TBD",
        "-999",
        "-9",
        "None",
    ],
)
def test_a_word_for_nothing_is_nobodys_identifier(word: str) -> None:
    for field in ("patient_id", "accession_number", "source_record_id"):
        with pytest.raises(RecordRejected, match="stands for nothing"):
            normalise_value(field, word)


@pytest.mark.parametrize("text", ["NA1", "-12", "A-1", "UNK1", "0", "999", "T.B.D.7"])
def test_an_identifier_may_look_a_little_like_nothing(text: str) -> None:
    assert normalise_value("patient_id", text) == text
