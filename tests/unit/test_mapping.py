"""Records become entries: defaults, keys, what is missing, what is ignored."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.entry import MAPPING_TARGETS, RECORD_ID_FIELD, clean_check, normalise_value
from pylantir.errors import RecordRejected
from pylantir.mapping import EntryMapper, record_key

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
            mapper.to_entry({**MINIMAL, "patient_sex": "7"})


def test_unknown_names_are_ignored_with_one_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    mapper = EntryMapper()
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            entry = mapper.to_entry({**MINIMAL, "shoe_size": number, "_record": f"row {number}"})
            assert set(entry.fields) == set(MINIMAL)
    assert [record.getMessage().count("shoe_size") for record in caplog.records] == [1]


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
