"""What erasing a patient takes from each table, and what it leaves alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text, update
from worklist_store import RULES, Feed, record

from pylantir.errors import CommandRefused
from pylantir.store.change.erasure import Erased, erase_patient
from pylantir.store.schema.tables import (
    access_log,
    audit_log,
    conflicts,
    metadata,
    mpps_instances,
    mpps_requests,
    rejected_entries,
    source_entries,
    source_warnings,
    sync_runs,
    worklist_items,
)

NAME = "Qwertz^Yxcv"


def erase(engine: Engine, patient: str = "QZ-1", *, dry_run: bool = False) -> Erased:
    return erase_patient(engine, patient, "asked for", RULES, by="operator", dry_run=dry_run)


def everything(engine: Engine) -> str:
    with engine.connect() as connection:
        return "\n".join(
            str(tuple(row)) for table in metadata.sorted_tables for row in connection.execute(select(table))
        )  # fmt: skip


def rows(engine: Engine, statement: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement).all())


def step_of(patient: str, number: int | None, name: str = NAME) -> dict[str, Any]:
    attributes = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
        "00100020": {"vr": "LO", "Value": [patient]},
    }
    return {
        "sop_instance_uid": f"1.2.{patient}.{number}", "status": "COMPLETED", "scanner": "MR1", "patient_id": patient,
        "item_ids": json.dumps([number] if number else []), "attributes": json.dumps(attributes), "created_at": "",
        "updated_at": "",
    }  # fmt: skip


@pytest.fixture
def known(store: Engine) -> Engine:
    """QZ-1 is known from two sources, one of them not configured; QZ-2 is a namesake, and QZ-10 begins alike."""
    ris = [record("1", "QZ-1", patient_name=NAME, patient_birth_date="19330517", accession_number="A1")]
    ris += [record("2", "QZ-2", patient_name=NAME), record("3", "QZ-10", patient_name="Other^One")]
    Feed(store, "ris").sync(*ris)
    Feed(store, "old").sync(record("9", "QZ-1", patient_name=NAME, accession_number="A1"))
    lines = [
        {"at": "2026", "actor": "command:set-status", "action": "status", "item_id": 2, "patient_id": "QZ-2",
         "changes": json.dumps({"other_patient": "QZ-1", "note": "QZ-10 is not QZ-1"})},
        {"at": "2026", "actor": "scanner:MR1", "action": "reported", "item_id": None, "patient_id": "QZ-1", "changes": "{}"},
        {"at": "2025", "actor": "command:purge", "action": "purged", "item_id": 77, "patient_id": "QZ-1",
         "changes": json.dumps({"patient_name": [NAME, None]})},
    ]  # fmt: skip
    rejected = {"first_seen_at": "", "last_seen_at": "", "times_seen": 1, "field": "", "data_source": "ris"}
    shown = {"at": "", "last_at": "", "count": 1, "service": "C-FIND", "asked": "", "status": "0000", "matches": 2}
    run = {"started_at": "", "finished_at": "", "fetched": 0, "inserted": 0, "updated": 0, "unchanged": 0,
           "cancelled": 0, "rejected": 0, "complete": 0, "data_source": "ris"}  # fmt: skip
    with store.begin() as connection:
        connection.execute(insert(audit_log), lines)
        connection.execute(insert(mpps_instances), [step_of("QZ-1", 1), step_of("QZ-1", None), step_of("QZ-2", 2)])
        connection.execute(insert(mpps_requests), {"request_id": "r", "answer": json.dumps({"id": "QZ-1"}), "at": ""})
        connection.execute(insert(access_log), [{**shown, "item_ids": "[1, 2]"}, {**shown, "item_ids": "[3]"}])
        connection.execute(insert(sync_runs), {**run, "error": "row of QZ-1 cannot be read"})
        connection.execute(
            insert(source_warnings),
            {"data_source": "ris", "field": "x", "reason": "QZ-1 has none", "count": 1, "last_seen_at": ""},
        )
        connection.execute(
            insert(rejected_entries),
            [
                {**rejected, "record_key": "step:QZ-1|20300101", "reason": "x", "patient_id": "QZ-1"},
                {**rejected, "record_key": "k2", "reason": "its number is QZ-1's", "patient_id": "QZ-2"},
                {**rejected, "record_key": "k3", "reason": "x", "patient_id": "QZ-10"},
            ],
        )
    return store


def test_every_table_forgets_the_patient_and_no_other(known: Engine) -> None:
    erased = erase(known)
    left = everything(known)
    assert "'QZ-1'" not in left
    assert '"QZ-1"' not in left
    assert "19330517" not in left
    assert "QZ-1 " not in left
    assert erased.still_given == {"ris": 1}
    assert "QZ-1" not in erased.describe(dry_run=False)
    # A namesake and a longer ID are other patients.
    assert rows(known, select(worklist_items.c.patient_id).order_by(worklist_items.c.id)) == [("QZ-2",), ("QZ-10",)]
    assert rows(known, select(mpps_instances.c.patient_id)) == [("QZ-2",)]
    assert rows(known, select(rejected_entries.c.record_key)) == [("k3",)]
    assert rows(known, select(access_log.c.item_ids).order_by(access_log.c.id)) == [("[2]",), ("[3]",)]
    assert rows(known, select(sync_runs.c.error).where(sync_runs.c.error.is_not(None))) == [
        ("row of [erased] cannot be read",)
    ]
    (note,) = rows(known, select(audit_log.c.changes).where(audit_log.c.action == "status"))
    assert json.loads(note.changes) == {"other_patient": "[erased]", "note": "QZ-10 is not [erased]"}


def test_what_remains_of_each_item_is_a_line_without_the_patient(known: Engine) -> None:
    erase(known)
    stones = rows(known, select(audit_log).where(audit_log.c.action == "purged").order_by(audit_log.c.item_id))
    assert [(stone.item_id, stone.patient_id, stone.actor) for stone in stones] == [
        (1, None, "command:purge"), (77, None, "command:purge")
    ]  # fmt: skip
    first, second = (json.loads(stone.changes) for stone in stones)
    assert first == second
    assert (first["reason"], first["by"], len(first["patient_hash"])) == ("asked for", "operator", 64)
    erase(known, "QZ-2")
    (other,) = rows(known, select(audit_log.c.changes).where(audit_log.c.action == "purged", audit_log.c.item_id == 2))
    assert json.loads(other.changes)["patient_hash"] != first["patient_hash"]


def test_a_dry_run_counts_and_changes_nothing(known: Engine) -> None:
    before = everything(known)
    said = erase(known, dry_run=True).describe(dry_run=True)
    assert said.startswith("would be erased: 1 items, 2 records, 2 reports, 2 refused records, 1 warnings,")
    assert everything(known) == before
    assert erase(known, "NOBODY").describe(dry_run=False) == "erased: nothing is known of this patient"


def test_whoever_waited_for_a_number_of_the_patient_is_admitted(store: Engine) -> None:
    Feed(store, "ris").sync(
        record("1", "QZ-1", patient_name="Own^Er", patient_birth_date="19500101", accession_number="A1")
    )
    Feed(store, "csv").sync(
        record("7", "QZ-2", patient_name="Wait^Er", patient_birth_date="19600101", accession_number="A1")
    )
    assert rows(store, select(worklist_items.c.patient_id)) == [("QZ-1",)]
    erase(store)
    assert rows(store, select(worklist_items.c.patient_id, worklist_items.c.accession_number)) == [("QZ-2", "A1")]
    assert "QZ-1" not in everything(store)
    assert rows(store, select(conflicts)) == []


def test_who_is_booked_again_is_a_new_item(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1", "QZ-1", patient_name=NAME))
    erase(store)
    Feed(store, "ris").sync(record("1", "QZ-1", patient_name=NAME))
    assert rows(store, select(worklist_items.c.id, worklist_items.c.patient_id)) == [(2, "QZ-1")]
    assert rows(store, select(source_entries.c.state)) == [("live",)]


def test_a_short_id_is_struck_out_where_it_is_a_whole_value_only(store: Engine) -> None:
    Feed(store, "ris").sync(record("1", "7", patient_name="Short^Id"), record("2", "QZ-2"))
    note = {"at": "", "actor": "x", "action": "y", "item_id": 2, "patient_id": "QZ-2"}
    with store.begin() as connection:
        connection.execute(insert(audit_log), {**note, "changes": json.dumps({"was": "7", "text": "row 7 of 17"})})
    erase(store, "7")
    (line,) = rows(store, select(audit_log.c.changes).where(audit_log.c.action == "y"))
    assert json.loads(line.changes) == {"was": "[erased]", "text": "row 7 of 17"}


@pytest.mark.parametrize(
    ("patient", "reason"), [("", "why"), (" ", "why"), ("QZ-1", " "), ("PP-12", "PP-12 has asked")]
)
def test_without_a_patient_or_a_reason_or_with_the_patient_in_it_nothing_is_done(
    store: Engine, patient: str, reason: str
) -> None:
    with pytest.raises(CommandRefused):
        erase_patient(store, patient, reason, RULES)


def test_the_audit_log_stays_append_only(known: Engine) -> None:
    erase(known)
    for statement in (update(audit_log).values(actor="x"), text("DELETE FROM audit_log")):
        with pytest.raises(Exception, match="append-only"), known.begin() as connection:
            connection.execute(statement)  # type: ignore[call-overload]
