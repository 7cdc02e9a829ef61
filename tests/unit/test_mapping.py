"""Records become entries: defaults, keys, what is missing, what is ignored."""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.columns import RecordMapping
from pylantir.entry import MAPPING_TARGETS, RECORD_ID_FIELD, record_key
from pylantir.errors import RecordRejected
from pylantir.mapping import EntryMapper
from pylantir.settings import PluginType, SourceSettings
from pylantir.values.known import Warned
from pylantir.values.normalise import ValueRules, clean_check, normalise_value
from pylantir.values.readings import MomentRules

MINIMAL = {"patient_id": "P1", "scheduled_start_date": "2026-12-01"}


def test_a_record_becomes_an_entry_in_dicom_form() -> None:
    fields = {**MINIMAL, "patient_name": "Doe, Jane", "patient_sex": "female", "scheduled_start_time": "8:30"}
    entry = EntryMapper().to_entry(fields)
    assert entry.fields == {
        "patient_id": "P1",
        "scheduled_start_date": "20261201",
        "patient_name": "Doe^Jane",
        "patient_sex": "F",
        "scheduled_start_time": "083000",
    }
    assert entry.record_key == "step:P1|20261201|083000|MR|"


def test_what_nobody_knows_is_left_out() -> None:
    fields = {**MINIMAL, "patient_sex": "unknown", "patient_weight_lb": None, "patient_birth_date": "  "}
    assert set(EntryMapper().to_entry(fields).fields) == set(MINIMAL)


def test_a_default_counts_only_where_the_record_is_silent() -> None:
    mapper = EntryMapper({"modality": "ct", "scheduled_station_aetitle": "CT1"})
    fields = mapper.to_entry({**MINIMAL, "modality": "", "scheduled_station_aetitle": "CT2"}).fields
    assert (fields["modality"], fields["scheduled_station_aetitle"]) == ("CT", "CT2")


def test_a_bad_default_is_refused_at_once() -> None:
    with pytest.raises(RecordRejected, match="modality"):
        EntryMapper({"modality": "M-R"})


@pytest.mark.parametrize("missing", ["patient_id", "scheduled_start_date"])
def test_patient_id_and_start_date_are_required(missing: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        EntryMapper().to_entry({**MINIMAL, missing: " "})
    assert caught.value.field == missing


def test_kilograms_are_stored_as_pounds_unless_pounds_are_given() -> None:
    mapper = EntryMapper({"patient_weight_lb": "99"})
    assert mapper.to_entry({**MINIMAL, "patient_weight_kg": "70"}).fields["patient_weight_lb"] == "154.3236"
    both = {**MINIMAL, "patient_weight_kg": "70", "patient_weight_lb": "150"}
    fields = mapper.to_entry(both).fields
    assert fields["patient_weight_lb"] == "150"
    assert "patient_weight_kg" not in fields


def test_date_and_time_in_one_field_are_told_apart() -> None:
    fields = EntryMapper().to_entry({"patient_id": "P1", "scheduled_start": "2026-12-01T08:30"}).fields
    assert fields == {"patient_id": "P1", "scheduled_start_date": "20261201", "scheduled_start_time": "083000"}


def test_equal_values_of_other_types_are_not_confused() -> None:
    mapper = EntryMapper()
    assert mapper.to_entry({**MINIMAL, "patient_id": "1"}).fields["patient_id"] == "1"
    assert mapper.to_entry({**MINIMAL, "patient_id": 1}).fields["patient_id"] == "1"
    with pytest.raises(RecordRejected):
        mapper.to_entry({**MINIMAL, "patient_id": True})


def test_a_refused_value_is_refused_every_time() -> None:
    mapper = EntryMapper()
    for _ in range(2):
        with pytest.raises(RecordRejected):
            mapper.to_entry({**MINIMAL, "accession_number": "x" * 17})


def test_unknown_names_are_ignored_with_one_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    mapper = EntryMapper()
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            entry = mapper.to_entry({**MINIMAL, "shoe_size": number, "_record": f"row {number}"})
            assert set(entry.fields) == set(MINIMAL)
    assert [record.getMessage().count("shoe_size") for record in caplog.records] == [1]


def test_an_unknown_name_that_may_be_a_patients_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    mapper = EntryMapper()
    for name in ("Doe^Jane", "1980-05-17", "M\xfcller", "P 17", "DOE"):
        mapper.to_entry({**MINIMAL, name: "x"})
        assert name not in caplog.text
    assert len(caplog.records) == 1


def test_other_names_in_each_record_fill_neither_the_memory_nor_the_log(caplog: pytest.LogCaptureFixture) -> None:
    mapper = EntryMapper()
    for number in range(500):
        mapper.to_entry({**MINIMAL, f"field_{number}": "x"})
    sizes = [len(held) for held in vars(mapper).values() if isinstance(held, dict | set)]
    assert max(sizes) < 100
    assert len(caplog.records) == 20


class _Unreadable:
    """What pandas has for a missing value behaves like this, and a plugin's own classes may."""

    def __ne__(self, other: object) -> bool:
        raise TypeError("Doe^Jane")

    def __int__(self) -> int:
        raise ValueError("Doe^Jane")

    def as_integer_ratio(self) -> tuple[int, int]:
        raise NotImplementedError


class _Zone(datetime.tzinfo):
    def utcoffset(self, _moment: datetime.datetime | None) -> datetime.timedelta:
        raise RuntimeError("Doe^Jane")


@pytest.mark.parametrize(
    "value",
    [
        _Unreadable(),
        Decimal("sNaN"),
        Decimal("1E+9999"),
        datetime.datetime(2030, 1, 1, tzinfo=_Zone()),
        datetime.time(8, tzinfo=_Zone()),
    ],
)
def test_an_object_that_raises_costs_its_own_value_or_record(value: object) -> None:
    mapper, warned = EntryMapper(), Counter[tuple[str, str]]()
    other = "scheduled_start_time" if hasattr(value, "isoformat") else "study_description"
    assert other not in mapper.to_entry({**MINIMAL, other: value}, warned).fields
    assert "Doe" not in str(warned)
    assert list(warned) != []
    for field in ("patient_id", "scheduled_start", "accession_number"):
        with pytest.raises(RecordRejected) as refused:
            mapper.to_entry({**MINIMAL, field: value})
        assert "Doe" not in refused.value.reason


def test_attributes_bear_an_object_that_raises() -> None:
    warned = Counter[tuple[str, str]]()
    entry = EntryMapper().to_entry({**MINIMAL, "dicom:PatientComments": _Unreadable()}, warned)
    assert set(entry.fields) == set(MINIMAL)
    assert [field for field, _ in warned] == ["dicom:PatientComments"]


@pytest.mark.parametrize("name", ["NAType", "NaTType"])
def test_what_pandas_has_for_a_missing_value_is_nothing(name: str) -> None:
    nothing = type(name, (_Unreadable,), {})()
    fields = {**MINIMAL, "accession_number": nothing, "patient_birth_date": nothing, "dicom:PatientSize": nothing}
    warned = Counter[tuple[str, str]]()
    assert set(EntryMapper().to_entry(fields, warned).fields) == set(MINIMAL)
    assert not warned
    mapping = {"patient_name": {"from": ["last", "first"]}}
    assert RecordMapping(mapping).apply({"last": "Doe", "first": nothing}) == {"patient_name": "Doe"}


def test_a_whole_number_of_any_kind_is_an_identifier() -> None:
    class Int64:  # as numpy's, which has no method as_integer_ratio
        def __index__(self) -> int:
            return 2**62

    assert EntryMapper().to_entry({**MINIMAL, "patient_id": Int64()}).fields["patient_id"] == str(2**62)


def test_long_texts_do_not_fill_the_cache() -> None:
    mapper = EntryMapper()
    for number in range(200):
        mapper.to_entry({**MINIMAL, "study_description": f"{number} " + "x" * 100_000})
    known = mapper._values["study_description"]
    assert sum(map(len, known)) < 2_000_000
    assert sum(map(len, known.remarks)) < 2_000_000


def test_huge_names_are_not_kept() -> None:
    mapper = EntryMapper()
    for number in range(10):
        entry = mapper.to_entry({**MINIMAL, f"{number}" + "x" * 100_000: "y"})
        assert set(entry.fields) == set(MINIMAL)
    assert mapper._layouts == {}


def test_a_name_may_be_anything() -> None:
    strange: dict[object, object] = {3: "x", None: "y", ("a",): "z"}
    assert EntryMapper().to_entry({**strange, **MINIMAL}) == EntryMapper().to_entry(MINIMAL)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({RECORD_ID_FIELD: "a/b|c", "accession_number": "A1"}, "id:a/b|c"),
        ({"accession_number": "A1", "study_instance_uid": "1.2"}, "acc:A1"),
        ({"accession_number": "A/1", "scheduled_procedure_step_id": "S|1"}, "acc:A%2F1/S%7C1"),
        ({"study_instance_uid": "1.2.3", "scheduled_procedure_step_id": "S1"}, "uid:1.2.3/S1"),
        ({"patient_id": "P|1", "modality": "CT"}, "step:P%7C1|20261201|000000|CT|"),
        ({"scheduled_procedure_step_id": "S1"}, "step:P1|20261201|000000|MR|"),
    ],
)
def test_the_strongest_identifier_names_the_record(fields: dict[str, str], key: str) -> None:
    assert EntryMapper().to_entry({**MINIMAL, **fields}).record_key == key


PARTS = st.text(alphabet="a|/%7C2F5", min_size=1, max_size=6)


@given(first=st.tuples(PARTS, PARTS), second=st.tuples(PARTS, PARTS))
def test_different_records_never_share_a_key(first: tuple[str, str], second: tuple[str, str]) -> None:
    def keys(patient: str, station: str) -> tuple[str, str]:
        step = {"patient_id": patient, "scheduled_start_date": "20261201", "scheduled_station_aetitle": station}
        accession = {**step, "accession_number": patient, "scheduled_procedure_step_id": station}
        return record_key(step), record_key(accession)

    assert (keys(*first) == keys(*second)) == (first == second)
    assert first == second or not set(keys(*first)) & set(keys(*second))


FIELD_VALUES = st.dictionaries(
    st.sampled_from(sorted(MAPPING_TARGETS)),
    st.one_of(st.none(), st.sampled_from(["", "1", "M", "20261201", "1.2.3", "12", "A^B"]), st.integers(1, 4)),
)


@given(fields=FIELD_VALUES)
def test_mapping_an_entry_again_changes_nothing(fields: dict[str, object]) -> None:
    mapper = EntryMapper()
    try:
        entry = mapper.to_entry({**fields, **MINIMAL})
    except RecordRejected:
        return
    assert mapper.to_entry(entry.fields) == entry
    assert EntryMapper().to_entry({**fields, **MINIMAL}) == entry


@given(field=st.sampled_from(sorted(MAPPING_TARGETS)), value=st.text(alphabet="aZ9^.-_' NE+", max_size=70))
def test_the_short_cut_agrees_with_the_rules(field: str, value: str) -> None:
    if clean_check(field)(value):
        assert normalise_value(field, value) == value


def test_many_different_values_do_not_pile_up() -> None:
    mapper = EntryMapper()
    for number in range(10_000):
        mapper.to_entry({**MINIMAL, "study_description": f"Brain no {number}"})
    assert len(mapper._values["study_description"]) <= 2048


LENIENT = [
    ("patient_sex", "?", "expected M, F, O"),
    ("patient_weight_kg", "0", "positive weight"),
    ("pregnancy_status", "perhaps", "expected 1 (no)"),
    ("performed_procedure_step_status", "lost", "expected one of"),
    ("patient_birth_date", "UNK", "unknown or ambiguous date"),
    ("scheduled_start_time", "tomorrow", "unknown time"),
    ("scheduled_station_aetitle", "A" * 17, "longer than 16"),
    ("admission_id", "A\u200b1", "invisible"),
    ("referring_physician_name", "a\\b", "backslash"),
    ("study_description", ["a"], "list"),
    ("dicom:PatientSize", "175", "in metres"),
]


@pytest.mark.parametrize(("field", "value", "reason"), LENIENT)
def test_what_is_unusable_and_optional_costs_nobody_a_place(field: str, value: object, reason: str) -> None:
    warned: Warned = Counter()
    entry = EntryMapper().to_entry({**MINIMAL, field: value}, warned)
    assert set(entry.fields) == set(MINIMAL)
    ((told_field, told),) = warned
    assert told_field == field
    assert reason in told


@pytest.mark.parametrize(("field", "value", "reason"), LENIENT)
def test_unusable_values_are_refused_where_the_source_says_so(field: str, value: object, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        EntryMapper(reject_unusable=True).to_entry({**MINIMAL, field: value})
    assert reason in caught.value.reason


def test_a_text_that_is_too_long_is_refused_only_where_the_source_says_so() -> None:
    fields = {**MINIMAL, "study_description": "x" * 68}
    assert EntryMapper().to_entry(fields).fields["study_description"] == "x" * 64
    with pytest.raises(RecordRejected, match="longer than 64"):
        EntryMapper(reject_unusable=True).to_entry(fields)
    odd_uid = {**MINIMAL, "study_instance_uid": "1.2.03"}
    assert EntryMapper(reject_unusable=True).to_entry(odd_uid).fields["study_instance_uid"] == "1.2.03"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patient_id", "P\u200b1"),
        ("patient_id", "#REF!"),
        ("issuer_of_patient_id", "x" * 65),
        (RECORD_ID_FIELD, "a\x00b"),
        ("accession_number", "x" * 17),
        ("accession_number", "########"),
        ("study_instance_uid", "1.2.a"),
        ("scheduled_start_date", "01/02/2026"),
        ("scheduled_start", "01/02/2026 08:00"),
        ("patient_name", "#NAME?"),
    ],
)
def test_what_a_wrong_patient_or_day_depends_on_is_strict(field: str, value: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        EntryMapper().to_entry({**MINIMAL, field: value})
    assert caught.value.field == field


def test_warnings_are_counted_alike_one_by_one_and_together() -> None:
    rows = [
        ("P1", "2026-12-01", "?"),
        ("P2", "2026-12-01", "?"),
        ("P3", "2026-12-01", "F"),
        ("P4", "20261201", "x" * 9),
    ]
    names = ("patient_id", "scheduled_start_date", "patient_sex")
    together: Warned = Counter()
    columns = EntryMapper().to_columns(names, rows, together)
    one_by_one: Warned = Counter()
    mapper = EntryMapper()
    entries = [mapper.to_entry(dict(zip(names, row, strict=True)), one_by_one) for row in rows]
    assert columns is not None
    assert columns.fields() == {entry.record_key: dict(entry.fields) for entry in entries}
    assert together == one_by_one
    assert sum(together.values()) == 3


def test_a_time_with_an_offset_is_converted_with_its_date() -> None:
    source = a_source(timezone="America/Edmonton")
    fields = {"patient_id": "P1", "scheduled_start_date": "2026-12-02", "scheduled_start_time": "06:30Z"}
    mapper = EntryMapper.of_source(source)
    for _ in range(2):
        assert mapper.to_columns(tuple(fields), [tuple(fields.values())]) is None
        entry = mapper.to_entry(fields).fields
        assert (entry["scheduled_start_date"], entry["scheduled_start_time"]) == ("20261201", "233000")


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("2026-12-01T00:00:00Z", "09:30", "20261201093000"),
        ("2026-12-01T00:00:00.000Z", "06:30Z", "20261130233000"),
        ("2026-12-01T07:00:00Z", "09:30", "20261201093000"),
        ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z", "20261130170000"),
        ("2026-12-01T03:00:00Z", "2026-12-01T03:00:00Z", "20261130200000"),
        ("2026-12-01T00:00:00Z", None, "20261130"),
    ],
)
def test_midnight_with_an_offset_beside_a_time_is_the_day_as_written(
    date: str, time: str | None, expected: str
) -> None:
    mapper = EntryMapper.of_source(a_source(timezone="America/Edmonton"))
    fields = {"patient_id": "P1", "scheduled_start_date": date, "scheduled_start_time": time}
    warned: Warned = Counter()
    for _ in range(2):
        if date[10:].startswith("T00"):
            assert mapper.to_columns(tuple(fields), [tuple(fields.values())]) is None
        entry = mapper.to_entry(fields, warned).fields
        assert entry["scheduled_start_date"] + entry.get("scheduled_start_time", "") == expected
    assert sum(warned.values()) == (0 if time else 2)


def test_a_default_day_has_no_offset() -> None:
    mapper = EntryMapper({"scheduled_start_date": "2026-12-01T00:00:00-12:00", "modality": "MR"})
    assert len(mapper.to_entry({"patient_id": "P1"}).fields["scheduled_start_date"]) == 8


def a_source(**keys: Any) -> SourceSettings:
    return SourceSettings(name="a", plugin=PluginType(type_name="csv"), **keys)


def test_a_source_says_how_it_writes_its_values() -> None:
    source = a_source(
        date_formats=("%d.%m.%Y",),
        empty_values=("-999",),
        patient_id_prefix="A-",
        issuer_of_patient_id="Site A",
        field_mapping={"patient_birth_date": {"from": "born", "format": "%m/%d/%Y"}},
    )
    given = {"patient_id": "7", "scheduled_start_date": "1.12.2026", "patient_birth_date": "5/17/1980"}
    given |= {"accession_number": "-999"}
    mapper = EntryMapper.of_source(source)
    expected = {
        "patient_id": "A-7", "scheduled_start_date": "20261201", "patient_birth_date": "19800517",
        "issuer_of_patient_id": "Site A",
    }  # fmt: skip
    assert mapper.to_entry(given).fields == expected
    columns = mapper.to_columns(tuple(given), [tuple(given.values())])
    assert columns is not None
    assert columns.fields() == {mapper.to_entry(given).record_key: expected}
    assert mapper.patient_of({"patient_id": " 7 "}) == "A-7"
    assert mapper.patient_of({"patient_id": "#REF!"}) is None


def test_an_issuer_that_the_record_gives_counts_more() -> None:
    mapper = EntryMapper.of_source(a_source(issuer_of_patient_id="Site A"))
    assert mapper.to_entry({**MINIMAL, "issuer_of_patient_id": "B"}).fields["issuer_of_patient_id"] == "B"


def test_a_patient_id_that_its_prefix_makes_too_long_is_refused() -> None:
    with pytest.raises(RecordRejected, match="with its prefix"):
        EntryMapper(patient_id_prefix="A-").to_entry({**MINIMAL, "patient_id": "x" * 63})


def test_dicom_targets_become_one_field_of_canonical_json() -> None:
    defaults = {"dicom:RequestedProcedureCodeSequence.CodingSchemeDesignator": "99LOCAL", "dicom:Occupation": "cook"}
    mapper = EntryMapper(defaults)
    given = {
        "dicom:PatientWeight": "72,5 kg",
        "dicom:PatientSize": "1.75",
        "dicom:RequestedProcedureCodeSequence.CodeMeaning": "Head",
        "dicom:RequestedProcedureCodeSequence.CodeValue": "H1",
        "dicom:Occupation": "",
    }
    entry = mapper.to_entry({**MINIMAL, **given}).fields
    assert entry["patient_weight_lb"] == "159.8351"
    code = '[{"CodeMeaning":"Head","CodeValue":"H1","CodingSchemeDesignator":"99LOCAL"}]'
    assert entry["dicom_attributes"] == (
        f'{{"Occupation":["cook"],"PatientSize":["1.75"],"RequestedProcedureCodeSequence":{code}}}'
    )
    assert mapper.to_entry({**MINIMAL, **dict(reversed(given.items()))}).fields == entry


def test_a_default_of_a_dicom_target_has_to_be_right() -> None:
    with pytest.raises(RecordRejected, match="in metres"):
        EntryMapper({"dicom:PatientSize": "175"})


def test_no_warning_is_lost_where_there_are_very_many_different_values() -> None:
    rows = [(f"P{n}", "2026-12-01", f"sex {n}") for n in range(5000)]
    warned: Warned = Counter()
    EntryMapper().to_columns(("patient_id", "scheduled_start_date", "patient_sex"), rows, warned)
    assert sum(warned.values()) == 5000


def test_after_a_wrong_clock_is_set_every_birth_date_is_read_anew() -> None:
    clock = [datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)]
    moments = MomentRules(date_formats=("%d/%m/%y",), now=lambda _zone: clock[0])
    mapper = EntryMapper(rules=ValueRules(moments=moments))
    names = ("patient_id", "scheduled_start_date", "patient_birth_date")
    records = [("P1", "2026-11-27", "02/01/10"), ("P2", "2026-11-27", "2010-01-02")]

    def birth_dates() -> Any:
        columns = mapper.to_columns(names, records)
        assert columns is not None
        return list(columns.values["patient_birth_date"])

    assert not mapper.notice_new_day()
    assert birth_dates() == ["19100102", None]
    clock[0] = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
    assert mapper.notice_new_day()
    assert birth_dates() == ["20100102", "20100102"]
    assert not mapper.notice_new_day()
