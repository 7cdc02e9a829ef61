"""New items and their records are planned column by column, before any statement is made."""

from __future__ import annotations

from worklist_store import in_columns, record

from pylantir.ipc.records import RecordColumns
from pylantir.store.decide.claims import STATUS, make_study_uid
from pylantir.store.intake.newcomers import NewRows, find_described_otherwise, plan_rows


def plan(*records: tuple[str, dict[str, str]]) -> tuple[NewRows, RecordColumns]:
    columns = in_columns(records)
    return plan_rows("ris", columns, range(7, 7 + len(records))), columns


def test_what_every_record_says_is_copied_from_the_item() -> None:
    rows, columns = plan(record("a", protocol_name="HEAD"), record("b", patient="P2", protocol_name="KNEE"))
    assert rows.columns["protocol_name"] == ["HEAD", "KNEE"]
    assert rows.copied["protocol_name"] == "o.protocol_name"
    assert rows.copied["record_key"] == "'id:' || o.source_record_id"
    assert rows.own == {}
    assert rows.columns["generated_study_uid"] == [
        make_study_uid("ris", key, patient) for key, patient in zip(columns.keys, columns.patients, strict=True)
    ]


def test_what_no_record_says_is_another_column_or_a_constant() -> None:
    rows, _ = plan(record("a"))
    assert rows.repeated["patient_name"] == "patient_id"
    assert rows.repeated["study_instance_uid"] == "generated_study_uid"
    assert rows.repeated["requested_procedure_id"] == "id"
    assert rows.constants[STATUS] == "SCHEDULED"
    assert "patient_name" not in rows.copied


def test_what_some_records_say_is_filled_in_the_item_and_left_open_in_the_record() -> None:
    rows, _ = plan(
        record("a", patient_name="Doe^J", requested_procedure_id="R1", modality="CT"), record("b", patient="P2")
    )
    assert rows.columns["patient_name"] == ["Doe^J", "P2"]
    assert rows.columns["requested_procedure_id"] == ["R1", "8"]
    assert rows.own["patient_name"] == ["Doe^J", None]
    assert rows.own["requested_procedure_id"] == ["R1", None]
    assert "patient_name" not in rows.copied


def test_what_has_no_substitute_stays_open_where_it_is_not_said() -> None:
    rows, _ = plan(record("a", accession_number="A1"), record("b", patient="P2"))
    assert rows.columns["accession_number"] == ["A1", None]
    assert rows.copied["accession_number"] == "o.accession_number"


def test_a_key_that_is_no_record_id_is_stored_by_itself() -> None:
    rows, columns = plan(record("a"), record(None, patient="P2"))
    assert rows.own["record_key"] == columns.keys
    assert "record_key" not in rows.copied


def test_patients_whom_two_records_describe_otherwise_need_a_decision() -> None:
    john, mary = ("Smith^John", None, "M"), ("Jones^Mary", None, "F")
    said = [("1", john), ("1", ("Smith^John", "19800517", None)), ("2", john), ("2", mary), ("3", mary), ("1", john)]
    assert find_described_otherwise(said) == {"2"}
    assert find_described_otherwise([*said, ("1", (None, "19800518", None))]) == {"1", "2"}
